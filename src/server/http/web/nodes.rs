//! Nodes: the servers that share a database, as this one sees them, and the regions in which they are.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::error::{PageError, words};
use super::layout::{Layout, Timestamp, page};
use crate::server::cluster::node;
use crate::server::cluster::view::SeenNode;
use crate::server::domain::regions::{self, ssh_servers};
use crate::server::domain::{Error, inputs};
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::problem::ApiError;
use crate::server::store::{NodeState, Region, Role};

/// How long is waited until what was asked can be shown.
const SOON: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Template)]
#[template(path = "web/nodes.html")]
struct NodesPage {
    layout: Layout,
    nodes: Vec<Row>,
    regions: Vec<RegionRow>,
    typed: TypedRegion,
    error: Option<String>,
}

struct RegionRow {
    name: String,
    servers: String,
    ports: String,
    /// Whether it is what its servers were started with, and no operator has said so.
    is_as_started: bool,
}

/// The form for a region, as it was typed.
#[derive(Default, Deserialize)]
pub struct TypedRegion {
    name: String,
    ssh_host: String,
    ssh_port: String,
    ports: String,
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
    /// Whether somebody has asked it to drain.
    drain_asked: bool,
}

/// The button beside a node.
#[derive(Deserialize)]
pub struct Named {
    name: String,
}

/// `GET /nodes`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    app.learn_regions().await?;
    answer(&app, &signed_in, TypedRegion::default(), None)
}

/// `POST /nodes/drain`
pub async fn drain(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(Named { name }): Form<Named>,
) -> Result<Response, PageError> {
    ask_to_drain(&app, &signed_in, &name, true).await
}

/// `POST /nodes/go-on`
pub async fn go_on(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(Named { name }): Form<Named>,
) -> Result<Response, PageError> {
    ask_to_drain(&app, &signed_in, &name, false).await
}

async fn ask_to_drain(
    app: &App,
    signed_in: &SignedIn,
    name: &str,
    drain: bool,
) -> Result<Response, PageError> {
    let by = signed_in.actor();
    let Some(member) = app.tunnels.member() else {
        return Err(ApiError::gone().into());
    };
    if !app.store.ask_to_drain(name, drain, &by).await? {
        return Err(ApiError::gone().into());
    }
    // The page shows what this node has read of the others, which it does once a second.
    let is_read = |node: SeenNode| node.row.name == name && node.row.drain_asked == drain;
    let reading = async {
        while !member.view.nodes().into_iter().any(is_read) {
            sleep(LOOK_EVERY).await;
        }
    };
    // What is not there by then is on the next page.
    let _ = timeout(SOON, reading).await;
    Ok(Redirect::to(&app.web.path("/nodes")).into_response())
}

/// `POST /nodes/regions`
pub async fn add_region(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(typed): Form<TypedRegion>,
) -> Result<Response, PageError> {
    if app.tunnels.member().is_none() {
        return Err(ApiError::gone().into());
    }
    let region = match read(&typed) {
        Ok(region) => region,
        Err(error) => return answer(&app, &signed_in, typed, Some(error)),
    };
    match regions::add(&app.store, &region, &signed_in.actor()).await {
        Ok(()) => {
            app.learn_regions().await?;
            Ok(Redirect::to(&app.web.path("/nodes")).into_response())
        }
        Err(error @ Error::Invalid(_)) => answer(&app, &signed_in, typed, Some(words(&error))),
        Err(error) => Err(error.into()),
    }
}

/// What is absent is as with the command.
fn read(typed: &TypedRegion) -> Result<Region, String> {
    let or = |text: &str, usual: &str| match text.trim() {
        "" => usual.to_owned(),
        text => text.to_owned(),
    };
    let hosts = typed
        .ssh_host
        .split([',', ' '])
        .filter(|host| !host.is_empty());
    let hosts: Result<Vec<_>, _> = hosts.map(|host| inputs::host("ssh_host", host)).collect();
    let port: Option<u16> = or(&typed.ssh_port, "50022").parse().ok();
    let port = port.filter(|port| *port != 0);
    Ok(Region {
        name: node::name(typed.name.trim())?,
        ssh_hosts: hosts.map_err(|error| words(&error.into()))?,
        ssh_port: port.ok_or("The port must be a number between 1 and 65535.")?,
        ports: or(&typed.ports, "20000-29999").parse()?,
        is_settled: true,
    })
}

fn answer(
    app: &App,
    signed_in: &SignedIn,
    typed: TypedRegion,
    error: Option<String>,
) -> Result<Response, PageError> {
    let Some(member) = app.tunnels.member() else {
        return Err(ApiError::gone().into());
    };
    let row = |node: SeenNode| {
        let (state, tone) = match (node.row.state, node.is_alive) {
            (NodeState::Stopped, _) => ("stopped", "quiet"),
            (_, false) => ("does not answer", "bad"),
            (NodeState::Draining, _) => ("draining", "waiting"),
            // It hears of that with its next beat.
            (NodeState::Up, _) if node.row.drain_asked => ("asked to drain", "waiting"),
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
            drain_asked: node.row.drain_asked,
            still: (node.row.state != NodeState::Stopped).then_some(node.still.as_secs()),
            name: node.row.name,
            region: node.row.region,
            version: node.row.version,
        }
    };
    let status = match error {
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        None => StatusCode::OK,
    };
    let template = NodesPage {
        layout: Layout::of(app, signed_in),
        nodes: member.view.nodes().into_iter().map(row).collect(),
        regions: app.regions.all().iter().map(region_row).collect(),
        typed,
        error,
    };
    page(status, &template)
}

fn region_row(region: &Region) -> RegionRow {
    RegionRow {
        name: region.name.clone(),
        servers: ssh_servers(region),
        ports: region.ports.to_string(),
        is_as_started: !region.is_settled,
    }
}
