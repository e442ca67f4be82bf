//! What tunnel nodes follow: all keys at once, those that have changed since, and who has taken them over.
//!
//! Only PostgreSQL keeps that. A version is given to each change under the write lock, so that they become visible
//! in their order: whoever has seen one has seen all before it.

use super::sql::Port;
use super::{Result, Store};
use crate::protocol::TunnelId;

/// Which keys open a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Which tunnel.
    pub tunnel: TunnelId,
    /// Its port, and the keys; nothing once the tunnel is removed.
    pub open: Option<OpenTunnel>,
}

/// A tunnel that a key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTunnel {
    /// Its port.
    pub port: u16,
    /// Its key.
    pub key: String,
    /// The one that is to take that key's place.
    pub next: Option<String>,
}

/// A state of the keys, or what leads to it.
#[derive(Debug)]
pub struct KeyRows {
    /// Which one.
    pub version: i64,
    /// All tunnels that a key opens, or those that have changed.
    pub rows: Vec<KeyRow>,
}

/// Which tunnel nodes have taken over the last change of a tunnel's keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Confirmations {
    /// Those that have, by their names.
    pub confirmed_by: Vec<String>,
    /// Those that have yet to.
    pub pending_on: Vec<String>,
}

type Row = (
    TunnelId,
    Option<Port>,
    Option<String>,
    Option<String>,
    bool,
    i64,
);

const SELECT: &str =
    "SELECT t.id, t.remote_port, k.public_key, n.public_key, t.removed_at IS NOT NULL,
         coalesce(c.version, 0)
     FROM tunnels AS t LEFT JOIN key_changes AS c ON c.tunnel_id = t.id
     LEFT JOIN keys AS k ON k.id = t.key_id LEFT JOIN keys AS n ON n.id = t.next_key_id";

impl Store {
    /// All keys that open a tunnel now.
    pub async fn all_keys(&self) -> Result<KeyRows> {
        // Read before the rows: what changes in between comes again with the next changes.
        let version = self.key_version().await?;
        let text = format!("{SELECT} WHERE t.key_id IS NOT NULL AND t.removed_at IS NULL");
        let rows: Vec<Row> = self.readers.sql(text).all().await?;
        let rows = rows.into_iter().map(row).collect();
        Ok(KeyRows { version, rows })
    }

    /// What has changed since this version. Nothing if the database has never had that version, so that it has been
    /// set back.
    pub async fn keys_since(&self, version: i64) -> Result<Option<KeyRows>> {
        let text = format!("{SELECT} WHERE c.version > $1");
        let rows: Vec<Row> = self.readers.sql(text).bind(version).all().await?;
        let newest = rows.iter().map(|(.., version)| *version).max();
        if newest.is_none() && self.key_version().await? < version {
            return Ok(None);
        }
        Ok(Some(KeyRows {
            version: newest.unwrap_or(version),
            rows: rows.into_iter().map(row).collect(),
        }))
    }

    async fn key_version(&self) -> Result<i64> {
        self.readers
            .sql("SELECT coalesce(max(version), 0) FROM key_changes")
            .value()
            .await
    }

    /// Notes that a node has taken over everything up to this version, and closed what that forbids. It takes no
    /// lock. Returns whether that is noted: a node that is not registered cannot.
    pub async fn confirm_keys(&self, node: &str, version: i64) -> Result<bool> {
        let noted = self
            .writer
            .sql(
                "INSERT INTO key_confirmations (node, version) SELECT name, $2 FROM nodes WHERE name = $1
             ON CONFLICT (node) DO UPDATE SET version = excluded.version",
            )
            .bind(node)
            .bind(version)
            .execute()
            .await?;
        Ok(noted > 0)
    }

    /// Which of the nodes that run have taken over the last change of a tunnel's keys; none if there was no change.
    pub async fn key_confirmations(&self, tunnel: TunnelId) -> Result<Confirmations> {
        let rows: Vec<(String, bool)> = self
            .readers
            .sql(
                "SELECT n.name, coalesce(k.version >= c.version, FALSE) FROM key_changes AS c
             CROSS JOIN nodes AS n LEFT JOIN key_confirmations AS k ON k.node = n.name
             WHERE c.tunnel_id = $1 AND n.role <> 'web' AND n.state <> 'stopped' ORDER BY n.name",
            )
            .bind(tunnel)
            .all()
            .await?;
        let mut confirmations = Confirmations::default();
        for (node, confirmed) in rows {
            match confirmed {
                true => confirmations.confirmed_by.push(node),
                false => confirmations.pending_on.push(node),
            }
        }
        Ok(confirmations)
    }
}

fn row((tunnel, port, key, next, removed, _): Row) -> KeyRow {
    let open = match (port, key) {
        (Some(Port(port)), Some(key)) if !removed => Some(OpenTunnel { port, key, next }),
        _ => None,
    };
    KeyRow { tunnel, open }
}
