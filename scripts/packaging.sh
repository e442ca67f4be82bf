# shellcheck shell=bash
# shellcheck disable=SC2154 # The script that sources this sets them, as said below.
# Packs a built program: an archive, and for Linux a .deb and a .rpm. Nothing in them depends on when,
# where and by whom they are made. Sourced by scripts/release, which sets `version`, `dist`, `work` and
# SOURCE_DATE_EPOCH.
#
#   write_pages PROGRAM PAGES TARGET...    its manual pages and completions, written by one that runs here
#   pack TARGET PAGES TO                   all that is made of one target's program for the bastion
#   write_sums FOLDER                      SHA256SUMS of all files in it
#
# scripts/server-packaging.sh does the same for the server's program, and uses what is below.

# How hard packages are compressed: tests, which make them anew each time, have less patience.
deb_compression=(-Zxz)
rpm_compression=9

write_pages() {
    local name=$1 pages=$2 program
    shift 2
    program=$(runnable_program "$name" "$@")
    mkdir -p "$pages/completions"
    "$program" man --dir "$pages/man"
    "$program" completions bash >"$pages/completions/$name.bash"
    "$program" completions zsh >"$pages/completions/_$name"
    "$program" completions fish >"$pages/completions/$name.fish"
}

# A built program that this machine runs. The pages are the same for all targets.
runnable_program() {
    local name=$1 target
    shift
    for target; do
        if "$dist/$target/$name" --version >/dev/null 2>&1; then
            echo "$dist/$target/$name"
            return
        fi
    done
    echo "None of the programs runs here to write its manual pages: name this machine's target, too." >&2
    return 1
}

pack() {
    local target=$1 pages=$2 to=$3
    packaging/third-party-licenses.py "$target" >"$work/THIRD-PARTY-LICENSES"
    pack_archive "$target" "$pages" "$to"
    if [[ $target == *-linux-* ]]; then
        pack_deb "$target" "$pages" "$to"
        pack_rpm "$target" "$pages" "$to"
    fi
}

pack_archive() {
    local target=$1 pages=$2 to=$3 name=holistics-tunnel-$version-$1
    local folder=$work/archive
    rm -rf "$folder"
    install -d "$folder/$name"
    cp "$dist/$target/holistics-tunnel" README.md LICENSE "$work/THIRD-PARTY-LICENSES" \
        "$folder/$name"
    cp -R "$pages/man" "$pages/completions" "$folder/$name"
    reproducible_tar -C "$folder" "$name" | gzip -9n >"$to/$name.tar.gz"
}

# An archive of what is named, on standard output.
reproducible_tar() {
    local tar=tar
    [[ $OSTYPE == linux* ]] || tar=gtar
    "$tar" --create --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner --mode=go=rX "$@"
}

pack_deb() {
    local target=$1 pages=$2 to=$3 folder=$work/deb
    lay_out holistics-tunnel "$folder" "$target" "$pages" usr/share/zsh/vendor-completions
    lay_out_deb_licenses holistics-tunnel "$folder" "$work/THIRD-PARTY-LICENSES"
    make_deb "$folder" packaging/control "$target" "$to"
}

# What makes a folder a .deb's, and that .deb.
make_deb() {
    local folder=$1 control=$2 target=$3 to=$4 architecture kibibytes
    architecture=$(deb_architecture "$target")
    kibibytes=$(du -sk --apparent-size --exclude=DEBIAN "$folder" | cut -f 1)
    install -d "$folder/DEBIAN"
    sed -e "s/@VERSION@/$(package_version)/; s/@ARCHITECTURE@/$architecture/; s/@KIBIBYTES@/$kibibytes/" \
        "$control" >"$folder/DEBIAN/control"
    # xz is read by every dpkg that is in use, what newer ones take by themselves is not.
    dpkg-deb --root-owner-group "${deb_compression[@]}" --build "$folder" "$to" >/dev/null
}

lay_out_deb_licenses() {
    local name=$1 folder=$2 licenses=$3
    install -d "$folder/usr/share/doc/$name"
    sed "s/@NAME@/$name/" packaging/copyright >"$folder/usr/share/doc/$name/copyright"
    gzip -9nc "$licenses" >"$folder/usr/share/doc/$name/THIRD-PARTY-LICENSES.gz"
    chmod 644 "$folder/usr/share/doc/$name"/*
}

pack_rpm() {
    local target=$1 pages=$2 to=$3 folder=$work/rpm
    lay_out holistics-tunnel "$folder" "$target" "$pages" usr/share/zsh/site-functions
    lay_out_rpm_licenses holistics-tunnel "$folder" "$work/THIRD-PARTY-LICENSES"
    make_rpm "$folder" packaging/holistics-tunnel.spec "$target" "$to"
}

make_rpm() {
    local folder=$1 spec=$2 target=$3 to=$4
    find "$folder" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    rpmbuild -bb --quiet --target "${target%%-*}" \
        --define "_topdir $work/rpmbuild" --define "_rpmdir $to" --define "_rpmfilename %{NVRA}.rpm" \
        --define "released $(package_version)" --define "staged $folder" \
        --define "payload w$rpm_compression.gzdio" \
        "$spec" >"$work/rpmbuild.log" 2>&1 || {
        cat "$work/rpmbuild.log" >&2
        return 1
    }
}

lay_out_rpm_licenses() {
    local name=$1 folder=$2 licenses=$3
    install -D -m 644 --target-directory "$folder/usr/share/licenses/$name" LICENSE
    install -m 644 "$licenses" "$folder/usr/share/licenses/$name/THIRD-PARTY-LICENSES"
}

# The program with its pages, as they lie on a host: what both kinds of packages install.
lay_out() {
    local name=$1 folder=$2 target=$3 pages=$4 zsh=$5 page
    rm -rf "$folder"
    install -D -m 755 "$dist/$target/$name" "$folder/usr/bin/$name"
    install -d "$folder/usr/share/man/man1"
    for page in "$pages"/man/*.1; do
        gzip -9nc "$page" >"$folder/usr/share/man/man1/${page##*/}.gz"
    done
    install -D -m 644 "$pages/completions/$name.bash" "$folder/usr/share/bash-completion/completions/$name"
    install -D -m 644 "$pages/completions/_$name" "$folder/$zsh/_$name"
    install -D -m 644 "$pages/completions/$name.fish" "$folder/usr/share/fish/vendor_completions.d/$name.fish"
    chmod -R u=rwX,go=rX "$folder"
}

deb_architecture() {
    case $1 in
        x86_64-*) echo amd64 ;;
        aarch64-*) echo arm64 ;;
    esac
}

# 1.0.0-rc.1 comes before 1.0.0, which both package managers write with a tilde.
package_version() {
    echo "${version/-/\~}"
}

write_sums() {
    local sums=$work/SHA256SUMS
    (cd "$1" && find -- * -type f | LC_ALL=C sort | while read -r file; do sha256 "$file"; done) >"$sums"
    mv "$sums" "$1/SHA256SUMS"
}

sha256() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$@"
    else
        shasum -a 256 "$@"
    fi
}
