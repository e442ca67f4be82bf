//! What happened to a data source, when, and by whom.

use sqlx::SqliteConnection;

use super::{Result, now};
use crate::protocol::DataSourceId;

/// Events kept for each data source. A line that flaps for months must not fill the disk.
const KEPT: i64 = 500;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// An operator created the data source.
    Created,
    /// Its name or target was changed, by an operator or on the bastion.
    Changed,
    /// A bastion registered its key.
    Enrolled,
    /// The bastion reported the temporary tunnel and it was found up.
    Connected,
    /// An operator saved it.
    Saved,
    /// The bastion reported its service.
    ServiceInstalled,
    /// The bastion reported that the service no longer runs this tunnel.
    ServiceUninstalled,
    /// The bastion announced a new key, or took that back.
    KeyAnnounced,
    /// The new key took the old one's place.
    KeyChanged,
    /// A session listens on the tunnel's port.
    Up,
    /// The session is gone.
    Down,
    /// A new session of the same key took the port from a silent one.
    TakenOver,
    /// A new session of the same key was refused, since the holder is alive.
    RefusedHeld,
    /// An operator asked for its removal.
    RemovalRequested,
    /// It was removed.
    Removed,
}

impl EventKind {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Created => "created",
            EventKind::Changed => "changed",
            EventKind::Enrolled => "enrolled",
            EventKind::Connected => "connected",
            EventKind::Saved => "saved",
            EventKind::ServiceInstalled => "service_installed",
            EventKind::ServiceUninstalled => "service_uninstalled",
            EventKind::KeyAnnounced => "key_announced",
            EventKind::KeyChanged => "key_changed",
            EventKind::Up => "up",
            EventKind::Down => "down",
            EventKind::TakenOver => "taken_over",
            EventKind::RefusedHeld => "refused_held",
            EventKind::RemovalRequested => "removal_requested",
            EventKind::Removed => "removed",
        }
    }
}

/// Writes an event in the transaction of the change itself. `actor` is an API token's name,
/// `bastion` or `tunnel server`.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    data_source: DataSourceId,
    kind: EventKind,
    actor: &str,
) -> Result<()> {
    sqlx::query("INSERT INTO events (data_source_id, at, kind, actor) VALUES (?, ?, ?, ?)")
        .bind(data_source)
        .bind(now())
        .bind(kind.as_str())
        .bind(actor)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "DELETE FROM events WHERE data_source_id = ?1 AND id <= (
             SELECT id FROM events WHERE data_source_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2
         )",
    )
    .bind(data_source)
    .bind(KEPT)
    .execute(connection)
    .await?;
    Ok(())
}
