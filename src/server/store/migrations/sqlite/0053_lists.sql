-- A name as it is searched for, which SQL cannot make of it: see folded.rs. NULL in what an older version
-- wrote, until the server has started once.
ALTER TABLE data_sources ADD COLUMN folded_name TEXT;
CREATE INDEX data_sources_not_folded ON data_sources (id) WHERE folded_name IS NULL;

-- All that a list is searched and filtered by, so that looking through it reads no row that is not shown.
CREATE INDEX data_sources_listed ON data_sources
    (id, saved_at, removing_at, database_type, folded_name, host) WHERE removed_at IS NULL;
CREATE INDEX tunnels_listed ON tunnels (data_source_id, service_installed_at, remote_port);

-- What is looked at every half a minute: the few tunnels that change keys.
CREATE INDEX tunnels_next_key_seen ON tunnels (next_key_seen_at) WHERE next_key_seen_at IS NOT NULL;
