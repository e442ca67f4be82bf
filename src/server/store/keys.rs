//! Enrolled keys, and what the tunnel server asks about them.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{Result, Store, now};
use crate::server::tunnel_server::{Grant, KeyAuthority};

#[async_trait]
impl KeyAuthority for Store {
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>> {
        let rows: Vec<(i64, u16)> = sqlx::query_as(
            "SELECT t.id, t.remote_port FROM keys AS k JOIN tunnels AS t ON t.key_id = k.id
             WHERE k.public_key = ? AND t.removed_at IS NULL",
        )
        .bind(public_key)
        .fetch_all(&self.readers)
        .await?;
        let grants = rows
            .into_iter()
            .map(|(tunnel_id, port)| Grant { tunnel_id, port });
        Ok(grants.collect())
    }
}

/// The row of a key, made if it is new.
pub(super) async fn id_of(connection: &mut SqliteConnection, public_key: &str) -> Result<i64> {
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

/// Forgets a key that no tunnel uses any more.
pub(super) async fn forget_if_unused(connection: &mut SqliteConnection, key: i64) -> Result<()> {
    sqlx::query(
        "DELETE FROM keys WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM tunnels WHERE key_id = ?1)",
    )
    .bind(key)
    .execute(connection)
    .await?;
    Ok(())
}
