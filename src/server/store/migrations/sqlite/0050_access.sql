-- Whose entry it is, so that nobody's entries push out another's: see audit.rs for the bounds.
ALTER TABLE audit_log ADD COLUMN source_kind TEXT NOT NULL DEFAULT 'operator'
    CHECK (source_kind IN ('operator', 'command_line', 'api_token', 'bastion', 'server', 'stranger'));
ALTER TABLE audit_log ADD COLUMN source TEXT NOT NULL DEFAULT '';

-- Until now an entry had a name alone. Where an operator and a token share one, it is kept as the operator's.
UPDATE audit_log SET
    source_kind = CASE
        WHEN actor IN ('server''s command line', 'command line', 'host-key command') THEN 'command_line'
        WHEN actor = 'bastion' THEN 'bastion'
        WHEN actor IN (SELECT name FROM tokens WHERE kind = 'operator')
            AND actor NOT IN (SELECT name FROM operators) THEN 'api_token'
        ELSE 'operator'
    END;
UPDATE audit_log SET
    source = CASE source_kind
        WHEN 'command_line' THEN ''
        WHEN 'bastion' THEN coalesce((
            SELECT CAST(id AS TEXT) FROM tunnels
            WHERE data_source_id = CAST(substr(subject, length('data source ') + 1) AS INTEGER)
        ), '')
        ELSE actor
    END;

CREATE INDEX audit_log_source ON audit_log (source_kind, source, id);
CREATE INDEX audit_log_kind ON audit_log (source_kind, id);

-- A disabled operator keeps name and password, and gets in nowhere.
ALTER TABLE operators ADD COLUMN disabled_at INTEGER;
ALTER TABLE operators ADD COLUMN signed_in_at INTEGER;

-- What an API token may do, who made it, and when it was last used. One without an operator was made at the
-- command line, or before this was kept.
ALTER TABLE tokens ADD COLUMN scope TEXT CHECK (scope IN ('read', 'operate'));
ALTER TABLE tokens ADD COLUMN made_by TEXT;
ALTER TABLE tokens ADD COLUMN operator_id INTEGER REFERENCES operators (id);
ALTER TABLE tokens ADD COLUMN last_used_at INTEGER;
UPDATE tokens SET scope = 'operate' WHERE kind = 'operator';
CREATE INDEX tokens_operator ON tokens (operator_id) WHERE operator_id IS NOT NULL;
