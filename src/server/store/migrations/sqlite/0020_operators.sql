-- People who sign in with a browser.
CREATE TABLE operators (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    -- Argon2id in PHC form; absent for one who signs in by links alone.
    password_hash TEXT,
    created_at    INTEGER NOT NULL
) STRICT;

-- Sign-in links and sessions hold 256 random bits, so their SHA-256 hash is enough.
CREATE TABLE login_links (
    hash        BLOB    PRIMARY KEY,
    operator_id INTEGER NOT NULL REFERENCES operators (id),
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE browser_sessions (
    hash        BLOB    PRIMARY KEY,
    operator_id INTEGER NOT NULL REFERENCES operators (id),
    created_at  INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL
) STRICT;

-- What a command's token is derived from, together with the secret key, which is not in the database.
-- So the page can show the command again, and the database alone gives no token away.
ALTER TABLE tokens ADD COLUMN seed BLOB;
