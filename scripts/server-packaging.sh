# shellcheck shell=bash
# shellcheck disable=SC2154 # The script that sources this sets them, as said below.
# Packs the server's program for Linux, a .deb and a .rpm, with the programs that it hands out to bastions.
# Nothing in them depends on when, where and by whom they are made. Sourced by scripts/release beside
# scripts/packaging.sh, which says what is to be set.
#
#   pack_server TARGET PAGES TO

pack_server() {
    local target=$1 pages=$2 to=$3
    write_server_licenses "$target" >"$work/SERVER-LICENSES"
    pack_server_deb "$target" "$pages" "$to"
    pack_server_rpm "$target" "$pages" "$to"
}

# Of the crates in the server's program, and in those that are in the package with it.
write_server_licenses() {
    local target
    packaging/third-party-licenses.py "$1" server
    for target in $(handed_out_targets); do
        printf '\n%s\n\n' "$target/holistics-tunnel:"
        packaging/third-party-licenses.py "$target" bastion
    done
}

pack_server_deb() {
    local target=$1 pages=$2 to=$3 folder=$work/server-deb
    lay_out_server "$folder" "$target" "$pages" usr/share/zsh/vendor-completions
    lay_out_deb_licenses holistics-tunnel-server "$folder" "$work/SERVER-LICENSES"
    install -d "$folder/DEBIAN"
    install -m 755 --target-directory "$folder/DEBIAN" packaging/server/{postinst,prerm,postrm}
    install -m 644 --target-directory "$folder/DEBIAN" packaging/server/conffiles
    make_deb "$folder" packaging/server/control "$target" "$to"
}

pack_server_rpm() {
    local target=$1 pages=$2 to=$3 folder=$work/server-rpm
    lay_out_server "$folder" "$target" "$pages" usr/share/zsh/site-functions
    lay_out_rpm_licenses holistics-tunnel-server "$folder" "$work/SERVER-LICENSES"
    make_rpm "$folder" packaging/server/holistics-tunnel-server.spec "$target" "$to"
}

lay_out_server() {
    local folder=$1 target=$2 pages=$3 zsh=$4 handed_out
    lay_out holistics-tunnel-server "$folder" "$target" "$pages" "$zsh"
    for handed_out in $(handed_out_targets); do
        install -D -m 755 "$dist/$handed_out/holistics-tunnel" \
            "$folder/usr/lib/holistics-tunnel-server/$handed_out/holistics-tunnel"
    done
    install -D -m 644 --target-directory "$folder/usr/lib/systemd/system" \
        packaging/server/holistics-tunnel-server.service
    install -D -m 644 packaging/server/sysusers.conf "$folder/usr/lib/sysusers.d/holistics-tunnel-server.conf"
    install -D -m 644 packaging/server/default "$folder/etc/default/holistics-tunnel-server"
    install -D -m 644 --target-directory "$folder/usr/share/doc/holistics-tunnel-server" \
        packaging/server/low-ports.conf
}

# The machines for whose bastions there is a program.
handed_out_targets() {
    local program
    for program in "$dist"/*/holistics-tunnel; do
        basename "$(dirname "$program")"
    done
}
