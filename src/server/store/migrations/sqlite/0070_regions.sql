-- Where tunnels end: the names and the port by which bastions reach the tunnel servers of a place, and the ports given to
-- tunnels there. One server alone has the one region `default`.
CREATE TABLE regions (
    name       TEXT    PRIMARY KEY,
    -- One or two, as a JSON array.
    ssh_hosts  TEXT    NOT NULL,
    ssh_port   INTEGER NOT NULL CHECK (ssh_port BETWEEN 1 AND 65535),
    first_port INTEGER NOT NULL CHECK (first_port BETWEEN 1 AND 65535),
    last_port  INTEGER NOT NULL CHECK (last_port BETWEEN first_port AND 65535),
    -- Whether an operator has said so. If not, it is what a server of it was last started with.
    is_settled INTEGER NOT NULL CHECK (is_settled IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT;

ALTER TABLE tunnels ADD COLUMN region TEXT NOT NULL DEFAULT 'default';
-- Where the tunnel is to be instead, its port there, and since when a session of it was seen there. Until its bastion says
-- that it has moved, both ports are its own.
ALTER TABLE tunnels ADD COLUMN next_region TEXT;
ALTER TABLE tunnels ADD COLUMN next_port INTEGER CHECK (next_port BETWEEN 1 AND 65535);
ALTER TABLE tunnels ADD COLUMN next_region_seen_at INTEGER;

-- Ports are a region's.
DROP INDEX tunnels_living_port;
CREATE UNIQUE INDEX tunnels_living_port ON tunnels (region, remote_port) WHERE removed_at IS NULL;
CREATE UNIQUE INDEX tunnels_next_port ON tunnels (next_region, next_port) WHERE next_port IS NOT NULL;
DROP INDEX tunnels_port_history;
CREATE INDEX tunnels_port_history ON tunnels (region, remote_port, removed_at);
CREATE INDEX tunnels_moving ON tunnels (next_region_seen_at) WHERE next_region_seen_at IS NOT NULL;

ALTER TABLE former_ports RENAME TO former_ports_of_one_region;
-- Ports that rest, though no removed tunnel has them: those from which a tunnel has moved away, and those that were given,
-- or may have been, to tunnels of which this database knows nothing, since it comes from an older backup.
CREATE TABLE former_ports (
    region      TEXT    NOT NULL,
    port        INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    released_at INTEGER NOT NULL,
    PRIMARY KEY (region, port)
) STRICT;
INSERT INTO former_ports SELECT 'default', port, released_at FROM former_ports_of_one_region;
DROP TABLE former_ports_of_one_region;

-- It is the tunnel that has a region; there was but one.
ALTER TABLE data_sources DROP COLUMN region;
