//! Tunnels: the bastion that is registered for each, what it reports, and what the tunnel server saw.

use serde::Serialize;

use super::sql::{Port, Statement};
use super::{Actor, EventKind, Record, Result, Store, TokenHash, Writing, json};
use crate::protocol::{DataSourceId, DatabaseAddress, TunnelId};

/// How many tunnels one statement marks as seen.
const SEEN_AT_ONCE: usize = 1_000;

/// How a tunnel was enrolled.
#[derive(Debug)]
pub struct EnrollmentRow {
    pub port: u16,
    /// The hash of the token that was presented.
    pub credential: Vec<u8>,
}

/// Who enrolls for a tunnel, and with which key.
#[derive(Debug, Default)]
pub struct Registration<'r> {
    /// The key, in its normal form.
    pub public_key: &'r str,
    /// Whether a person sets the tunnel up.
    pub by_hand: bool,
    /// The operator who registers the key.
    pub operator: Option<&'r str>,
    /// The machine's name.
    pub hostname: Option<&'r str>,
    /// Its operating system.
    pub os: Option<&'r str>,
    /// The user there.
    pub user: Option<&'r str>,
    /// The address that it comes from.
    pub address: Option<String>,
}

/// What the tunnel server saw of a tunnel.
#[derive(Debug, Serialize)]
pub struct SessionRow<'a> {
    pub tunnel: TunnelId,
    pub kind: EventKind,
    /// When.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub at: jiff::Timestamp,
    /// The key of the session that got the port; absent where nobody did.
    pub holder_key: Option<&'a str>,
}

impl Store {
    /// The data source of a tunnel, also if it is removed.
    pub async fn tunnel(&self, id: TunnelId) -> Result<Option<Record>> {
        by_tunnel(self.readers.sql(Record::SELECT), id).await
    }

    /// Writes down what the tunnel server saw: all of it or nothing, in one transaction. Each
    /// tunnel was last seen then, and a key that is to take another's place has held the port. What
    /// concerns no known tunnel is left out. Returns the data sources concerned.
    pub async fn note_sessions(
        &self,
        sessions: &[SessionRow<'_>],
        actor: &Actor,
    ) -> Result<Vec<DataSourceId>> {
        let mut tx = self.write().await?;
        let data_sources = tx.note_sessions(sessions, actor).await?;
        tx.commit().await?;
        Ok(data_sources)
    }

    /// The tunnels with an enrolled key that are in this region or are to move there.
    pub async fn enrolled_tunnels(&self, region: &str) -> Result<Vec<TunnelId>> {
        self.readers
            .sql("SELECT id FROM tunnels WHERE key_id IS NOT NULL AND (region = $1 OR next_region = $1)")
            .bind(region)
            .values()
            .await
    }

    /// Notes that these tunnels were seen now.
    pub async fn note_seen(&self, tunnels: &[TunnelId]) -> Result<()> {
        for tunnels in tunnels.chunks(SEEN_AT_ONCE) {
            let mut tx = self.write().await?;
            tx.sql(
                "UPDATE tunnels SET last_seen_at = now_ms() WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each($1))",
            )
            .bind(json(tunnels)?)
            .execute()
            .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

impl Writing {
    /// [`Store::note_sessions`], as a part of something.
    pub(super) async fn note_sessions(
        &mut self,
        sessions: &[SessionRow<'_>],
        actor: &Actor,
    ) -> Result<Vec<DataSourceId>> {
        let rows = json(sessions)?;
        let mut data_sources: Vec<DataSourceId> = self.sql(
            "INSERT INTO events (data_source_id, at, kind, actor)
             SELECT t.data_source_id, CAST(n.value ->> 'at' AS BIGINT), n.value ->> 'kind', $2
             FROM json_each($1) AS n JOIN tunnels AS t ON t.id = CAST(n.value ->> 'tunnel' AS BIGINT)
             ORDER BY n.key RETURNING data_source_id",
        )
        .bind(&rows)
        .bind(actor.to_string())
        .values()
        .await?;
        data_sources.sort_unstable();
        data_sources.dedup();
        self.sql(
            "UPDATE tunnels SET last_seen_at = seen.at
             FROM (SELECT CAST(value ->> 'tunnel' AS BIGINT) AS tunnel,
                          max(CAST(value ->> 'at' AS BIGINT)) AS at
                   FROM json_each($1) GROUP BY 1) AS seen
             WHERE tunnels.id = seen.tunnel AND coalesce(tunnels.last_seen_at < seen.at, TRUE)",
        )
        .bind(&rows)
        .execute()
        .await?;
        self.note_keys_in_use(&rows).await?;
        self.trim_events(&data_sources).await?;
        Ok(data_sources)
    }

    /// The data source of a tunnel, also if it is removed.
    pub async fn tunnel(&mut self, id: TunnelId) -> Result<Option<Record>> {
        by_tunnel(self.sql(Record::SELECT), id).await
    }

    /// Gives a data source its tunnel, in this region.
    pub async fn add_tunnel(
        &mut self,
        data_source: DataSourceId,
        region: &str,
    ) -> Result<TunnelId> {
        let id = self
            .sql("INSERT INTO tunnels (data_source_id, region) VALUES ($1, $2) RETURNING id")
            .bind(data_source)
            .bind(region)
            .value()
            .await?;
        Ok(id)
    }

    /// How a tunnel was enrolled; nothing if it was not.
    pub async fn enrollment(&mut self, tunnel: TunnelId) -> Result<Option<EnrollmentRow>> {
        let row: Option<(Port, Vec<u8>)> = self.sql(
            "SELECT remote_port, enrolled_with FROM tunnels WHERE id = $1 AND key_id IS NOT NULL
                 AND remote_port IS NOT NULL AND enrolled_with IS NOT NULL",
        )
        .bind(tunnel)
        .optional()
        .await?;
        Ok(row.map(|(Port(port), credential)| EnrollmentRow { port, credential }))
    }

    /// Enrolls a bastion's key for a tunnel, with a port of its own.
    pub async fn enroll(
        &mut self,
        tunnel: TunnelId,
        port: u16,
        credential: &TokenHash,
        registration: &Registration<'_>,
    ) -> Result<()> {
        let key = self.key_id(registration.public_key).await?;
        self.sql(
            "UPDATE tunnels SET key_id = $1, remote_port = $2, enrolled_with = $3, enrolled_at = now_ms(),
                 bastion_hostname = $4, bastion_os = $5, bastion_user = $6, enrolled_from = $7,
                 registered_by = $8, by_hand_at = CASE WHEN $9 THEN now_ms() END WHERE id = $10",
        )
        .bind(key)
        .bind(Port(port))
        .bind(credential.as_bytes())
        .bind(registration.hostname)
        .bind(registration.os)
        .bind(registration.user)
        .bind(&registration.address)
        .bind(registration.operator)
        .bind(registration.by_hand)
        .bind(tunnel)
        .execute()
        .await?;
        Ok(())
    }

    /// Notes that a program of ours runs on a tunnel's machine after all.
    pub async fn clear_by_hand(&mut self, tunnel: TunnelId) -> Result<()> {
        self.sql("UPDATE tunnels SET by_hand_at = NULL WHERE id = $1")
            .bind(tunnel)
            .execute()
            .await?;
        Ok(())
    }

    /// Notes that a tunnel was seen now.
    pub async fn touch_tunnel(&mut self, tunnel: TunnelId) -> Result<()> {
        self.sql("UPDATE tunnels SET last_seen_at = now_ms() WHERE id = $1")
            .bind(tunnel)
            .execute()
            .await?;
        Ok(())
    }

    /// Notes whether the bastion's service runs a tunnel.
    pub async fn set_service_installed(&mut self, tunnel: TunnelId, installed: bool) -> Result<()> {
        self.sql("UPDATE tunnels SET service_installed_at = CASE WHEN $1 THEN now_ms() END WHERE id = $2")
            .bind(installed)
            .bind(tunnel)
            .execute()
            .await?;
        Ok(())
    }

    /// Notes where the bastion leads a tunnel.
    pub async fn set_applied(&mut self, tunnel: TunnelId, applied: &DatabaseAddress) -> Result<()> {
        self.sql("UPDATE tunnels SET applied_host = $1, applied_port = $2 WHERE id = $3")
            .bind(&applied.host)
            .bind(Port(applied.port))
            .bind(tunnel)
            .execute()
            .await?;
        Ok(())
    }
}

async fn by_tunnel(mut select: Statement<'_>, tunnel: TunnelId) -> Result<Option<Record>> {
    select.push(" WHERE t.id = ").push_bind(tunnel);
    select.optional().await
}
