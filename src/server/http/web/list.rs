//! The list of data sources.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::PageError;
use super::labels::{self, StateLabel};
use super::layout::{Layout, Timestamp, page};
use crate::protocol::{DataSource, DataSourceId, TunnelStatus, TunnelSummary};
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::view;

#[derive(Template)]
#[template(path = "web/list.html")]
struct ListPage {
    layout: Layout,
    rows: Vec<Row>,
}

struct Row {
    id: DataSourceId,
    name: String,
    database: &'static str,
    place: String,
    state: StateLabel,
    /// Absent for a direct connection, which is not kept open.
    last_seen: Option<LastSeen>,
}

/// When a tunnel was last seen alive.
pub enum LastSeen {
    /// At this moment.
    Now,
    /// Then.
    At(Timestamp),
    /// Never yet.
    Never,
}

/// When a tunnel was last seen alive.
pub fn last_seen(tunnel: &TunnelSummary) -> LastSeen {
    match (tunnel.status, tunnel.last_seen) {
        (TunnelStatus::Up, _) => LastSeen::Now,
        (_, Some(at)) => LastSeen::At(Timestamp(at)),
        (_, None) => LastSeen::Never,
    }
}

/// `GET /data-sources`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    let records = app.store.data_sources().await?;
    let sources = records.iter().map(|r| view::data_source(&app, r));
    let template = ListPage {
        layout: Layout::of(&app, &signed_in),
        rows: sources.map(|source| row(&source)).collect(),
    };
    page(StatusCode::OK, &template)
}

fn row(source: &DataSource) -> Row {
    Row {
        id: source.id,
        name: source.display_name.clone(),
        database: labels::database(source.database_type),
        place: source.address().to_string(),
        state: labels::state(source.connection, source.state),
        last_seen: source.tunnel.as_ref().map(last_seen),
    }
}
