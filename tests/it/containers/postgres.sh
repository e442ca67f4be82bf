#!/bin/sh
# Makes the cluster of the image at its first start, and runs it. It has to outlive nothing: so it waits for no disk.
set -eu
data=/var/lib/postgresql/data/cluster
if [ ! -e "$data" ]; then
    # One that was broken off.
    rm -rf "$data.new"
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb --no-sync --pgdata="$data.new" --username="$POSTGRES_USER" --auth=scram-sha-256 --pwfile=/tmp/password
    echo "host all all all scram-sha-256" >>"$data.new/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -c fsync=off -D "$data.new" postgres
    mv "$data.new" "$data"
fi
exec postgres -D "$data" -c fsync=off -c listen_addresses='*'
