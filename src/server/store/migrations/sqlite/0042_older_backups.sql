-- Ports that were given, or may have been given, to tunnels of which this database knows nothing, since it
-- comes from an older backup. Since then they rest.
CREATE TABLE former_ports (
    port        INTEGER PRIMARY KEY CHECK (port BETWEEN 1 AND 65535),
    released_at INTEGER NOT NULL
) STRICT;

-- What the server that last ran with this database called its run: see last_run.rs.
CREATE TABLE last_run (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    mark TEXT    NOT NULL
) STRICT;
