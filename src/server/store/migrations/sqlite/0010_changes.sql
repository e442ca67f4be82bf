-- What the bastion forwards to, as it reported it; the data source's host and port may be newer.
ALTER TABLE tunnels ADD COLUMN applied_host TEXT;
ALTER TABLE tunnels ADD COLUMN applied_port INTEGER CHECK (applied_port BETWEEN 1 AND 65535);

-- Until now the bastion's service was set up for the target that was entered.
UPDATE tunnels SET
    applied_host = (SELECT host FROM data_sources WHERE id = tunnels.data_source_id),
    applied_port = (SELECT port FROM data_sources WHERE id = tunnels.data_source_id)
WHERE service_installed_at IS NOT NULL AND removed_at IS NULL;

-- A key that is to take the place of key_id. Both are accepted until the bastion confirms the new
-- one, or until a bounded time after the new one was first seen with the port.
ALTER TABLE tunnels ADD COLUMN next_key_id INTEGER REFERENCES keys (id);
ALTER TABLE tunnels ADD COLUMN next_key_seen_at INTEGER;
-- The key before the present one. It opens nothing; it shows which tunnels change keys together.
ALTER TABLE tunnels ADD COLUMN former_key TEXT;

CREATE INDEX tunnels_next_key ON tunnels (next_key_id);
