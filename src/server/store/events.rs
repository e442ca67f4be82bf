//! What happened to a data source, when, and by whom.

use serde::Serialize;

use super::lists::{Part, push_part};
use super::{Actor, Result, Store, Writing, json, timestamp};
use crate::protocol::DataSourceId;

/// Events kept for each data source. A line that flaps for months must not fill the disk.
const KEPT: i64 = 500;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum EventKind {
    /// An operator created the data source.
    Created,
    /// Its name or target was changed, by an operator or on the bastion.
    Changed,
    /// A bastion registered its key.
    Enrolled,
    /// An operator registered the key of a machine that is set up by hand.
    KeyRegistered,
    /// An operator registered another key in its place.
    KeyReplaced,
    /// An operator said that a tunnel that is set up by hand leads to the present host and port.
    TargetConfirmed,
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
    /// The tunnel has moved to another region.
    Moved,
    /// A session listens on the tunnel's port.
    Up,
    /// The session is gone.
    Down,
    /// A new session of the same key took the port from a silent one.
    TakenOver,
    /// A new session of the same key was refused, since the holder is alive.
    RefusedHeld,
    /// An operator saved its login.
    LoginSaved,
    /// An operator had its saved login erased.
    LoginForgotten,
    /// An operator asked for its removal.
    RemovalRequested,
    /// It was removed.
    Removed,
}

/// An event as it is stored.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number; later ones are higher.
    pub id: i64,
    pub data_source: DataSourceId,
    /// When.
    pub at: jiff::Timestamp,
    /// What happened, as [`EventKind::into_str`] has it.
    pub kind: String,
    /// Through whom.
    pub actor: String,
}

type Row = (i64, DataSourceId, i64, String, String);

fn event((id, data_source, at, kind, actor): Row) -> Event {
    Event {
        id,
        data_source,
        at: timestamp(at),
        kind,
        actor,
    }
}

impl Store {
    /// At most `limit` events, of one data source or of all.
    pub async fn events(
        &self,
        data_source: Option<DataSourceId>,
        part: Part,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let mut query = self
            .readers
            .sql("SELECT id, data_source_id, at, kind, actor FROM events WHERE TRUE");
        if let Some(data_source) = data_source {
            // Without a condition of its own, its few events would be looked for among those of all.
            query.push(" AND data_source_id = ").push_bind(data_source);
        }
        push_part(&mut query, "id", part, limit);
        let rows: Vec<Row> = query.all().await?;
        Ok(rows.into_iter().map(event).collect())
    }

    /// The number of the newest event, 0 if there is none.
    pub async fn newest_event(&self) -> Result<i64> {
        let newest: Option<i64> = self
            .readers
            .sql("SELECT max(id) FROM events")
            .value()
            .await?;
        Ok(newest.unwrap_or(0))
    }
}

impl Writing {
    /// Writes an event in the transaction of the change itself, and what somebody did also into the audit log.
    pub async fn add_event(
        &mut self,
        data_source: DataSourceId,
        kind: EventKind,
        actor: &Actor,
    ) -> Result<()> {
        self.sql(
            "INSERT INTO events (data_source_id, at, kind, actor) VALUES ($1, now_ms(), $2, $3)",
        )
        .bind(data_source)
        .bind(kind.into_str())
        .bind(actor.to_string())
        .execute()
        .await?;
        if let Some(action) = audited(kind) {
            let subject = format!("data source {data_source}");
            self.add_audit(actor, action, &subject).await?;
        }
        self.trim_events(&[data_source]).await
    }

    /// Forgets the oldest events of these data sources beyond what is kept.
    pub(super) async fn trim_events(&mut self, data_sources: &[DataSourceId]) -> Result<()> {
        self.sql(
            "DELETE FROM events WHERE id IN (
                 SELECT old.id FROM json_each($1) AS source
                 JOIN events AS old ON old.data_source_id = CAST(source.value AS BIGINT)
                 WHERE old.id <= (
                     SELECT id FROM events WHERE data_source_id = CAST(source.value AS BIGINT)
                     ORDER BY id DESC LIMIT 1 OFFSET $2
                 )
             )",
        )
        .bind(json(data_sources)?)
        .bind(KEPT)
        .execute()
        .await?;
        Ok(())
    }
}

/// What the audit log calls it, for what somebody did; what merely happened is not in there.
fn audited(kind: EventKind) -> Option<&'static str> {
    match kind {
        EventKind::Created => Some("created"),
        EventKind::Changed => Some("changed"),
        EventKind::Enrolled => Some("enrolled"),
        EventKind::KeyRegistered => Some("public key registered by hand"),
        EventKind::KeyReplaced => Some("public key replaced"),
        EventKind::TargetConfirmed => Some("new target confirmed"),
        EventKind::Saved => Some("saved"),
        EventKind::LoginSaved => Some("login saved"),
        EventKind::LoginForgotten => Some("saved login erased"),
        EventKind::RemovalRequested => Some("removal asked for"),
        EventKind::Removed => Some("removed"),
        _ => None,
    }
}
