//! Nodes: the servers that share a database, as this one sees them.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::PageError;
use super::layout::{Layout, Timestamp, page};
use crate::server::cluster::view::SeenNode;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::problem::ApiError;
use crate::server::store::{NodeState, Role};

#[derive(Template)]
#[template(path = "web/nodes.html")]
struct NodesPage {
    layout: Layout,
    nodes: Vec<Row>,
}

struct Row {
    name: String,
    is_self: bool,
    state: &'static str,
    tone: &'static str,
    what: &'static str,
    region: String,
    version: String,
    since: Timestamp,
    tunnels: usize,
    /// Seconds since its beat was last seen to move; none if it has ended.
    still: Option<u64>,
}

/// `GET /nodes`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    let Some(member) = app.tunnels.member() else {
        return Err(ApiError::gone().into());
    };
    let row = |node: SeenNode| {
        let (state, tone) = match (node.row.state, node.is_alive) {
            (NodeState::Stopped, _) => ("stopped", "quiet"),
            (_, false) => ("does not answer", "bad"),
            (NodeState::Draining, _) => ("draining", "waiting"),
            (NodeState::Up, _) => ("up", "good"),
        };
        Row {
            is_self: node.row.name == member.node.name(),
            state,
            tone,
            what: match node.row.role {
                Role::Web => "pages and API",
                Role::Tunnel => "tunnels",
                Role::All => "pages, API and tunnels",
            },
            since: Timestamp(node.row.started_at()),
            tunnels: node.tunnels,
            still: (node.row.state != NodeState::Stopped).then_some(node.still.as_secs()),
            name: node.row.name,
            region: node.row.region,
            version: node.row.version,
        }
    };
    let template = NodesPage {
        layout: Layout::of(&app, &signed_in),
        nodes: member.view.nodes().into_iter().map(row).collect(),
    };
    page(StatusCode::OK, &template)
}
