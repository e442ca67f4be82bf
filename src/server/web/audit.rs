//! The audit log.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::PageError;
use super::frame::{Frame, Moment, page};
use super::session::SignedIn;
use crate::server::api::App;
use crate::server::store::AuditEntry;

/// Entries on the page.
const ENTRIES: u32 = 200;

#[derive(Template)]
#[template(path = "web/audit.html")]
struct AuditPage {
    frame: Frame,
    entries: Vec<AuditEntry>,
    shown: u32,
}

/// `GET /audit`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    let template = AuditPage {
        frame: Frame::of(&app, &signed_in),
        entries: app.store.audit_log(ENTRIES).await?,
        shown: ENTRIES,
    };
    page(StatusCode::OK, &template)
}
