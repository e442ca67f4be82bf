//! What tunnel nodes follow: all keys at once, those that have changed since, and who has taken them over.
//!
//! Each region has its own: a key opens a tunnel there where the tunnel is or is to move. Only PostgreSQL keeps that. A version is given to each change under the write lock, so that they become visible
//! in their order: whoever has seen one has seen all before it.

use std::io;

use super::sql::Port;
use super::{Line, Result, Store};
use crate::protocol::TunnelId;

/// Which keys open a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    pub tunnel: TunnelId,
    /// Its port in the region, and the keys; nothing once the tunnel is removed, or has moved away.
    pub open: Option<OpenTunnel>,
}

/// A tunnel that a key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTunnel {
    pub port: u16,
    pub key: String,
    /// The one that is to take that key's place.
    pub next: Option<String>,
}

/// A state of the keys, or what leads to it.
#[derive(Debug)]
pub struct KeyRows {
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

/// What the database is and knows, and with it a tunnel, if there is one to tell of.
type Row = (
    bool,
    i64,
    Option<TunnelId>,
    Option<Port>,
    Option<String>,
    Option<String>,
    Option<bool>,
);

/// All in one statement, so that the version is that of the rows, and that of nobody else's state. `$1` is the region.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT s.is_standby, s.newest, r.id, r.port, r.key, r.next, r.removed
             FROM (
                 SELECT pg_is_in_recovery() AS is_standby,
                     (SELECT coalesce(max(version), 0) FROM key_changes) AS newest
             ) AS s
             LEFT JOIN (
                 SELECT t.id, k.public_key AS key, n.public_key AS next, t.removed_at IS NOT NULL AS removed,
                     CASE WHEN t.region = $1 THEN t.remote_port WHEN t.next_region = $1 THEN t.next_port END AS port
                 FROM tunnels AS t LEFT JOIN key_changes AS c ON c.tunnel_id = t.id
                 LEFT JOIN keys AS k ON k.id = t.key_id LEFT JOIN keys AS n ON n.id = t.next_key_id
                 WHERE ",
            $which,
            ") AS r ON TRUE"
        )
    };
}

impl Store {
    /// All keys that open a tunnel in this region now.
    pub async fn all_keys(&self, region: &str) -> Result<KeyRows> {
        let select = select!(
            "t.key_id IS NOT NULL AND t.removed_at IS NULL AND (t.region = $1 OR t.next_region = $1)"
        );
        key_rows(self.readers.sql(select).bind(region).all().await?)
    }

    /// What has changed since this version, as it is in this region. Nothing if the database has never had that version, so that it has been
    /// set back.
    pub async fn keys_since(&self, region: &str, version: i64) -> Result<Option<KeyRows>> {
        let select = self.readers.sql(select!("c.version > $2"));
        let changes = key_rows(select.bind(region).bind(version).all().await?)?;
        Ok((changes.version >= version).then_some(changes))
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
            if confirmed {
                confirmations.confirmed_by.push(node);
            } else {
                confirmations.pending_on.push(node);
            }
        }
        Ok(confirmations)
    }
}

impl Line {
    /// Notes that a node has taken over everything up to this version, keeps it and has closed what that forbids.
    /// Returns whether that is noted: a node that is not registered cannot.
    pub async fn confirm_keys(&mut self, node: &str, version: i64) -> Result<bool> {
        let mut connection = self.take().await?;
        let insert = Line::sql(
            &mut connection,
            "INSERT INTO key_confirmations (node, version) SELECT name, $2 FROM nodes WHERE name = $1
             ON CONFLICT (node) DO UPDATE SET version = excluded.version",
        )
        .bind(node)
        .bind(version);
        let noted = self.bounded(insert.execute()).await?;
        self.put_back(connection);
        Ok(noted > 0)
    }
}

/// A standby may be behind its primary for as long as it likes, and does not know it: what it says is of no moment that
/// anybody could name.
fn key_rows(rows: Vec<Row>) -> Result<KeyRows> {
    let (is_standby, version) = rows.first().map_or((false, 0), |(is_standby, newest, ..)| {
        (*is_standby, *newest)
    });
    if is_standby {
        let why = io::Error::other("it is a standby, which need not know the newest keys");
        return Err(sqlx::Error::Io(why).into());
    }
    Ok(KeyRows {
        version,
        rows: rows.into_iter().filter_map(row).collect(),
    })
}

fn row((_, _, tunnel, port, key, next, removed): Row) -> Option<KeyRow> {
    let open = match (port, key) {
        (Some(Port(port)), Some(key)) if removed == Some(false) => {
            Some(OpenTunnel { port, key, next })
        }
        _ => None,
    };
    let tunnel = tunnel?;
    Some(KeyRow { tunnel, open })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::TestStore;

    const HERE: &str = "default";

    async fn with_a_tunnel() -> Option<TestStore> {
        let kept = TestStore::on_postgres().await?;
        kept.execute(
            "INSERT INTO data_sources (display_name, database_type, host, port, created_at)
                 VALUES ('Sales', 'mysql', 'db', 3306, 0);
             INSERT INTO keys (public_key, created_at) VALUES ('ssh-ed25519 AAAA', 0);
             INSERT INTO tunnels (data_source_id) VALUES (1);
             UPDATE tunnels SET key_id = 1, remote_port = 20001, enrolled_at = 0, enrolled_with = ''",
        )
        .await;
        Some(kept)
    }

    #[tokio::test]
    async fn what_has_changed_since_a_version_comes_with_the_version_that_it_leads_to() {
        let Some(kept) = with_a_tunnel().await else {
            return;
        };
        let all = kept.store.all_keys(HERE).await.unwrap();
        assert_eq!(all.rows.len(), 1);
        let open = all.rows[0].open.as_ref().unwrap();
        assert_eq!((open.port, open.key.as_str()), (20_001, "ssh-ed25519 AAAA"));
        let none = kept
            .store
            .keys_since(HERE, all.version)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((none.version, none.rows.len()), (all.version, 0));
        kept.execute("UPDATE tunnels SET key_id = NULL, removed_at = 1")
            .await;
        let since = kept
            .store
            .keys_since(HERE, all.version)
            .await
            .unwrap()
            .unwrap();
        assert!(since.version > all.version);
        let (tunnel, open) = (TunnelId(1), None);
        assert_eq!(since.rows, [KeyRow { tunnel, open }]);
        let ahead = since.version + 1;
        assert!(kept.store.keys_since(HERE, ahead).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_standby_says_of_the_keys_is_not_taken_for_the_present() {
        let Some(kept) = with_a_tunnel().await else {
            return;
        };
        kept.execute(
            "CREATE FUNCTION pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT TRUE';
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database());
             END $$",
        )
        .await;
        let refused = kept.store.all_keys(HERE).await.unwrap_err();
        assert!(refused.is_outage());
        assert!(format!("{:#}", anyhow::Error::from(refused)).contains("standby"));
        assert!(kept.store.keys_since(HERE, 0).await.is_err());
    }
}
