#!/bin/sh
# Sets up a reverse tunnel with holistics-tunnel. It downloads one program to ~/.holistics/bin, checks
# it, and starts its guided setup, which says what it will do and asks before it does it.
# Nothing runs before the last character of this script has arrived.
set -u

{% include "program.sh" %}

main() {
    prepare_to_leave
    refuse_sudo
    find_ca_cert "$@"
    get_program
    start setup --server "$server" --token-file - "$@"
}

{ main "$@"; exit; }
