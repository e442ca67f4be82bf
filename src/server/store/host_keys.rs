//! What each tunnel's bastion knows of the host keys.

use sqlx::SqliteConnection;

use super::{Result, Store, json, now, timestamp};
use crate::protocol::{DataSourceId, TunnelId};
use crate::server::domain::host_keys::{Knowledge, Source};

type Row = (
    TunnelId,
    DataSourceId,
    String,
    Option<String>,
    Option<i64>,
    String,
    String,
    i64,
);

impl Store {
    /// What is known of the enrolled tunnels.
    ///
    /// # Errors
    /// The database failed.
    pub async fn host_key_knowledge(&self) -> Result<Vec<Knowledge>> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT t.id, d.id, d.display_name, t.bastion_hostname, t.last_seen_at, k.fingerprints, k.source, k.at
             FROM known_host_keys AS k JOIN tunnels AS t ON t.id = k.tunnel_id
             JOIN data_sources AS d ON d.id = t.data_source_id
             WHERE t.key_id IS NOT NULL ORDER BY t.id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(knowledge).collect()
    }

    /// Notes of tunnels of which nothing is known that they know these keys: they were enrolled when it was not
    /// kept yet, and there were no others.
    ///
    /// # Errors
    /// The database failed.
    pub async fn assume_host_keys(&self, fingerprints: &[String]) -> Result<()> {
        sqlx::query(
            "INSERT INTO known_host_keys (tunnel_id, fingerprints, source, at)
             SELECT id, ?, ?, enrolled_at FROM tunnels WHERE key_id IS NOT NULL
                 AND id NOT IN (SELECT tunnel_id FROM known_host_keys)",
        )
        .bind(json(fingerprints)?)
        .bind(Source::Assumed.as_str())
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}

/// Notes which keys a tunnel's bastion knows. What it said itself is worth more than that it was told the same.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    tunnel: TunnelId,
    fingerprints: &[String],
    source: Source,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO known_host_keys (tunnel_id, fingerprints, source, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tunnel_id) DO UPDATE SET fingerprints = ?2, source = ?3, at = ?4
         WHERE fingerprints <> ?2 OR source <> 'pinned'",
    )
    .bind(tunnel)
    .bind(json(fingerprints)?)
    .bind(source.as_str())
    .bind(now())
    .execute(connection)
    .await?;
    Ok(())
}

fn knowledge(row: Row) -> Result<Knowledge> {
    let (tunnel_id, data_source_id, display_name, bastion, last_seen, knows, source, at) = row;
    let known = Source::ALL
        .into_iter()
        .find(|known| known.as_str() == source);
    let source =
        known.ok_or_else(|| sqlx::Error::Decode(format!("unknown source {source:?}").into()))?;
    Ok(Knowledge {
        tunnel_id,
        data_source_id,
        display_name,
        bastion: bastion.unwrap_or_default(),
        last_seen: last_seen.map(timestamp),
        knows: serde_json::from_str(&knows).map_err(|error| sqlx::Error::Decode(error.into()))?,
        source,
        at: timestamp(at),
    })
}
