-- What callers called their requests for a data source, so that a repeated one gets the same answer. The answer itself is
-- not kept: it is made anew from the data source, and the token in it from its seed.
CREATE TABLE idempotency_keys (
    -- The credential or the account that chose the key.
    caller         TEXT    NOT NULL,
    key            TEXT    NOT NULL,
    -- The SHA-256 hash of what was asked for.
    request        BLOB    NOT NULL,
    data_source_id INTEGER NOT NULL REFERENCES data_sources (id),
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT;

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
