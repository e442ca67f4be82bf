-- How each tunnel did on each day, UTC. See history_recorder.rs, which writes it every minute, and how long it is kept.
CREATE TABLE tunnel_days (
    -- Days since 1970-01-01.
    day                INTEGER NOT NULL,
    -- No reference: one row that cannot be written would keep back those that are written with it.
    tunnel_id          INTEGER NOT NULL,
    -- Milliseconds of which is known whether the tunnel was up, and those in which it was.
    known_ms           INTEGER NOT NULL CHECK (known_ms BETWEEN 0 AND 86400000),
    up_ms              INTEGER NOT NULL CHECK (up_ms BETWEEN 0 AND known_ms),
    connections        INTEGER NOT NULL CHECK (connections >= 0),
    bytes_from_bastion INTEGER NOT NULL CHECK (bytes_from_bastion >= 0),
    bytes_to_bastion   INTEGER NOT NULL CHECK (bytes_to_bastion >= 0),
    -- Whether it was up, and whether it was down, at any time within each five minutes of the day: a bit for
    -- each, the first one the lowest of the first byte.
    up_slots           BLOB    NOT NULL CHECK (length(up_slots) = 36),
    down_slots         BLOB    NOT NULL CHECK (length(down_slots) = 36),
    -- A day's rows stand together, since they are written and deleted together.
    PRIMARY KEY (day, tunnel_id)
) STRICT, WITHOUT ROWID;
