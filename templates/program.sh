server={{ program.server }}
token={{ program.token }}
folder=${HOME:-}/.holistics
program=$folder/bin/holistics-tunnel
ca_cert=${HOLISTICS_TUNNEL_CA_CERT:-}
partial=
token_file=

fail() {
    printf 'holistics-tunnel: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# --ca-cert is meant for the program; the download needs it too.
find_ca_cert() {
    while [ $# -gt 0 ]; do
        case $1 in
            --ca-cert=*) ca_cert=${1#--ca-cert=} ;;
            --ca-cert) ca_cert=${2:-} ;;
        esac
        shift
    done
}

make_folders() {
    [ -n "${HOME:-}" ] || fail "HOME is not set; run this as the user who will keep the tunnel"
    umask 077
    mkdir -p "$folder/bin" || fail "cannot make $folder/bin"
}

# Sets target and expected for this machine.
choose_target() {
    machine=$(uname -s)-$(uname -m)
    target=
    expected=
    case $machine in
{%- for offer in program.offers %}
        {{ offer.platform.uname }})
            target={{ offer.platform.target }}
            expected={{ offer.sha256 }}
            ;;
{%- endfor %}
        *) ;;
    esac
    [ -n "$target" ] || fail "$server has no program for this machine ($machine); ask whoever runs it to add one"
}

fetch() {
    if have curl; then
        if [ -n "$ca_cert" ]; then
            curl -fsSL --retry 3 --connect-timeout 20 --cacert "$ca_cert" -o "$2" "$1"
        else
            curl -fsSL --retry 3 --connect-timeout 20 -o "$2" "$1"
        fi
    elif have wget; then
        if [ -n "$ca_cert" ]; then
            wget -q -T 20 --ca-certificate="$ca_cert" -O "$2" "$1"
        else
            wget -q -T 20 -O "$2" "$1"
        fi
    else
        fail "neither curl nor wget is installed; install one of them and run this again"
    fi
}

sha256_of() {
    if have sha256sum; then
        sha256sum <"$1" | cut -d ' ' -f 1
    elif have shasum; then
        shasum -a 256 <"$1" | cut -d ' ' -f 1
    elif have openssl; then
        openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
    else
        fail "none of sha256sum, shasum and openssl is installed, so the download cannot be checked"
    fi
}

download_program() {
    choose_target
    partial=$(mktemp "$folder/bin/.download.XXXXXX") || fail "cannot write to $folder/bin"
    url=$server/download/$target/holistics-tunnel
    fetch "$url" "$partial" || fail "cannot download $url"
    actual=$(sha256_of "$partial") || exit 1
    [ "$actual" = "$expected" ] || fail "the download is damaged: its SHA-256 is '$actual', not $expected. Try again; if it stays so, tell whoever runs $server"
    chmod 700 "$partial" || fail "cannot make the download executable"
    "$partial" --version >/dev/null || fail "the program does not run on this machine ($machine)"
    mv -f "$partial" "$program" || fail "cannot write $program"
    partial=
}

# The token goes through a file only this user can read, never through arguments that ps shows.
# The program deletes the file once it has read it.
hand_over_token() {
    token_file=$(mktemp "$folder/.token.XXXXXX") || fail "cannot write to $folder"
    printf '%s\n' "$token" >"$token_file" || fail "cannot write $token_file"
    HOLISTICS_TUNNEL_TOKEN_FILE=$token_file
    export HOLISTICS_TUNNEL_TOKEN_FILE
}

# Stdin is this script's own pipe, so questions need the terminal itself, if there is one.
become() {
    if [ -t 0 ]; then
        exec "$@"
    elif (: </dev/tty) 2>/dev/null; then
        exec "$@" </dev/tty
    else
        exec "$@" </dev/null
    fi
}
