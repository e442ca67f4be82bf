#!/bin/sh
# Makes the cluster of the image at its first start, and runs it.
set -eu
data=/var/lib/postgresql/data/cluster
if [ ! -e "$data" ]; then
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb --pgdata="$data.new" --username="$POSTGRES_USER" --auth=scram-sha-256 --pwfile=/tmp/password
    echo "host all all all scram-sha-256" >>"$data.new/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$data.new" postgres
    mv "$data.new" "$data"
fi
exec postgres -D "$data" -c listen_addresses='*'
