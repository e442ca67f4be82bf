#!/bin/sh
# Removes one reverse tunnel with holistics-tunnel. Other tunnels of this machine stay as they are.
# Nothing runs before the last character of this script has arrived.
set -u

{% include "program.sh" %}

main() {
    trap 'rm -f "$partial" "$token_file"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    find_ca_cert "$@"
    make_folders
    [ -x "$program" ] || download_program
    hand_over_token
    # Whoever runs this has asked for the removal in the browser and pasted its command here.
    become "$program" uninstall-tunnel {{ tunnel }} --yes --server "$server" "$@"
}

{ main "$@"; exit; }
