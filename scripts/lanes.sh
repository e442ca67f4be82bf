# shellcheck shell=bash
# shellcheck disable=SC2034 # scripts/test, which sources this, reads it all.
# The lanes of scripts/test: what each is for, what it needs, and which parts of tests/ it runs.

lanes=(quick lints unit journey screens bootstrap api store openapi tunnel-server databases web lab cluster fuzz faults ansible containers release)

declare -A purpose=(
    [quick]="format, lints, unit tests and one whole journey; installs nothing"
    [lints]="format, shell scripts, lints, documentation, each program built alone"
    [unit]="what needs no other program: parsers, plans, templates, every distro's fixture"
    [journey]="setup, removal and all between, with real ssh, autossh and PostgreSQL"
    [screens]="what a person at a terminal sees; the README's transcripts"
    [bootstrap]="the command from the browser, in every shell and through every obstacle"
    [api]="the API, by HTTP"
    [store]="the server's data in PostgreSQL: unit tests, API, one journey"
    [openapi]="the API against its description; strangers; metrics"
    [tunnel-server]="the real ssh against the tunnel server"
    [databases]="connection tests against real databases, through a tunnel and directly"
    [web]="the pages, in headless Chromium and without JavaScript"
    [ansible]="the example for Ansible, played again and again: with --full alone"
    [lab]="booted hosts: packages, init systems, reboots, power cuts"
    [cluster]="several servers, each in a network of its own, of which parts fail: with --full alone"
    [fuzz]="the fuzzers, with their seeds; with --full, a minute each"
    [faults]="what breaks between the vendor and the database, and how soon rows come again: most of it with --full alone"
    [containers]="images of the server and of a bastion, the compose file and the Kubernetes manifests: with --full alone"
    [release]="a release, looked at and installed by the command from the browser"
)

# Each word is a `need_for_…` of scripts/packages.sh. What is compiled with is needed by all.
declare -A needs=(
    [quick]="tunnels script_checks"
    [lints]="script_checks python_tools"
    [unit]="script_checks"
    [journey]="tunnels certificates script_checks autossh_source pooler proxies"
    [screens]="tunnels"
    [bootstrap]="tunnels certificates bootstrap"
    [api]="ssh"
    [store]="tunnels certificates script_checks"
    [openapi]="tunnels python_tools alerts"
    [tunnel-server]="ssh proxies"
    [databases]="tunnels certificates mariadb clickhouse"
    [web]="tunnels certificates mariadb browsers proxies npm"
    [ansible]="tunnels python_tools"
    [lab]="tunnels certificates web_proxy packing"
    [cluster]="tunnels certificates proxies"
    [fuzz]="fuzzing"
    [faults]="tunnels certificates faults"
    [containers]="tunnels certificates python_tools containers"
    [release]="tunnels bootstrap release"
)

# Needs that no package meets.
declare -A further_needs=(
    [lints]="rustfmt, clippy and cargo-deny (scripts/deny)"
    [quick]="rustfmt and clippy"
    [openapi]="Schemathesis (scripts/schemathesis)"
    [web]="axe-core (scripts/axe)"
    [ansible]="ansible-core (scripts/ansible)"
    [containers]="Linux, root"
    [lab]="Linux, root, images of hosts (scripts/lab-images)"
    [cluster]="Linux, root"
    [faults]="Linux, root"
)

# What each runs: parts of the program tests/it, by their modules, or a program of its own.
declare -A parts=(
    [unit]="distros promises"
    [journey]="journey failures service changes doctor source_build server_life"
    [screens]="screens"
    [bootstrap]="bootstrap"
    [api]="api"
    [openapi]="openapi"
    [tunnel-server]="tunnel_server"
    [databases]="databases connections"
    [web]="web"
    [ansible]="ansible"
    [lab]="lab"
    [cluster]="cluster"
    [faults]="faults"
    [containers]="containers"
)

is_lane() {
    [[ -n ${purpose[$1]-} ]]
}

# is_program PART: it is a program of its own, and not a part of tests/it.
is_program() {
    [[ $1 != it && -f tests/$1/main.rs ]]
}

# The lanes that run this part; nothing if none does.
lanes_of_part() {
    local lane
    for lane in "${!parts[@]}"; do
        if [[ " ${parts[$lane]} " == *" $1 "* ]]; then
            echo "$lane"
        fi
    done
}

# Every part there is: the programs in tests/ as cargo finds them, and the modules of tests/it.
all_parts() {
    local file
    for file in tests/*/main.rs tests/it/*.rs tests/it/*/mod.rs; do
        case $file in
            tests/it/main.rs) ;;
            */main.rs | */mod.rs) basename "${file%/*}" ;;
            *) basename "$file" .rs ;;
        esac
    done
}

list_lanes() {
    local lane packages
    echo "The lanes. All of them need the Rust toolchain, gcc, libc6-dev and ca-certificates, and:"
    echo
    for lane in "${lanes[@]}"; do
        packages=$(packages_for "$lane")
        printf '%-14s %s\n' "$lane" "${purpose[$lane]}"
        printf '%-14s   needs %s\n' "" "${packages// /, }${further_needs[$lane]+, ${further_needs[$lane]}}"
    done
}

# The packages that a lane needs beside those that every build does, whether or not they are there.
packages_for() (
    local need
    # shellcheck disable=SC2317 # The functions below call it.
    need() {
        [[ " ${missing_packages[*]} " == *" $1 "* ]] || missing_packages+=("$1")
    }
    for need in ${needs[$1]}; do
        "need_for_$need"
    done
    echo "${missing_packages[*]}"
)
