# shellcheck shell=bash
# shellcheck disable=SC2154 # The script that sources this sets them, as said below.
# Looks at the packages of the server as whoever installs them does. Sourced by scripts/release beside
# scripts/release-check.sh, which says what is to be set. What they do on a host, tests/lab/ looks at.
#
#   check_server_release PAGES TARGET...    fails at the first thing that is not as it should be

# How open the service may be to what it could do to its host, in tenths, as systemd-analyze counts.
most_exposed=15

check_server_release() {
    local pages=$1 target
    shift
    check_service
    for target; do
        check_glibc "$dist/$target/holistics-tunnel-server"
        check_server_deb "$target"
        check_server_rpm "$target"
        check_server_reproduction "$target" "$pages"
    done
}

# The unit means what it says to systemd, and shuts the server off.
check_service() {
    local folder=$work/unit unit=holistics-tunnel-server.service said
    install -d "$folder"
    # The program is not installed here, so another one stands for it.
    sed 's|^ExecStart=/usr/bin/holistics-tunnel-server|ExecStart=/bin/true|' "packaging/server/$unit" >"$folder/$unit"
    said=$(systemd-analyze verify --man=no "$folder/$unit" 2>&1)
    [[ -z $said ]] || wrong "systemd-analyze says of the service: $said"
    said=$(systemd-analyze security --offline=yes --no-pager --threshold="$most_exposed" "$folder/$unit" | tail -n 1) ||
        wrong "the service is too open: $said"
    echo "$unit:$(sed -E 's/.*exposure level for [^:]*:/ exposure/' <<<"$said") of at most $most_exposed tenths"
}

check_server_deb() {
    local name listing=$work/server-deb.list
    name=holistics-tunnel-server_$(package_version)_$(deb_architecture "$1").deb
    dpkg-deb --fsys-tarfile "$dist/$name" | tar --list | sed 's/^\.//' >"$listing"
    check_server_listing "$name" "$listing" /usr/share/zsh/vendor-completions/_holistics-tunnel-server \
        /usr/share/doc/holistics-tunnel-server/copyright /usr/share/doc/holistics-tunnel-server/THIRD-PARTY-LICENSES.gz
    [[ $(dpkg-deb --ctrl-tarfile "$dist/$name" | tar --list | sort | tr '\n' ' ') == \
        "./ ./conffiles ./control ./postinst ./postrm ./prerm " ]] || wrong "$name has other scripts than it should"
    [[ $(dpkg-deb --info "$dist/$name" conffiles) == /etc/default/holistics-tunnel-server ]] ||
        wrong "$name would overwrite its settings"
    dpkg-deb --fsys-tarfile "$dist/$name" | tar --extract --to-stdout ./usr/bin/holistics-tunnel-server |
        cmp - "$dist/$1/holistics-tunnel-server" || wrong "$name holds another program"
    echo "$name: installs $(grep -vc '/$' "$listing") files"
}

check_server_rpm() {
    local name listing=$work/server-rpm.list sum
    name=holistics-tunnel-server-$(package_version)-1.${1%%-*}.rpm
    rpm --query --package --list "$dist/$name" >"$listing"
    check_server_listing "$name" "$listing" /usr/share/zsh/site-functions/_holistics-tunnel-server \
        /usr/share/licenses/holistics-tunnel-server/LICENSE \
        /usr/share/licenses/holistics-tunnel-server/THIRD-PARTY-LICENSES
    [[ $(rpm --query --package --configfiles "$dist/$name") == /etc/default/holistics-tunnel-server ]] ||
        wrong "$name would overwrite its settings"
    [[ $(rpm --query --package --queryformat '[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]' "$dist/$name" | sort -u) == root:root ]] ||
        wrong "$name installs files that are not root's"
    sum=$(sha256 "$dist/$1/holistics-tunnel-server")
    rpm --query --package --queryformat '[%{FILEDIGESTS} %{FILENAMES}\n]' "$dist/$name" |
        grep -qxF "${sum%% *} /usr/bin/holistics-tunnel-server" || wrong "$name holds another program"
    echo "$name: installs $(grep -c . "$listing") paths"
}

# check_server_listing PACKAGE LISTING PATH...: these and what both packages install are there, and nothing else.
check_server_listing() {
    local name=$1 listing=$2 path target allowed
    shift 2
    set -- "$@" /usr/bin/holistics-tunnel-server /etc/default/holistics-tunnel-server \
        /usr/lib/systemd/system/holistics-tunnel-server.service /usr/lib/sysusers.d/holistics-tunnel-server.conf \
        /usr/share/bash-completion/completions/holistics-tunnel-server \
        /usr/share/fish/vendor_completions.d/holistics-tunnel-server.fish \
        /usr/share/doc/holistics-tunnel-server/low-ports.conf
    for target in $(handed_out_targets); do
        set -- "$@" "/usr/lib/holistics-tunnel-server/$target/holistics-tunnel"
    done
    for path in "$@" /usr/share/man/man1/holistics-tunnel-server{,-serve,-login-link}.1.gz; do
        grep -qxF "$path" "$listing" || wrong "$name does not install $path"
    done
    # A folder that a package lists is no file of its own.
    allowed='^/usr/share/man/man1/holistics-tunnel-server[a-z-]*\.1\.gz$|/$'
    allowed+='|^/usr/share/(licenses|doc)/holistics-tunnel-server$|^/usr/lib/holistics-tunnel-server(/[a-z0-9_-]+)?$'
    if printf '%s\n' "$@" | grep -vxFf - "$listing" | grep -vE "$allowed"; then
        wrong "$name installs what is listed above"
    fi
}

check_server_reproduction() {
    local again=$work/server-again file
    mkdir -p "$again"
    pack_server "$1" "$2" "$again"
    for file in "$again"/*; do
        cmp "$file" "$dist/${file##*/}" || wrong "${file##*/} is another file when it is packed again"
    done
    echo "$1: the server packed again, the same files"
}
