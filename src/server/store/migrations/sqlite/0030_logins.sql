-- A data source without a row in tunnels is reached directly.

-- Logins to the databases. A password is encrypted with a key that is not in the database, and bound
-- to the place, user and TLS mode that it was given for.
CREATE TABLE logins (
    data_source_id INTEGER PRIMARY KEY REFERENCES data_sources (id),
    database       TEXT    NOT NULL,
    username       TEXT    NOT NULL,
    tls            TEXT    NOT NULL,
    host           TEXT    NOT NULL,
    port           INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    password       BLOB
) STRICT;
