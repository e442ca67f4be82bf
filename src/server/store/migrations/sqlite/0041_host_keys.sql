-- Which of the server's host keys a tunnel's bastion knows, as a JSON array of SHA-256 fingerprints.
CREATE TABLE known_host_keys (
    tunnel_id    INTEGER PRIMARY KEY REFERENCES tunnels (id),
    fingerprints TEXT    NOT NULL,
    -- assumed: it was enrolled before this was kept; told: with the answer to its enrollment; pinned: it said so.
    source       TEXT    NOT NULL CHECK (source IN ('assumed', 'told', 'pinned')),
    at           INTEGER NOT NULL
) STRICT;
