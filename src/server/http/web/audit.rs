//! The audit log.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use strum::VariantArray as _;

use super::error::PageError;
use super::layout::{Layout, Timestamp, page};
use super::pages::{self, Pages};
use crate::protocol::DataSourceId;
use crate::server::domain::ActorKind;
use crate::server::http::address;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::AuditEntry;

/// Entries on a page.
const LENGTH: usize = 200;

/// Which entries. What is not understood counts as not said.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    by: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "web/audit.html")]
struct AuditPage {
    layout: Layout,
    choices: Vec<Choice>,
    by: Option<&'static str>,
    entries: Vec<Row>,
    pages: Pages,
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
    let by = wanted.by.parse().ok();
    let cursor = pages::cursor(&wanted.cursor);
    let log = app.audit_log(by, cursor, LENGTH).await?;
    let template = AuditPage {
        layout: Layout::of(&app, &signed_in),
        choices: choices(by),
        by: by.map(|by| by.into_str()),
        pages: Pages::of(&log, |cursor| {
            let by = by.map_or("", |by| by.into_str());
            address::with_query(&app, "/audit", &[("by", by), ("cursor", cursor)])
        }),
        entries: log.items.into_iter().map(row).collect(),
    };
    page(StatusCode::OK, &template)
}

fn choices(chosen: Option<ActorKind>) -> Vec<Choice> {
    let choice = |&kind: &ActorKind| Choice {
        value: kind.into_str(),
        label: label(kind),
        is_chosen: chosen == Some(kind),
    };
    ActorKind::VARIANTS.iter().map(choice).collect()
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
