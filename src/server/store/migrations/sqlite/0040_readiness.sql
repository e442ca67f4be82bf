-- One row, written to see whether the database can be.
CREATE TABLE readiness (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
