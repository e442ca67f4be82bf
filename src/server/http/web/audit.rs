//! The audit log.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::PageError;
use super::layout::{Layout, Timestamp, page};
use crate::protocol::DataSourceId;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::AuditEntry;

/// Entries on the page.
const ENTRIES: u32 = 200;

#[derive(Template)]
#[template(path = "web/audit.html")]
struct AuditPage {
    layout: Layout,
    entries: Vec<Row>,
    shown: u32,
}

struct Row {
    at: Timestamp,
    actor: String,
    action: String,
    subject: String,
    /// Whose page the subject is.
    data_source: Option<DataSourceId>,
}

/// `GET /audit`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    let entries = app.store.audit_log(ENTRIES).await?;
    let template = AuditPage {
        layout: Layout::of(&app, &signed_in),
        entries: entries.into_iter().map(row).collect(),
        shown: ENTRIES,
    };
    page(StatusCode::OK, &template)
}

fn row(entry: AuditEntry) -> Row {
    let number = entry.subject.strip_prefix("data source ");
    Row {
        at: Timestamp(entry.at),
        data_source: number.and_then(|number| number.parse().ok()),
        actor: entry.actor,
        action: entry.action,
        subject: entry.subject,
    }
}
