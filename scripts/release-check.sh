# shellcheck shell=bash
# shellcheck disable=SC2154 # The script that sources this sets them, as said below.
# Looks at a release as whoever installs it does. Sourced by scripts/release, which sets `version`,
# `glibc`, `dist` and `work`.
#
#   check_release PAGES TARGET...    fails at the first thing that is not as it should be

most_bytes=8000000
most_milliseconds=10
# An odd number: the one in the middle counts, so that others at work on this machine do not.
starts=61

check_release() {
    local pages=$1 target
    shift
    check_sums
    for target; do
        check_size "$dist/$target/holistics-tunnel"
        [[ $target != *-linux-* ]] || check_glibc "$dist/$target/holistics-tunnel"
        check_start "$dist/$target/holistics-tunnel"
        check_licenses "$target"
        check_archive "$target"
        if [[ $target == *-linux-* ]]; then
            check_deb "$target"
            check_rpm "$target"
        fi
        check_reproduction "$target" "$pages"
    done
}

wrong() {
    echo "Not as it should be: $*" >&2
    return 1
}

check_sums() {
    local listed found
    (cd "$dist" && sha256 --check SHA256SUMS >/dev/null)
    listed=$(wc -l <"$dist/SHA256SUMS")
    found=$(find "$dist" -type f ! -name SHA256SUMS | wc -l)
    ((listed == found)) || wrong "SHA256SUMS lists $listed of $found files"
    echo "SHA256SUMS: $((listed)) files, all as listed"
}

check_size() {
    local bytes
    bytes=$(wc -c <"$1")
    ((bytes <= most_bytes)) || wrong "$1 has $bytes bytes, more than $most_bytes"
    echo "$1: $((bytes)) bytes of at most $most_bytes"
}

check_glibc() {
    local newest
    newest=$(readelf --wide --version-info "$1" | grep -o 'GLIBC_[0-9.]*' | sort --version-sort --unique | tail -n 1)
    newest=${newest#GLIBC_}
    [[ $(printf '%s\n' "$newest" "$glibc" | sort --version-sort | tail -n 1) == "$glibc" ]] ||
        wrong "$1 asks for glibc $newest, newer than $glibc"
    echo "$1: asks for glibc $newest, at most $glibc"
}

# How long `--version` takes, for a program that runs here.
check_start() {
    local began microseconds=() sorted i
    if ! "$1" --version >/dev/null 2>&1; then
        echo "$1: is for another machine, so its start was not measured"
        return
    fi
    [[ $("$1" --version) == "holistics-tunnel $version" ]] || wrong "$1 --version says $("$1" --version)"
    for ((i = 0; i < starts; i++)); do
        began=${EPOCHREALTIME/[.,]/}
        "$1" --version >/dev/null
        microseconds+=("$((${EPOCHREALTIME/[.,]/} - began))")
    done
    mapfile -t sorted < <(printf '%s\n' "${microseconds[@]}" | sort --numeric-sort)
    ((sorted[starts / 2] <= most_milliseconds * 1000)) ||
        wrong "$1 --version takes ${sorted[starts / 2]} us, more than $most_milliseconds ms (median of $starts)"
    echo "$1: --version in ${sorted[starts / 2]} us of at most $most_milliseconds ms (median of $starts; fastest ${sorted[0]})"
}

# Every crate's license has its text, or none are written at all.
check_licenses() {
    local program crates
    for program in bastion server; do
        packaging/third-party-licenses.py "$1" "$program" >"$work/$program.licenses"
        crates=$(grep -cE '^  [^ ]+ [0-9.]+[^ ]*: ' "$work/$program.licenses")
        echo "$1: the licenses of the $((crates)) crates in the $program's program"
    done
    grep -qE '^  russh [0-9.]+: Apache-2.0$' "$work/server.licenses" || wrong "russh is not among the server's licenses"
}

check_archive() {
    local name=holistics-tunnel-$version-$1 file
    local listing=$work/archive.list
    tar --list --gzip --file "$dist/$name.tar.gz" >"$listing"
    for file in README.md LICENSE THIRD-PARTY-LICENSES man/holistics-tunnel.1 man/holistics-tunnel-setup.1 completions/holistics-tunnel.bash \
        completions/_holistics-tunnel completions/holistics-tunnel.fish; do
        grep -qxF "$name/$file" "$listing" || wrong "$name.tar.gz lacks $file"
    done
    tar --extract --gzip --to-stdout --file "$dist/$name.tar.gz" "$name/holistics-tunnel" |
        cmp - "$dist/$1/holistics-tunnel" || wrong "$name.tar.gz holds another program"
    echo "$name.tar.gz: the program, $(grep -c '\.1$' "$listing") manual pages, completions, README, licenses"
}

check_deb() {
    local name listing=$work/deb.list
    name=holistics-tunnel_$(package_version)_$(deb_architecture "$1").deb
    dpkg-deb --fsys-tarfile "$dist/$name" | tar --list | sed 's/^\.//' >"$listing"
    check_listing "$name" "$listing" /usr/share/zsh/vendor-completions/_holistics-tunnel \
        /usr/share/doc/holistics-tunnel/copyright /usr/share/doc/holistics-tunnel/THIRD-PARTY-LICENSES.gz
    [[ $(dpkg-deb --ctrl-tarfile "$dist/$name" | tar --list | sort | tr '\n' ' ') == "./ ./control " ]] ||
        wrong "$name holds more than a control file: something would run when it is installed"
    [[ $(dpkg-deb --field "$dist/$name" Depends) == *openssh-client* ]] || wrong "$name does without ssh"
    dpkg-deb --fsys-tarfile "$dist/$name" | tar --extract --to-stdout ./usr/bin/holistics-tunnel |
        cmp - "$dist/$1/holistics-tunnel" || wrong "$name holds another program"
    echo "$name: installs $(grep -vc '/$' "$listing") files and runs nothing"
}

check_rpm() {
    local name listing=$work/rpm.list sum
    name=holistics-tunnel-$(package_version)-1.${1%%-*}.rpm
    rpm --query --package --list "$dist/$name" >"$listing"
    check_listing "$name" "$listing" /usr/share/zsh/site-functions/_holistics-tunnel \
        /usr/share/licenses/holistics-tunnel/LICENSE /usr/share/licenses/holistics-tunnel/THIRD-PARTY-LICENSES
    [[ -z $(rpm --query --package --scripts --triggers --filetriggers "$dist/$name") ]] ||
        wrong "$name would run something when it is installed"
    rpm --query --package --requires "$dist/$name" | grep -qx openssh-clients || wrong "$name does without ssh"
    [[ $(rpm --query --package --queryformat '[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]' "$dist/$name" | sort -u) == root:root ]] ||
        wrong "$name installs files that are not root's"
    sum=$(sha256 "$dist/$1/holistics-tunnel")
    rpm --query --package --queryformat '[%{FILEDIGESTS} %{FILENAMES}\n]' "$dist/$name" |
        grep -qxF "${sum%% *} /usr/bin/holistics-tunnel" || wrong "$name holds another program"
    echo "$name: installs $(grep -c . "$listing") paths and runs nothing"
}

# check_listing PACKAGE LISTING PATH...: these and what both packages install are there, and nothing else.
check_listing() {
    local name=$1 listing=$2 path allowed
    shift 2
    set -- "$@" /usr/bin/holistics-tunnel /usr/share/bash-completion/completions/holistics-tunnel \
        /usr/share/fish/vendor_completions.d/holistics-tunnel.fish
    for path in "$@" /usr/share/man/man1/holistics-tunnel.1.gz /usr/share/man/man1/holistics-tunnel-setup.1.gz; do
        grep -qxF "$path" "$listing" || wrong "$name does not install $path"
    done
    # A folder that a package lists is no file of its own.
    allowed='^/usr/share/man/man1/holistics-tunnel[a-z-]*\.1\.gz$|/$|^/usr/share/licenses/holistics-tunnel$'
    if printf '%s\n' "$@" | grep -vxFf - "$listing" | grep -vE "$allowed"; then
        wrong "$name installs what is listed above"
    fi
}

# The same program packed once more gives the same files.
check_reproduction() {
    local again=$work/again file
    mkdir -p "$again"
    pack "$1" "$2" "$again"
    for file in "$again"/*; do
        cmp "$file" "$dist/${file##*/}" || wrong "${file##*/} is another file when it is packed again"
    done
    echo "$1: packed again, the same files"
}
