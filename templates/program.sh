server={{ program.server }}
# A caller's variable of this name may be exported, and the token would go where it goes.
unset token
token={{ program.token }}
folder=
program=
ca_cert=${HOLISTICS_TUNNEL_CA_CERT:-}
# What brought this script may have been told so.
[ -n "$ca_cert" ] || [ ! -r "${CURL_CA_BUNDLE:-}" ] || ca_cert=$CURL_CA_BUNDLE
partial=
download=
made_folder=
made_bin=

say() {
    printf 'holistics-tunnel: %s\n' "$*" >&2
}

fail() {
    say "$@"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# However this script ends before the program takes over, nothing half-made stays.
prepare_to_leave() {
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# shellcheck disable=SC2317 # The trap calls it.
clean_up() {
    [ -z "$download" ] || kill "$download" 2>/dev/null
    [ -z "$partial" ] || rm -f "$partial"
    # Folders go only if they are this run's own, and only while they are empty.
    [ -z "$made_bin" ] || rmdir "$folder/bin" 2>/dev/null
    [ -z "$made_folder" ] || rmdir "$folder" 2>/dev/null
}

# The program refuses this too, but by then it would lie in root's home.
refuse_sudo() {
    if [ "$(id -u)" = 0 ] && [ "${SUDO_USER:-root}" != root ]; then
        say "sudo in front of this command is refused: the tunnel runs as an ordinary user." \
            "Run the same command as $SUDO_USER, without sudo; single commands ask for root themselves"
        exit 2
    fi
}

# --ca-cert is meant for the program, which keeps it for later commands; the download needs it too.
find_ca_cert() {
    while [ $# -gt 0 ]; do
        case $1 in
            --ca-cert=*) ca_cert=${1#--ca-cert=} ;;
            --ca-cert) ca_cert=${2:-} ;;
        esac
        shift
    done
    [ -n "$ca_cert" ] || return 0
    [ -r "$ca_cert" ] || fail "cannot read the certificate $ca_cert given with --ca-cert"
    export HOLISTICS_TUNNEL_CA_CERT="$ca_cert"
}

# Brings the program for this machine to where it is started from.
get_program() {
    find_folder
    choose_target
    check_c_library
    choose_tools
    is_current || download_program
}

# Whatever starts a machine's first commands sets no HOME; the program, too, asks the user database then.
find_folder() {
    home=${HOME:-}
    if [ -z "$home" ] && have getent; then
        home=$(getent passwd "$(id -u)" | cut -d: -f6)
    elif [ -z "$home" ]; then
        # As macOS has it.
        home=$(id -P 2>/dev/null | cut -d: -f9)
    fi
    [ -n "$home" ] || fail "HOME is not set, and $(id -un) has no home folder; run this as the user who will keep the tunnel"
    folder=$home/.holistics
    program=$folder/bin/holistics-tunnel
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
    [ -n "$target" ] ||
        fail "$server has no program for this machine ($machine)." \
            "{{ program.offered }}; use such a host, or ask whoever runs the server to add a program"
}

# The programs for Linux need glibc of 2012 or newer, and all 64 bits: said before anything is downloaded.
# Where a machine does not tell, starting the program will.
check_c_library() {
    case $machine in
        Linux-*) ;;
        *) return ;;
    esac
    [ "$(getconf LONG_BIT 2>/dev/null)" != 32 ] ||
        fail "this system is a 32-bit one, though its processor is not ($machine); the program needs a 64-bit system"
    c_library=$(getconf GNU_LIBC_VERSION 2>/dev/null) || c_library=
    case $c_library in
        glibc\ 2.[0-9] | glibc\ 2.[0-9].* | glibc\ 2.1[0-6] | glibc\ 2.1[0-6].*)
            fail "this system has $c_library, and the program needs 2.17 or newer: RHEL 7, Debian 8, Ubuntu 14.04 or later"
            ;;
        glibc\ *) return ;;
    esac
    for musl in /lib/ld-musl-*.so.1; do
        [ ! -e "$musl" ] ||
            fail "this system's C library is musl, as on Alpine, and the program needs glibc: use a host with Debian, Ubuntu, RHEL or a relative"
    done
}

choose_tools() {
    if have curl && ! is_from_snap curl; then
        fetcher=curl
    elif have wget && ! is_from_snap wget; then
        fetcher=wget
    elif have curl || have wget; then
        fail "curl comes from snap here, and such a program cannot write to $folder: install curl with the system's own package manager (sudo apt-get install curl), and run this again"
    else
        fail "neither curl nor wget is installed; install one of them and run this again"
    fi
    for hasher in sha256sum shasum openssl none; do
        ! have "$hasher" || break
    done
    [ "$hasher" != none ] ||
        fail "none of sha256sum, shasum and openssl is installed, so the download could not be checked; install one of them and run this again"
}

is_from_snap() {
    case $(command -v "$1") in
        */snap/*) ;;
        *) return 1 ;;
    esac
}

sha256_of() {
    case $hasher in
        sha256sum) sha256sum ;;
        shasum) shasum -a 256 ;;
        openssl) openssl dgst -sha256 -r ;;
    esac <"$1" | cut -d ' ' -f 1
}

is_current() {
    [ -x "$program" ] && [ "$(sha256_of "$program")" = "$expected" ]
}

download_program() {
    url=$server/download/$target/holistics-tunnel
    make_folders
    partial=$(mktemp "$folder/bin/.download.XXXXXX") || fail "cannot write to $folder/bin"
    [ ! -t 2 ] || say "downloading the program for $target from $server"
    # In the background: a shell heeds a signal only between its commands and while it waits.
    fetch &
    download=$!
    wait "$download"
    status=$?
    download=
    [ "$status" = 0 ] || fail "cannot download $url: $(advice "$fetcher-$status")"
    actual=$(sha256_of "$partial")
    [ "$actual" = "$expected" ] ||
        fail "the download is damaged: its SHA-256 is '$actual', not $expected." \
            "Run the same command again; if it stays so, tell whoever runs $server"
    chmod 700 "$partial" || fail "cannot make the download executable"
    try_program
    mv -f "$partial" "$program" || fail "cannot write $program"
    partial=
}

make_folders() {
    if [ ! -d "$folder" ]; then
        mkdir -m 700 "$folder" || fail "cannot make $folder; the home folder has to be there, and writable"
        made_folder=yes
    fi
    if [ ! -d "$folder/bin" ]; then
        mkdir -m 700 "$folder/bin" || fail "cannot make $folder/bin"
        made_bin=yes
    fi
}

# Becomes the download, in a shell of its own.
fetch() {
    case $fetcher in
        curl) fetch_with_curl ;;
        wget) fetch_with_wget ;;
    esac
}

fetch_with_curl() {
    set -- -fL --retry 3 --connect-timeout 20 --speed-limit 1 --speed-time 60 -o "$partial" "$url"
    if [ -t 2 ]; then
        set -- --progress-bar "$@"
    else
        set -- -sS "$@"
    fi
    [ -z "$ca_cert" ] || set -- --cacert "$ca_cert" "$@"
    # Redirects included. A curl of before 2014 does not know these; what it brings is checked all the same.
    if is_https && curl --proto '=https' --tlsv1.2 --version >/dev/null 2>&1; then
        set -- --proto '=https' --tlsv1.2 "$@"
    fi
    exec curl "$@"
}

fetch_with_wget() {
    pass_proxies_to_wget
    set -- -O "$partial" "$url"
    if wget --version 2>/dev/null | grep -q '^GNU Wget'; then
        set -- --tries=3 --timeout=60 "$@"
        [ -z "$ca_cert" ] || set -- --ca-certificate="$ca_cert" "$@"
        # It cannot be told to stay with https, so it follows nothing.
        ! is_https || set -- --max-redirect=0 "$@"
        if [ -t 2 ] && wget --show-progress --version >/dev/null 2>&1; then
            set -- --show-progress "$@"
        fi
        set -- -q "$@"
    elif [ ! -t 2 ]; then
        # Busybox has neither option, and does not look at certificates: the SHA-256 is what counts.
        set -- -q "$@"
    fi
    exec wget "$@"
}

is_https() {
    case $server in
        https://*) ;;
        *) return 1 ;;
    esac
}

# curl and the program heed both ways of writing these, wget the small one alone.
pass_proxies_to_wget() {
    if [ -z "${https_proxy:-}" ] && [ -n "${HTTPS_PROXY:-}" ]; then
        export https_proxy="$HTTPS_PROXY"
    fi
    if [ -z "${no_proxy:-}" ] && [ -n "${NO_PROXY:-}" ]; then
        export no_proxy="$NO_PROXY"
    fi
}

# What to do about an exit status of curl or wget.
advice() {
    case $1 in
        curl-60 | wget-5)
            echo "this machine does not trust its certificate. If a private authority has signed it, give that authority's certificate: curl --cacert FILE ... | sh -s -- --ca-cert FILE"
            ;;
        curl-23 | wget-3) echo "it cannot be written to $folder/bin; the disk may be full" ;;
        *) echo "check that this machine reaches $server (a proxy is taken from https_proxy), and run the same command again" ;;
    esac
}

try_program() {
    "$partial" --version >/dev/null
    case $? in
        0) ;;
        126) fail "programs cannot be run from $folder/bin: its file system may be mounted noexec. Run this as a user from whose home programs can be run" ;;
        *) fail "the program does not run on this machine ($machine)" ;;
    esac
}

# The token goes by standard input, where no list of processes shows it and nothing of it stays. Questions
# are asked at the terminal itself, if there is one.
start() {
    exec "$program" "$@" <<END
$token
END
}
