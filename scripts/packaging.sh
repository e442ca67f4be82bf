# shellcheck shell=bash
# shellcheck disable=SC2154 # The script that sources this sets them, as said below.
# Packs a built program: an archive, and for Linux a .deb and a .rpm. Nothing in them depends on when,
# where and by whom they are made. Sourced by scripts/release, which sets `version`, `dist`, `work` and
# SOURCE_DATE_EPOCH.
#
#   write_pages PAGES TARGET...    manual pages and completions, written by a program that runs here
#   pack TARGET PAGES TO           all that is made of one target's program
#   write_sums FOLDER              SHA256SUMS of all files in it

write_pages() {
    local pages=$1 program
    shift
    program=$(runnable_program "$@")
    mkdir -p "$pages/completions"
    "$program" man --dir "$pages/man"
    "$program" completions bash >"$pages/completions/holistics-tunnel.bash"
    "$program" completions zsh >"$pages/completions/_holistics-tunnel"
    "$program" completions fish >"$pages/completions/holistics-tunnel.fish"
}

# A built program that this machine runs. The pages are the same for all targets.
runnable_program() {
    local target
    for target; do
        if "$dist/$target/holistics-tunnel" --version >/dev/null 2>&1; then
            echo "$dist/$target/holistics-tunnel"
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
    local target=$1 pages=$2 to=$3 folder=$work/deb architecture kibibytes
    architecture=$(deb_architecture "$target")
    lay_out "$folder" "$target" "$pages" usr/share/zsh/vendor-completions
    install -D -m 644 packaging/copyright "$folder/usr/share/doc/holistics-tunnel/copyright"
    gzip -9nc "$work/THIRD-PARTY-LICENSES" >"$folder/usr/share/doc/holistics-tunnel/THIRD-PARTY-LICENSES.gz"
    kibibytes=$(du -sk --apparent-size "$folder" | cut -f 1)
    install -d "$folder/DEBIAN"
    sed -e "s/@VERSION@/$(package_version)/; s/@ARCHITECTURE@/$architecture/; s/@KIBIBYTES@/$kibibytes/" \
        packaging/control >"$folder/DEBIAN/control"
    # xz is read by every dpkg that is in use, what newer ones take by themselves is not.
    dpkg-deb --root-owner-group -Zxz --build "$folder" "$to" >/dev/null
}

pack_rpm() {
    local target=$1 pages=$2 to=$3 folder=$work/rpm
    lay_out "$folder" "$target" "$pages" usr/share/zsh/site-functions
    install -D -m 644 --target-directory "$folder/usr/share/licenses/holistics-tunnel" \
        LICENSE "$work/THIRD-PARTY-LICENSES"
    find "$folder" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    rpmbuild -bb --quiet --target "${target%%-*}" \
        --define "_topdir $work/rpmbuild" --define "_rpmdir $to" --define "_rpmfilename %{NVRA}.rpm" \
        --define "released $(package_version)" --define "staged $folder" \
        packaging/holistics-tunnel.spec >"$work/rpmbuild.log" 2>&1 || {
        cat "$work/rpmbuild.log" >&2
        return 1
    }
}

# The files that both packages install, as they lie on a host.
lay_out() {
    local folder=$1 target=$2 pages=$3 zsh=$4 page
    rm -rf "$folder"
    install -D -m 755 "$dist/$target/holistics-tunnel" "$folder/usr/bin/holistics-tunnel"
    install -d "$folder/usr/share/man/man1"
    for page in "$pages"/man/*.1; do
        gzip -9nc "$page" >"$folder/usr/share/man/man1/${page##*/}.gz"
    done
    install -D -m 644 "$pages/completions/holistics-tunnel.bash" \
        "$folder/usr/share/bash-completion/completions/holistics-tunnel"
    install -D -m 644 "$pages/completions/_holistics-tunnel" "$folder/$zsh/_holistics-tunnel"
    install -D -m 644 "$pages/completions/holistics-tunnel.fish" \
        "$folder/usr/share/fish/vendor_completions.d/holistics-tunnel.fish"
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
