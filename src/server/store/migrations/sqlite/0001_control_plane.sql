-- Times are milliseconds since the Unix epoch, UTC. Ids are never used again (AUTOINCREMENT).

CREATE TABLE data_sources (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    display_name  TEXT    NOT NULL,
    database_type TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    port          INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    region        TEXT,
    created_at    INTEGER NOT NULL,
    saved_at      INTEGER,
    removing_at   INTEGER,
    removed_at    INTEGER
) STRICT;

-- A key is in OpenSSH's one-line form without options and comment. One key may serve several tunnels.
CREATE TABLE keys (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    public_key TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tunnels (
    id                   INTEGER PRIMARY KEY AUTOINCREMENT,
    data_source_id       INTEGER NOT NULL UNIQUE REFERENCES data_sources (id),
    key_id               INTEGER REFERENCES keys (id),
    -- Kept after removal, so that the next tunnel gets another port while one is free.
    remote_port          INTEGER CHECK (remote_port BETWEEN 1 AND 65535),
    -- The hash of the enrollment token the key came with; the tunnel token is derived from it.
    enrolled_with        BLOB,
    bastion_hostname     TEXT,
    bastion_os           TEXT,
    bastion_user         TEXT,
    enrolled_at          INTEGER,
    service_installed_at INTEGER,
    last_seen_at         INTEGER,
    removed_at           INTEGER,
    -- Key, port and token come together or not at all; removal takes the key away.
    CHECK ((enrolled_at IS NULL) = (remote_port IS NULL)),
    CHECK ((enrolled_at IS NULL) = (enrolled_with IS NULL)),
    CHECK (removed_at IS NOT NULL OR (enrolled_at IS NULL) = (key_id IS NULL)),
    CHECK (removed_at IS NULL OR key_id IS NULL)
) STRICT;

-- The database itself refuses to give one port to two living tunnels.
CREATE UNIQUE INDEX tunnels_living_port ON tunnels (remote_port) WHERE removed_at IS NULL;
CREATE INDEX tunnels_port_history ON tunnels (remote_port, removed_at);
CREATE INDEX tunnels_key ON tunnels (key_id);

-- Only SHA-256 hashes: a token is 256 random bits, so no slow hash is needed.
CREATE TABLE tokens (
    hash       BLOB    PRIMARY KEY,
    kind       TEXT    NOT NULL CHECK (kind IN ('enrollment', 'tunnel', 'removal', 'operator')),
    tunnel_id  INTEGER REFERENCES tunnels (id),
    name       TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    used_at    INTEGER,
    revoked_at INTEGER,
    CHECK ((kind = 'operator') = (tunnel_id IS NULL)),
    CHECK ((kind = 'operator') = (name IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_tunnel ON tokens (tunnel_id);
CREATE UNIQUE INDEX tokens_operator_name ON tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE events (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    data_source_id INTEGER NOT NULL REFERENCES data_sources (id),
    at             INTEGER NOT NULL,
    kind           TEXT    NOT NULL,
    actor          TEXT    NOT NULL
) STRICT;

CREATE INDEX events_data_source ON events (data_source_id, id);
