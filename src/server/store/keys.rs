//! Enrolled keys: which opens which tunnel, and which is to take its place.

use std::time::Duration;

use super::sql::Port;
use super::{Result, Store, Writing, milliseconds};
use crate::protocol::{DataSourceId, TunnelId};

/// A port that a key may listen on.
#[derive(Debug)]
pub struct GrantRow {
    /// The tunnel it belongs to.
    pub tunnel: TunnelId,
    pub port: u16,
    /// Whether the key is to take the present one's place.
    pub replaces: bool,
}

#[derive(Debug)]
pub struct TunnelKeys {
    /// The one that is enrolled.
    pub current: Option<String>,
    /// The one that is to take its place.
    pub next: Option<String>,
    /// Whether the next one has held the port.
    pub next_seen: bool,
}

/// The row of a key.
#[derive(Clone, Copy, sqlx::Type)]
#[sqlx(transparent)]
pub(super) struct KeyId(i64);

impl Store {
    /// What a key opens; nothing if it is not enrolled. Each login asks, so it is two look-ups: with `IN` the
    /// database would read all tunnels through.
    pub async fn grants(&self, public_key: &str) -> Result<Vec<GrantRow>> {
        let rows: Vec<(TunnelId, Port, bool)> = self
            .readers
            .sql(
                "SELECT t.id, t.remote_port, coalesce(t.next_key_id = k.id, FALSE)
             FROM keys AS k JOIN tunnels AS t ON t.key_id = k.id OR t.next_key_id = k.id
             WHERE k.public_key = $1 AND t.removed_at IS NULL",
            )
            .bind(public_key)
            .all()
            .await?;
        let grant = |(tunnel, Port(port), replaces)| GrantRow {
            tunnel,
            port,
            replaces,
        };
        Ok(rows.into_iter().map(grant).collect())
    }

    /// The tunnels whose next key was first seen this long ago, or longer, with their data sources and that key.
    pub async fn next_keys_seen_for(
        &self,
        span: Duration,
    ) -> Result<Vec<(TunnelId, DataSourceId, String)>> {
        let rows = self
            .readers
            .sql(
                "SELECT t.id, t.data_source_id, k.public_key FROM tunnels AS t
             JOIN keys AS k ON k.id = t.next_key_id WHERE t.next_key_seen_at <= now_ms() - $1",
            )
            .bind(milliseconds(span))
            .all()
            .await?;
        Ok(rows)
    }
}

impl Writing {
    pub async fn keys(&mut self, tunnel: TunnelId) -> Result<TunnelKeys> {
        let (current, next, next_seen) = self.sql(
            "SELECT k.public_key, n.public_key, t.next_key_seen_at IS NOT NULL FROM tunnels AS t
             LEFT JOIN keys AS k ON k.id = t.key_id LEFT JOIN keys AS n ON n.id = t.next_key_id
             WHERE t.id = $1",
        )
        .bind(tunnel)
        .one()
        .await?;
        Ok(TunnelKeys {
            current,
            next,
            next_seen,
        })
    }

    /// Whether a tunnel has this key that has nothing to do with this one. One bastion's tunnels share
    /// a key and change it one after another: they have this tunnel's key, or had it before.
    pub async fn belongs_to_other_bastion(
        &mut self,
        tunnel: TunnelId,
        public_key: &str,
    ) -> Result<bool> {
        let found = self.sql(
            "SELECT EXISTS (
                 SELECT 1 FROM keys AS k JOIN tunnels AS t ON t.key_id = k.id OR t.next_key_id = k.id
                 JOIN tunnels AS own ON own.id = $1
                 JOIN keys AS own_key ON own_key.id = own.key_id
                 WHERE k.public_key = $2 AND t.id <> $1
                     AND t.key_id <> own.key_id AND t.former_key IS DISTINCT FROM own_key.public_key
             )",
        )
        .bind(tunnel)
        .bind(public_key)
        .value()
        .await?;
        Ok(found)
    }

    /// The data sources whose tunnels this key opens, but for this tunnel's own, with their names.
    pub async fn others_with_key(
        &mut self,
        tunnel: TunnelId,
        public_key: &str,
    ) -> Result<Vec<(DataSourceId, String)>> {
        let rows = self
            .sql(
                "SELECT d.id, d.display_name FROM keys AS k
             JOIN tunnels AS t ON k.id IN (t.key_id, t.next_key_id)
             JOIN data_sources AS d ON d.id = t.data_source_id
             WHERE k.public_key = $1 AND t.id <> $2 ORDER BY d.id",
            )
            .bind(public_key)
            .bind(tunnel)
            .all()
            .await?;
        Ok(rows)
    }

    /// Gives an enrolled tunnel another key at once, which this operator has registered.
    pub async fn replace_key(
        &mut self,
        tunnel: TunnelId,
        public_key: &str,
        operator: &str,
    ) -> Result<()> {
        let (old, next) = self.key_ids(tunnel).await?;
        let key = self.key_id(public_key).await?;
        self.sql(
            "UPDATE tunnels SET key_id = $1, next_key_id = NULL, next_key_seen_at = NULL,
                 former_key = NULL, enrolled_at = now_ms(), registered_by = $2, bastion_hostname = NULL,
                 bastion_os = NULL, bastion_user = NULL, enrolled_from = NULL WHERE id = $3",
        )
        .bind(key)
        .bind(operator)
        .bind(tunnel)
        .execute()
        .await?;
        self.forget_unused(old).await?;
        self.forget_unused(next).await
    }

    /// Gives a tunnel the key that is to take its key's place, or none.
    pub async fn set_next_key(&mut self, tunnel: TunnelId, next: Option<&str>) -> Result<()> {
        let (_, dropped) = self.key_ids(tunnel).await?;
        let next = match next {
            Some(key) => Some(self.key_id(key).await?),
            None => None,
        };
        self.sql("UPDATE tunnels SET next_key_id = $1, next_key_seen_at = NULL WHERE id = $2")
            .bind(next)
            .bind(tunnel)
            .execute()
            .await?;
        self.forget_unused(dropped).await
    }

    /// Makes a tunnel's next key its only one.
    pub async fn promote_next_key(&mut self, tunnel: TunnelId) -> Result<()> {
        let (old, _) = self.key_ids(tunnel).await?;
        self.sql(
            "UPDATE tunnels SET former_key = (SELECT public_key FROM keys WHERE id = key_id),
                 key_id = next_key_id, next_key_id = NULL, next_key_seen_at = NULL
             WHERE id = $1 AND next_key_id IS NOT NULL",
        )
        .bind(tunnel)
        .execute()
        .await?;
        self.forget_unused(old).await
    }

    /// Takes all keys from a tunnel, which is removed now: its port rests.
    pub async fn retire_tunnel(&mut self, tunnel: TunnelId) -> Result<()> {
        self.end_move(tunnel).await?;
        let (key, next) = self.key_ids(tunnel).await?;
        self.sql(
            "UPDATE tunnels SET key_id = NULL, next_key_id = NULL, next_key_seen_at = NULL,
                 former_key = NULL, removed_at = now_ms() WHERE id = $1",
        )
        .bind(tunnel)
        .execute()
        .await?;
        self.sql("DELETE FROM known_host_keys WHERE tunnel_id = $1")
            .bind(tunnel)
            .execute()
            .await?;
        self.forget_unused(key).await?;
        self.forget_unused(next).await
    }

    /// Notes which keys that are to take another's place have held their ports, and since when: since it is written, for
    /// whoever saw it may have had a wrong clock. `sessions` are those of [`Store::note_sessions`], as JSON.
    pub(super) async fn note_keys_in_use(&mut self, sessions: &str) -> Result<()> {
        self.sql(
            "UPDATE tunnels SET next_key_seen_at = now_ms()
             FROM (SELECT CAST(value ->> 'tunnel' AS BIGINT) AS tunnel, value ->> 'holder_key' AS public_key
                   FROM json_each($1) GROUP BY 1, 2) AS held
             JOIN keys AS k ON k.public_key = held.public_key
             WHERE tunnels.id = held.tunnel AND tunnels.next_key_id = k.id
                 AND tunnels.next_key_seen_at IS NULL",
        )
        .bind(sessions)
        .execute()
        .await?;
        Ok(())
    }

    async fn key_ids(&mut self, tunnel: TunnelId) -> Result<(Option<KeyId>, Option<KeyId>)> {
        let ids = self
            .sql("SELECT key_id, next_key_id FROM tunnels WHERE id = $1")
            .bind(tunnel)
            .one()
            .await?;
        Ok(ids)
    }

    /// Forgets a key that no tunnel uses any more.
    async fn forget_unused(&mut self, key: Option<KeyId>) -> Result<()> {
        self.sql(
            "DELETE FROM keys WHERE id = $1 AND NOT EXISTS
                 (SELECT 1 FROM tunnels WHERE key_id = $1 OR next_key_id = $1)",
        )
        .bind(key)
        .execute()
        .await?;
        Ok(())
    }

    /// The row of a key, made if it is new.
    pub(super) async fn key_id(&mut self, public_key: &str) -> Result<KeyId> {
        self.sql(
            "INSERT INTO keys (public_key, created_at) VALUES ($1, now_ms()) ON CONFLICT DO NOTHING",
        )
        .bind(public_key)
        .execute()
        .await?;
        self.sql("SELECT id FROM keys WHERE public_key = $1")
            .bind(public_key)
            .value()
            .await
    }
}
