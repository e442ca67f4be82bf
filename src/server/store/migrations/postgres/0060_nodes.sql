-- Several servers on one database, which only PostgreSQL has: SQLite has no such tables.

-- A server that runs, or ran, on this database. Nothing here depends on a node's clock.
CREATE TABLE nodes (
    name         TEXT COLLATE "C" PRIMARY KEY,
    region       TEXT COLLATE "C" NOT NULL,
    role         TEXT   NOT NULL CHECK (role IN ('web', 'tunnel', 'all')),
    -- A new one at each start of any node: what an older one wrote is void.
    epoch        BIGINT NOT NULL UNIQUE,
    version      TEXT   NOT NULL,
    -- Where other nodes reach it, and the SHA-256 hash of the certificate that it shows there; absent for one that holds no
    -- tunnels.
    peer_address TEXT,
    certificate  BYTEA,
    state        TEXT   NOT NULL CHECK (state IN ('up', 'draining', 'stopped')),
    -- Counts up while it lives. Its value says nothing: only whether it moves.
    beat         BIGINT NOT NULL,
    -- Which version of its sessions stands below: others read them again when it is another one.
    facts        BIGINT NOT NULL DEFAULT 0,
    -- Whether another node has found it dead, and deleted its sessions. If it lives, it writes them again.
    found_dead   BOOLEAN NOT NULL DEFAULT FALSE,
    -- Whether somebody asked it to drain.
    drain_asked  BOOLEAN NOT NULL DEFAULT FALSE,
    started_at   BIGINT NOT NULL,
    CHECK ((peer_address IS NULL) = (certificate IS NULL))
);

CREATE SEQUENCE node_epochs;

-- Who holds which tunnel, as the nodes say. A row counts while its node lives and has this epoch.
CREATE TABLE sessions (
    node       TEXT COLLATE "C" NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
    epoch      BIGINT NOT NULL,
    -- No reference: one row that cannot be written would keep back those that are written with it.
    tunnel_id  BIGINT NOT NULL,
    since      BIGINT NOT NULL,
    -- The address that the bastion came from, and the key that it has proved.
    bastion    TEXT   NOT NULL,
    public_key TEXT   NOT NULL,
    -- The version of the node's sessions with which it was written.
    version    BIGINT NOT NULL,
    PRIMARY KEY (node, tunnel_id)
);

CREATE INDEX sessions_tunnel ON sessions (tunnel_id);

-- What tunnel nodes know of keys: when which tunnel's keys or port changed last. Versions come in the order of the commits,
-- since whoever writes here holds the write lock.
CREATE SEQUENCE key_versions;

CREATE TABLE key_changes (
    tunnel_id BIGINT PRIMARY KEY REFERENCES tunnels (id),
    version   BIGINT NOT NULL UNIQUE
);

-- Up to which version each node has taken the changes over, and closed what they forbid.
CREATE TABLE key_confirmations (
    node    TEXT COLLATE "C" PRIMARY KEY REFERENCES nodes (name) ON DELETE CASCADE,
    version BIGINT NOT NULL
);

-- A trigger, so that no way of changing a key can be forgotten. What is told in one transaction with one text is told once.
CREATE FUNCTION note_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO key_changes (tunnel_id, version) VALUES (NEW.id, nextval('key_versions'))
        ON CONFLICT (tunnel_id) DO UPDATE SET version = excluded.version;
    PERFORM pg_notify('holistics_tunnel_keys', '');
    RETURN NULL;
END $$;

CREATE TRIGGER tunnels_keys AFTER UPDATE OF key_id, next_key_id, remote_port, removed_at ON tunnels
    FOR EACH ROW WHEN (
        (OLD.key_id, OLD.next_key_id, OLD.remote_port, OLD.removed_at)
            IS DISTINCT FROM (NEW.key_id, NEW.next_key_id, NEW.remote_port, NEW.removed_at)
    ) EXECUTE FUNCTION note_key_change();

-- The data sources to which something happened; all of them where they are too many for a message.
CREATE FUNCTION tell_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    concerned TEXT;
BEGIN
    SELECT string_agg(DISTINCT data_source_id::text, ',') INTO concerned FROM added;
    IF concerned IS NOT NULL THEN
        PERFORM pg_notify('holistics_tunnel_changes', CASE WHEN length(concerned) < 7000 THEN concerned ELSE '*' END);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER events_told AFTER INSERT ON events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION tell_events();

-- Something that only the holder of secret.key can make, so that a node with another one is refused.
CREATE TABLE secret_mark (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    mark BYTEA   NOT NULL
);

-- Each node writes days of its own: a tunnel that was on two of them on one day has a row of each.
ALTER TABLE tunnel_days ADD COLUMN node TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE tunnel_days DROP CONSTRAINT tunnel_days_pkey;
ALTER TABLE tunnel_days ADD PRIMARY KEY (day, tunnel_id, node);

-- Somebody may not do any more what he might: open streams at all nodes look again.
CREATE FUNCTION tell_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('holistics_tunnel_access', '');
    RETURN NULL;
END $$;

CREATE TRIGGER operators_access AFTER UPDATE OF disabled_at OR DELETE ON operators
    FOR EACH STATEMENT EXECUTE FUNCTION tell_access();

CREATE TRIGGER browser_sessions_access AFTER DELETE ON browser_sessions
    FOR EACH ROW EXECUTE FUNCTION tell_access();

CREATE TRIGGER tokens_access AFTER UPDATE OF revoked_at ON tokens
    FOR EACH ROW WHEN (OLD.kind = 'operator' AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION tell_access();
