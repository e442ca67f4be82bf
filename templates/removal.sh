#!/bin/sh
# Removes one reverse tunnel with holistics-tunnel. Other tunnels of this machine stay as they are.
# Nothing runs before the last character of this script has arrived.
set -u

{% include "program.sh" %}

main() {
    prepare_to_leave
    refuse_sudo
    find_ca_cert "$@"
    find_folder
    [ -x "$program" ] || get_program
    # Whoever runs this has asked for the removal in the browser and pasted its command here.
    start uninstall-tunnel {{ tunnel }} --yes --server "$server" --token-file - "$@"
}

{ main "$@"; exit; }
