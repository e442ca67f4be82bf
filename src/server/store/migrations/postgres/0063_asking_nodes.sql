-- Also a node that other nodes cannot reach passes connections on to them, if only to test one: they have to know its
-- certificate.
ALTER TABLE nodes DROP CONSTRAINT nodes_check;
ALTER TABLE nodes ADD CONSTRAINT nodes_peer CHECK (peer_address IS NULL OR certificate IS NOT NULL);
