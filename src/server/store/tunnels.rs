//! Tunnels: enrollment, what the bastion reports, and what the tunnel server saw.

use serde::Serialize;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::data_sources::{present, staying};
use super::events::{self, EventKind};
use super::ports::{self, PortRange};
use super::{Record, Result, Store, StoreError, host_keys, json, keys, now, tokens};
use crate::protocol::{DataSourceId, DatabaseAddress, TunnelId};
use crate::server::domain::host_keys::Source;
use crate::server::domain::secret::SecretKey;
use crate::server::domain::token::{Token, TokenHash, TokenKind};
use crate::server::tunnel_server::{SessionEvent, SessionNote};

/// The actor of what a bastion does.
pub(super) const BASTION: &str = "bastion";

/// The actor of what the tunnel server reports.
pub(super) const TUNNEL_SERVER: &str = "tunnel server";

/// How many tunnels one statement marks as seen.
const SEEN_AT_ONCE: usize = 1_000;

/// A bastion's registration; its values are checked already.
#[derive(Debug)]
pub struct Registration {
    /// The key in its normal form (see `public_key::normalize`).
    pub public_key: String,
    /// The bastion's name, for people.
    pub hostname: String,
    /// The bastion's operating system, for people.
    pub os: String,
    /// The user who runs the tunnel there.
    pub user: String,
    /// The fingerprints of the host keys that the answer tells it.
    pub told_host_keys: Vec<String>,
}

/// What a registration leads to; the same for the same key.
#[derive(Debug)]
pub struct Enrollment {
    /// The data source that was enrolled.
    pub data_source: DataSourceId,
    /// The tunnel's own port.
    pub remote_port: u16,
    /// The token for the tunnel's later calls.
    pub tunnel_token: Token,
}

/// What a bastion reports of its tunnel; what is absent stays as it is.
#[derive(Debug, Default)]
pub struct BastionReport {
    /// Whether the service runs it.
    pub service_installed: Option<bool>,
    /// A new target, given on the bastion.
    pub target: Option<DatabaseAddress>,
    /// Where it leads now.
    pub applied: Option<DatabaseAddress>,
    /// The fingerprints of the host keys that it has pinned.
    pub host_keys: Option<Vec<String>>,
}

/// Key, next key, port and the hash of the enrollment token, for a tunnel that has them.
type EnrolledRow = (Option<String>, Option<String>, Option<u16>, Option<Vec<u8>>);

impl Store {
    /// The data source of a tunnel, also if it is removed.
    ///
    /// # Errors
    /// It never was, or the database failed.
    pub async fn tunnel(&self, id: TunnelId) -> Result<Record> {
        by_tunnel(&mut *self.readers.acquire().await?, id).await
    }

    /// Registers a key for a tunnel and gives it a port, or repeats the answer for the same key.
    /// `credential` is the hash of the token that was presented.
    ///
    /// # Errors
    /// Another key is enrolled, no port is free, the data source is leaving, or the database failed.
    pub async fn enroll(
        &self,
        tunnel: TunnelId,
        credential: &TokenHash,
        registration: &Registration,
        ports: PortRange,
        secret: &SecretKey,
    ) -> Result<Enrollment> {
        let mut tx = self.write().await?;
        let record = staying(by_tunnel(&mut tx, tunnel).await?)?;
        let (remote_port, enrolled_with) = match enrolled(&mut tx, tunnel).await? {
            (Some(key), next, Some(port), Some(enrolled_with)) => {
                let sent = &registration.public_key;
                if key != *sent && next.as_ref() != Some(sent) {
                    return Err(StoreError::KeyConflict);
                }
                (port, enrolled_with)
            }
            _ => {
                let port = ports::choose(&mut tx, ports).await?;
                link(&mut tx, tunnel, port, credential, registration).await?;
                events::record(&mut tx, record.id, EventKind::Enrolled, BASTION).await?;
                (port, credential.as_bytes().to_vec())
            }
        };
        host_keys::note(&mut tx, tunnel, &registration.told_host_keys, Source::Told).await?;
        let tunnel_token = secret.tunnel_token(tunnel, &enrolled_with, &registration.public_key);
        tokens::add(
            &mut tx,
            TokenKind::Tunnel,
            &tunnel_token.hash(),
            tunnel,
            None,
        )
        .await?;
        tx.commit().await?;
        Ok(Enrollment {
            data_source: record.id,
            remote_port,
            tunnel_token,
        })
    }

    /// Notes that the bastion's temporary tunnel was found up.
    ///
    /// # Errors
    /// The tunnel is removed, or the database failed.
    pub async fn note_connected(&self, tunnel: TunnelId) -> Result<Record> {
        let mut tx = self.write().await?;
        let record = present(by_tunnel(&mut tx, tunnel).await?)?;
        touch(&mut tx, tunnel).await?;
        events::record(&mut tx, record.id, EventKind::Connected, BASTION).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Notes what the bastion reports, all of it or nothing. The first time that the service runs
    /// the tunnel, the enrollment token has done its work.
    ///
    /// # Errors
    /// The service is installed before the data source was saved, a new target is given for one that
    /// is being removed, the tunnel is removed, or the database failed.
    pub async fn report(&self, tunnel: TunnelId, report: &BastionReport) -> Result<Record> {
        let mut tx = self.write().await?;
        let record = present(by_tunnel(&mut tx, tunnel).await?)?;
        if let Some(installed) = report.service_installed {
            set_service_installed(&mut tx, tunnel, &record, installed).await?;
        }
        if let Some(target) = &report.target {
            set_target(&mut tx, staying(record)?, target).await?;
        }
        if let Some(applied) = &report.applied {
            sqlx::query("UPDATE tunnels SET applied_host = ?, applied_port = ? WHERE id = ?")
                .bind(&applied.host)
                .bind(applied.port)
                .bind(tunnel)
                .execute(&mut *tx)
                .await?;
        }
        if let Some(pinned) = &report.host_keys {
            host_keys::note(&mut tx, tunnel, pinned, Source::Pinned).await?;
        }
        let record = by_tunnel(&mut tx, tunnel).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Writes down what the tunnel server saw: all of it or nothing, in one transaction. Each
    /// tunnel was last seen then, and a key that is to take another's place has held the port. What
    /// concerns no known tunnel is left out. Returns the data sources concerned.
    ///
    /// # Errors
    /// The database failed.
    pub async fn note_sessions(&self, notes: &[SessionNote]) -> Result<Vec<DataSourceId>> {
        let rows: Vec<_> = notes.iter().map(NoteRow::from).collect();
        let rows = json(&rows)?;
        let mut tx = self.write().await?;
        let mut data_sources: Vec<DataSourceId> = sqlx::query_scalar(
            "INSERT INTO events (data_source_id, at, kind, actor)
             SELECT t.data_source_id, n.value ->> 'at', n.value ->> 'kind', ?2
             FROM json_each(?1) AS n JOIN tunnels AS t ON t.id = n.value ->> 'tunnel'
             ORDER BY n.key RETURNING data_source_id",
        )
        .bind(&rows)
        .bind(TUNNEL_SERVER)
        .fetch_all(&mut *tx)
        .await?;
        data_sources.sort_unstable();
        data_sources.dedup();
        sqlx::query(
            "UPDATE tunnels SET last_seen_at = seen.at
             FROM (SELECT value ->> 'tunnel' AS tunnel, max(value ->> 'at') AS at
                   FROM json_each(?) GROUP BY 1) AS seen
             WHERE tunnels.id = seen.tunnel",
        )
        .bind(&rows)
        .execute(&mut *tx)
        .await?;
        keys::note_in_use(&mut tx, &rows).await?;
        events::trim(&mut tx, &data_sources).await?;
        tx.commit().await?;
        Ok(data_sources)
    }

    /// The tunnels whose keys are enrolled.
    ///
    /// # Errors
    /// The database failed.
    pub async fn enrolled_tunnels(&self) -> Result<Vec<TunnelId>> {
        let ids = sqlx::query_scalar("SELECT id FROM tunnels WHERE key_id IS NOT NULL")
            .fetch_all(&self.readers)
            .await?;
        Ok(ids)
    }

    /// Notes that these tunnels were seen now.
    ///
    /// # Errors
    /// The database failed.
    pub async fn note_seen(&self, tunnels: &[TunnelId]) -> Result<()> {
        for tunnels in tunnels.chunks(SEEN_AT_ONCE) {
            sqlx::query(
                "UPDATE tunnels SET last_seen_at = ? WHERE id IN (SELECT value FROM json_each(?))",
            )
            .bind(now())
            .bind(json(tunnels)?)
            .execute(&self.writer)
            .await?;
        }
        Ok(())
    }
}

/// A [`SessionNote`] as the statements read it.
#[derive(Serialize)]
struct NoteRow<'a> {
    tunnel: TunnelId,
    kind: &'static str,
    /// In milliseconds.
    at: i64,
    /// Absent where nobody got the port.
    holder_key: Option<&'a str>,
}

impl<'a> From<&'a SessionNote> for NoteRow<'a> {
    fn from(note: &'a SessionNote) -> Self {
        let kind = match note.event {
            SessionEvent::Up(_) => EventKind::Up,
            SessionEvent::Down(_) => EventKind::Down,
            SessionEvent::TakenOver(_) => EventKind::TakenOver,
            SessionEvent::RefusedHeld(_) => EventKind::RefusedHeld,
        };
        NoteRow {
            tunnel: note.event.tunnel(),
            kind: kind.as_str(),
            at: note.at.as_millisecond(),
            holder_key: note.holder_key.as_deref(),
        }
    }
}

async fn set_service_installed(
    connection: &mut SqliteConnection,
    tunnel: TunnelId,
    record: &Record,
    installed: bool,
) -> Result<()> {
    if installed && !record.is_saved() {
        return Err(StoreError::WrongState(record.state(false)));
    }
    let (at, kind) = match installed {
        true => (Some(now()), EventKind::ServiceInstalled),
        false => (None, EventKind::ServiceUninstalled),
    };
    sqlx::query("UPDATE tunnels SET service_installed_at = ? WHERE id = ?")
        .bind(at)
        .bind(tunnel)
        .execute(&mut *connection)
        .await?;
    if installed {
        tokens::use_up_enrollment(connection, tunnel).await?;
    }
    events::record(connection, record.id, kind, BASTION).await
}

async fn set_target(
    connection: &mut SqliteConnection,
    record: Record,
    target: &DatabaseAddress,
) -> Result<()> {
    if record.host == target.host && record.port == target.port {
        return Ok(());
    }
    sqlx::query("UPDATE data_sources SET host = ?, port = ? WHERE id = ?")
        .bind(&target.host)
        .bind(target.port)
        .bind(record.id)
        .execute(&mut *connection)
        .await?;
    events::record(connection, record.id, EventKind::Changed, BASTION).await
}

pub(super) async fn by_tunnel(
    connection: &mut SqliteConnection,
    tunnel: TunnelId,
) -> Result<Record> {
    QueryBuilder::<Sqlite>::new(Record::SELECT)
        .push(" WHERE t.id = ")
        .push_bind(tunnel)
        .build_query_as()
        .fetch_optional(connection)
        .await?
        .ok_or(StoreError::NotFound)
}

async fn enrolled(connection: &mut SqliteConnection, tunnel: TunnelId) -> Result<EnrolledRow> {
    let row = sqlx::query_as(
        "SELECT k.public_key, n.public_key, t.remote_port, t.enrolled_with FROM tunnels AS t
         LEFT JOIN keys AS k ON k.id = t.key_id LEFT JOIN keys AS n ON n.id = t.next_key_id
         WHERE t.id = ?",
    )
    .bind(tunnel)
    .fetch_one(connection)
    .await?;
    Ok(row)
}

async fn link(
    connection: &mut SqliteConnection,
    tunnel: TunnelId,
    port: u16,
    credential: &TokenHash,
    registration: &Registration,
) -> Result<()> {
    let key = keys::id_of(connection, &registration.public_key).await?;
    sqlx::query(
        "UPDATE tunnels SET key_id = ?, remote_port = ?, enrolled_with = ?, enrolled_at = ?,
             bastion_hostname = ?, bastion_os = ?, bastion_user = ? WHERE id = ?",
    )
    .bind(key)
    .bind(port)
    .bind(credential.as_bytes())
    .bind(now())
    .bind(&registration.hostname)
    .bind(&registration.os)
    .bind(&registration.user)
    .bind(tunnel)
    .execute(connection)
    .await?;
    Ok(())
}

async fn touch(connection: &mut SqliteConnection, tunnel: TunnelId) -> Result<()> {
    sqlx::query("UPDATE tunnels SET last_seen_at = ? WHERE id = ?")
        .bind(now())
        .bind(tunnel)
        .execute(connection)
        .await?;
    Ok(())
}
