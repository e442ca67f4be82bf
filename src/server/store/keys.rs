//! Enrolled keys, what the tunnel server asks about them, and how one takes another's place.
//!
//! While a tunnel's key is changed, both keys open it. The old one goes when the bastion confirms
//! the new one, or a bounded time after the new one was first seen with the port: whichever key the
//! bastion was left with when a change died half-way, its tunnel comes up.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::data_sources::staying;
use super::events::{self, EventKind};
use super::tunnels::{BASTION, by_tunnel};
use super::{Result, Store, StoreError, now};
use crate::protocol::{DataSourceId, TunnelId};
use crate::server::tunnel_server::{Grant, KeyAuthority};

#[async_trait]
impl KeyAuthority for Store {
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>> {
        let rows: Vec<(TunnelId, u16, bool)> = sqlx::query_as(
            "SELECT t.id, t.remote_port, coalesce(t.next_key_id = k.id, FALSE)
             FROM keys AS k JOIN tunnels AS t ON k.id IN (t.key_id, t.next_key_id)
             WHERE k.public_key = ? AND t.removed_at IS NULL",
        )
        .bind(public_key)
        .fetch_all(&self.readers)
        .await?;
        let grants = rows.into_iter().map(|(tunnel_id, port, replaces)| Grant {
            tunnel_id,
            port,
            replaces,
        });
        Ok(grants.collect())
    }
}

/// The row of a key.
#[derive(Clone, Copy, sqlx::Type)]
#[sqlx(transparent)]
pub(super) struct KeyId(i64);

/// A tunnel's keys.
struct Keys {
    current: Option<String>,
    next: Option<String>,
    /// Whether the next one has held the port.
    next_seen: bool,
}

impl Store {
    /// Announces a new key for a tunnel, beside the one it has. The present key again takes back an
    /// announcement. Returns whether two keys open the tunnel now, and the data source if anything
    /// changed.
    ///
    /// # Errors
    /// The key belongs to another bastion's tunnel, no bastion has enrolled, the data source is
    /// leaving, or the database failed.
    pub async fn announce_key(
        &self,
        tunnel: TunnelId,
        public_key: &str,
    ) -> Result<(bool, Option<DataSourceId>)> {
        let mut tx = self.write().await?;
        let record = staying(by_tunnel(&mut tx, tunnel).await?)?;
        if !record.is_enrolled() {
            return Err(StoreError::WrongState(record.state(false)));
        }
        let keys = keys_of(&mut tx, tunnel).await?;
        let is = |key: &Option<String>| key.as_deref() == Some(public_key);
        if is(&keys.next) {
            return Ok((true, None));
        }
        if is(&keys.current) {
            if keys.next.is_none() {
                return Ok((false, None));
            }
            replace_next(&mut tx, tunnel, None).await?;
        } else {
            if is_strangers(&mut tx, tunnel, public_key).await? {
                return Err(StoreError::KeyOfAnother);
            }
            // One that has held the port is what the bastion uses by now.
            if keys.next_seen {
                promote(&mut tx, tunnel).await?;
            }
            let next = id_of(&mut tx, public_key).await?;
            replace_next(&mut tx, tunnel, Some(next)).await?;
        }
        events::record(&mut tx, record.id, EventKind::KeyAnnounced, BASTION).await?;
        tx.commit().await?;
        Ok((!is(&keys.current), Some(record.id)))
    }

    /// Ends the time of the old key, which opens the tunnel no more. The caller has made sure that
    /// the new one holds the port. Returns the data source if anything changed.
    ///
    /// # Errors
    /// The key was not announced, the tunnel is removed, or the database failed.
    pub async fn confirm_key(
        &self,
        tunnel: TunnelId,
        public_key: &str,
    ) -> Result<Option<DataSourceId>> {
        let mut tx = self.write().await?;
        let record = super::data_sources::present(by_tunnel(&mut tx, tunnel).await?)?;
        let keys = keys_of(&mut tx, tunnel).await?;
        if keys.next.as_deref() == Some(public_key) {
            promote(&mut tx, tunnel).await?;
            events::record(&mut tx, record.id, EventKind::KeyChanged, BASTION).await?;
            tx.commit().await?;
            return Ok(Some(record.id));
        }
        match keys.current.as_deref() == Some(public_key) && keys.next.is_none() {
            true => Ok(None),
            false => Err(StoreError::KeyConflict),
        }
    }

    /// Ends the time of every old key whose successor was first seen so long ago. Returns the
    /// tunnels with the key that is left to each, and their data sources.
    ///
    /// # Errors
    /// The database failed.
    pub async fn end_key_overlaps(
        &self,
        overlap: Duration,
    ) -> Result<Vec<(TunnelId, DataSourceId, String)>> {
        let overlap = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX);
        let due: Vec<(TunnelId, DataSourceId, String)> = sqlx::query_as(
            "SELECT t.id, t.data_source_id, k.public_key FROM tunnels AS t
             JOIN keys AS k ON k.id = t.next_key_id WHERE t.next_key_seen_at <= ?",
        )
        .bind(now().saturating_sub(overlap))
        .fetch_all(&self.readers)
        .await?;
        let mut ended = Vec::new();
        for (tunnel, data_source, key) in due {
            let mut tx = self.write().await?;
            if keys_of(&mut tx, tunnel).await?.next.as_ref() != Some(&key) {
                continue;
            }
            promote(&mut tx, tunnel).await?;
            let kind = EventKind::KeyChanged;
            events::record(&mut tx, data_source, kind, super::tunnels::TUNNEL_SERVER).await?;
            tx.commit().await?;
            ended.push((tunnel, data_source, key));
        }
        Ok(ended)
    }
}

/// Notes which keys that are to take another's place have held their ports, and since when. `notes`
/// are those of [`Store::note_sessions`], as JSON.
pub(super) async fn note_in_use(connection: &mut SqliteConnection, notes: &str) -> Result<()> {
    sqlx::query(
        "UPDATE tunnels SET next_key_seen_at = held.at
         FROM (SELECT value ->> 'tunnel' AS tunnel, value ->> 'holder_key' AS public_key,
                      min(value ->> 'at') AS at
               FROM json_each(?) GROUP BY 1, 2) AS held
         JOIN keys AS k ON k.public_key = held.public_key
         WHERE tunnels.id = held.tunnel AND tunnels.next_key_id = k.id
             AND tunnels.next_key_seen_at IS NULL",
    )
    .bind(notes)
    .execute(connection)
    .await?;
    Ok(())
}

async fn keys_of(connection: &mut SqliteConnection, tunnel: TunnelId) -> Result<Keys> {
    let (current, next, next_seen) = sqlx::query_as(
        "SELECT k.public_key, n.public_key, t.next_key_seen_at IS NOT NULL FROM tunnels AS t
         LEFT JOIN keys AS k ON k.id = t.key_id LEFT JOIN keys AS n ON n.id = t.next_key_id
         WHERE t.id = ?",
    )
    .bind(tunnel)
    .fetch_one(connection)
    .await?;
    Ok(Keys {
        current,
        next,
        next_seen,
    })
}

/// Whether a tunnel has this key that has nothing to do with this one. One bastion's tunnels share
/// a key and change it one after another: they have this tunnel's key, or had it before.
async fn is_strangers(
    connection: &mut SqliteConnection,
    tunnel: TunnelId,
    public_key: &str,
) -> Result<bool> {
    let found = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT 1 FROM keys AS k JOIN tunnels AS t ON k.id IN (t.key_id, t.next_key_id)
             JOIN tunnels AS own ON own.id = ?1
             JOIN keys AS own_key ON own_key.id = own.key_id
             WHERE k.public_key = ?2 AND t.id <> ?1
                 AND t.key_id <> own.key_id AND t.former_key IS NOT own_key.public_key
         )",
    )
    .bind(tunnel)
    .bind(public_key)
    .fetch_one(connection)
    .await?;
    Ok(found)
}

async fn replace_next(
    connection: &mut SqliteConnection,
    tunnel: TunnelId,
    next: Option<KeyId>,
) -> Result<()> {
    let dropped: Option<KeyId> = sqlx::query_scalar("SELECT next_key_id FROM tunnels WHERE id = ?")
        .bind(tunnel)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query("UPDATE tunnels SET next_key_id = ?, next_key_seen_at = NULL WHERE id = ?")
        .bind(next)
        .bind(tunnel)
        .execute(&mut *connection)
        .await?;
    match dropped {
        Some(key) => forget_if_unused(connection, key).await,
        None => Ok(()),
    }
}

/// The next key becomes the only one.
async fn promote(connection: &mut SqliteConnection, tunnel: TunnelId) -> Result<()> {
    let old: Option<KeyId> = sqlx::query_scalar("SELECT key_id FROM tunnels WHERE id = ?")
        .bind(tunnel)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE tunnels SET former_key = (SELECT public_key FROM keys WHERE id = key_id),
             key_id = next_key_id, next_key_id = NULL, next_key_seen_at = NULL
         WHERE id = ? AND next_key_id IS NOT NULL",
    )
    .bind(tunnel)
    .execute(&mut *connection)
    .await?;
    match old {
        Some(key) => forget_if_unused(connection, key).await,
        None => Ok(()),
    }
}

/// The row of a key, made if it is new.
pub(super) async fn id_of(connection: &mut SqliteConnection, public_key: &str) -> Result<KeyId> {
    sqlx::query("INSERT INTO keys (public_key, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(public_key)
        .bind(now())
        .execute(&mut *connection)
        .await?;
    let id = sqlx::query_scalar("SELECT id FROM keys WHERE public_key = ?")
        .bind(public_key)
        .fetch_one(connection)
        .await?;
    Ok(id)
}

/// Takes all keys from a tunnel that is removed.
pub(super) async fn forget_all(connection: &mut SqliteConnection, tunnel: TunnelId) -> Result<()> {
    let (key, next): (Option<KeyId>, Option<KeyId>) =
        sqlx::query_as("SELECT key_id, next_key_id FROM tunnels WHERE id = ?")
            .bind(tunnel)
            .fetch_one(&mut *connection)
            .await?;
    sqlx::query(
        "UPDATE tunnels SET key_id = NULL, next_key_id = NULL, next_key_seen_at = NULL,
             former_key = NULL, removed_at = ? WHERE id = ?",
    )
    .bind(now())
    .bind(tunnel)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM known_host_keys WHERE tunnel_id = ?")
        .bind(tunnel)
        .execute(&mut *connection)
        .await?;
    for key in [key, next].into_iter().flatten() {
        forget_if_unused(connection, key).await?;
    }
    Ok(())
}

/// Forgets a key that no tunnel uses any more.
async fn forget_if_unused(connection: &mut SqliteConnection, key: KeyId) -> Result<()> {
    sqlx::query(
        "DELETE FROM keys WHERE id = ?1 AND NOT EXISTS
             (SELECT 1 FROM tunnels WHERE ?1 IN (key_id, next_key_id))",
    )
    .bind(key)
    .execute(connection)
    .await?;
    Ok(())
}
