-- As SQLite's, where the reasons stand.

CREATE TABLE regions (
    name       TEXT COLLATE "C" PRIMARY KEY,
    ssh_hosts  TEXT    NOT NULL,
    ssh_port   INTEGER NOT NULL CHECK (ssh_port BETWEEN 1 AND 65535),
    first_port INTEGER NOT NULL CHECK (first_port BETWEEN 1 AND 65535),
    last_port  INTEGER NOT NULL CHECK (last_port BETWEEN first_port AND 65535),
    is_settled BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL
);

ALTER TABLE tunnels ADD COLUMN region TEXT COLLATE "C" NOT NULL DEFAULT 'default';
ALTER TABLE tunnels ADD COLUMN next_region TEXT COLLATE "C";
ALTER TABLE tunnels ADD COLUMN next_port INTEGER CHECK (next_port BETWEEN 1 AND 65535);
ALTER TABLE tunnels ADD COLUMN next_region_seen_at BIGINT;

DROP INDEX tunnels_living_port;
CREATE UNIQUE INDEX tunnels_living_port ON tunnels (region, remote_port) WHERE removed_at IS NULL;
CREATE UNIQUE INDEX tunnels_next_port ON tunnels (next_region, next_port) WHERE next_port IS NOT NULL;
DROP INDEX tunnels_port_history;
CREATE INDEX tunnels_port_history ON tunnels (region, remote_port, removed_at);
CREATE INDEX tunnels_moving ON tunnels (next_region_seen_at) WHERE next_region_seen_at IS NOT NULL;

ALTER TABLE former_ports ADD COLUMN region TEXT COLLATE "C" NOT NULL DEFAULT 'default';
ALTER TABLE former_ports DROP CONSTRAINT former_ports_pkey;
ALTER TABLE former_ports ADD PRIMARY KEY (region, port);
ALTER TABLE former_ports ALTER COLUMN region DROP DEFAULT;

ALTER TABLE data_sources DROP COLUMN region;

-- Which tunnels a key opens depends on the region: a move, and its end, are changes of the keys.
DROP TRIGGER tunnels_keys ON tunnels;
CREATE TRIGGER tunnels_keys
    AFTER UPDATE OF key_id, next_key_id, region, remote_port, next_region, next_port, removed_at ON tunnels
    FOR EACH ROW WHEN (
        (OLD.key_id, OLD.next_key_id, OLD.region, OLD.remote_port, OLD.next_region, OLD.next_port, OLD.removed_at)
            IS DISTINCT FROM
        (NEW.key_id, NEW.next_key_id, NEW.region, NEW.remote_port, NEW.next_region, NEW.next_port, NEW.removed_at)
    ) EXECUTE FUNCTION note_key_change();

-- The host keys that all tunnel servers of a region show and announce. SQLite has no such table: the one server's are files.
CREATE TABLE region_host_keys (
    region     TEXT COLLATE "C" NOT NULL,
    generation TEXT   NOT NULL CHECK (generation IN ('current', 'next', 'former')),
    -- Of which type; a region has one of each.
    kind       TEXT   NOT NULL,
    public_key TEXT   NOT NULL,
    -- The private key, sealed with secret.key.
    sealed     BYTEA  NOT NULL,
    -- Since when it has its place.
    since      BIGINT NOT NULL,
    PRIMARY KEY (region, generation, kind)
);
