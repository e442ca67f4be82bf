-- Who enrolled: the address that the request came from, or the operator who registered the key.
ALTER TABLE tunnels ADD COLUMN enrolled_from TEXT;
ALTER TABLE tunnels ADD COLUMN registered_by TEXT;
-- When it became known that a person sets the tunnel up, and no program of ours reports its service.
ALTER TABLE tunnels ADD COLUMN by_hand_at INTEGER;
