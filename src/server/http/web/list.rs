//! The list of data sources.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::drawing::{self, Shapes};
use super::error::PageError;
use super::figures;
use super::labels::{self, StateLabel};
use super::layout::{Layout, Timestamp, page};
use crate::protocol::{DataSource, DataSourceId, TunnelId, TunnelStatus, TunnelSummary};
use crate::server::domain::history::History;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::view;
use crate::server::store::Record;

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
    /// Absent until its tunnel has been up.
    history: Option<SmallHistory>,
}

/// How a tunnel did on its last days.
struct SmallHistory {
    bar: Shapes,
    share: String,
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
    let tunnels: Vec<_> = records.iter().filter_map(Record::tunnel_id).collect();
    let histories = app.histories(&tunnels).await?;
    let sources = records.iter().map(|r| view::data_source(&app, r));
    let template = ListPage {
        layout: Layout::of(&app, &signed_in),
        rows: sources.map(|source| row(&source, &histories)).collect(),
    };
    page(StatusCode::OK, &template)
}

fn row(source: &DataSource, histories: &HashMap<TunnelId, History>) -> Row {
    let tunnel = source.tunnel.as_ref();
    Row {
        id: source.id,
        name: source.display_name.clone(),
        database: labels::database(source.database_type),
        place: source.address().to_string(),
        state: labels::state(source.connection, source.state),
        last_seen: tunnel.map(last_seen),
        history: tunnel.and_then(|tunnel| small_history(histories.get(&tunnel.id)?)),
    }
}

fn small_history(history: &History) -> Option<SmallHistory> {
    (!history.is_empty()).then(|| SmallHistory {
        bar: drawing::small_bar(history),
        share: figures::share(history.total().share()),
    })
}
