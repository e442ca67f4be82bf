//! The audit log.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::error::PageError;
use super::layout::{Layout, Timestamp, page};
use crate::protocol::DataSourceId;
use crate::server::domain::ActorKind;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::AuditEntry;

/// Entries on the page.
const ENTRIES: u32 = 200;

/// Which entries. What is not understood counts as not said.
#[derive(Deserialize)]
pub struct Wanted {
    by: Option<String>,
    before: Option<String>,
}

#[derive(Template)]
#[template(path = "web/audit.html")]
struct AuditPage {
    layout: Layout,
    choices: Vec<Choice>,
    by: Option<&'static str>,
    entries: Vec<Row>,
    /// The last entry on the page, if there may be older ones.
    older: Option<i64>,
}

/// A kind of actors to choose.
struct Choice {
    value: &'static str,
    label: &'static str,
    is_chosen: bool,
}

struct Row {
    at: Timestamp,
    actor: String,
    /// What kind of actor that is, where the name alone could be another's.
    kind: Option<&'static str>,
    action: String,
    subject: String,
    /// Whose page the subject is.
    data_source: Option<DataSourceId>,
}

/// `GET /audit`
pub async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(wanted): Query<Wanted>,
) -> Result<Response, PageError> {
    let by = wanted.by.as_deref().and_then(ActorKind::from_name);
    let before = wanted.before.and_then(|id| id.parse().ok());
    let entries = app.store.audit_log(by, before, ENTRIES).await?;
    let is_full = entries.len() == ENTRIES as usize;
    let template = AuditPage {
        layout: Layout::of(&app, &signed_in),
        choices: choices(by),
        by: by.map(ActorKind::as_str),
        older: entries.last().filter(|_| is_full).map(|entry| entry.id),
        entries: entries.into_iter().map(row).collect(),
    };
    page(StatusCode::OK, &template)
}

fn choices(chosen: Option<ActorKind>) -> Vec<Choice> {
    let choice = |kind: ActorKind| Choice {
        value: kind.as_str(),
        label: label(kind),
        is_chosen: chosen == Some(kind),
    };
    ActorKind::ALL.map(choice).into()
}

fn label(kind: ActorKind) -> &'static str {
    match kind {
        ActorKind::Operator => "Operators",
        ActorKind::CommandLine => "Command line",
        ActorKind::ApiToken => "API tokens",
        ActorKind::Bastion => "Bastions",
        ActorKind::Server => "Server",
        ActorKind::Stranger => "Not signed in",
    }
}

fn row(entry: AuditEntry) -> Row {
    let number = entry.subject.strip_prefix("data source ");
    Row {
        at: Timestamp(entry.at),
        data_source: number.and_then(|number| number.parse().ok()),
        kind: (entry.kind == Some(ActorKind::ApiToken)).then_some("API token"),
        actor: entry.actor,
        action: entry.action,
        subject: entry.subject,
    }
}
