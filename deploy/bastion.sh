#!/bin/sh
# One tunnel in a container: set up at the first start, and from then on held in the foreground by autossh.
# Setup needs HOLISTICS_TUNNEL_SERVER, the vendor's address, and a file with the token; TOKEN_FILE may name another one.

set -eu

if ! holistics-tunnel list --json | grep --quiet '"setup_complete": true'; then
    # On standard input, since setup removes a file with a token once it is read, and a mounted secret cannot be.
    holistics-tunnel setup --init none --yes --token-file - \
        <"${TOKEN_FILE:-/run/secrets/holistics-tunnel/token}"
fi
exec holistics-tunnel run
