//! The HTTP API under `/api/v1`, and the few paths beside it.
//!
//! Every handler asks for a credential by taking one of the extractors of `auth`, first of all
//! its arguments. Every error is a problem document (`problem`).

pub mod auth;
pub mod connection;
pub mod data_sources;
mod enrollment;
pub mod extract;
mod health;
mod live;
pub mod openapi;
pub mod problem;
mod scripts;
mod tunnels;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use utoipa_axum::routes;

use self::openapi::{Caller, Calls};
use self::problem::ApiError;
use super::address::PublicAddress;
use super::changes::Changes;
use super::downloads::Downloads;
use super::metrics::{self, Metrics};
use super::secret::SecretKey;
use super::store::{PortRange, Record, Store};
use super::tunnel_server::TunnelServer;
use super::web;
use crate::protocol::{DataSourceState, ProblemKind, TunnelId, TunnelStatus};

/// The largest body that is read, in bytes. The largest real one, an RSA-16384 key, has under 4 KiB.
const BODY_LIMIT: usize = 64 * 1024;

/// The longest a request may take until its answer begins: a long poll (25 s) or a connection test
/// (30 s), and some more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What the handlers share.
pub struct App {
    /// What is kept.
    pub store: Store,
    /// The live sessions.
    pub tunnels: TunnelServer,
    /// Who waits for what.
    pub changes: Changes,
    /// What tunnel tokens are derived from, and what saved passwords are encrypted with.
    pub secret: SecretKey,
    /// What bastions are told to connect to.
    pub public: PublicAddress,
    /// The bastion's binaries.
    pub downloads: Downloads,
    /// How long a generated command works.
    pub enrollment_ttl: Duration,
    /// How long an old key opens a tunnel after the new one was first seen.
    pub key_overlap: Duration,
    /// The ports given to tunnels.
    pub ports: PortRange,
    /// The address on which the tunnels' ports listen.
    pub forward_listen: IpAddr,
    /// Whether a direct connection may lead to this machine itself.
    pub direct_loopback_allowed: bool,
    /// What the pages and live streams share.
    pub web: web::Shared,
    /// What is counted of requests and tests.
    pub metrics: Metrics,
}

impl App {
    /// Whether its tunnel is up now.
    pub fn is_up(&self, record: &Record) -> bool {
        record
            .tunnel_id()
            .is_some_and(|tunnel| self.tunnels.is_up(tunnel))
    }

    fn status(&self, tunnel: TunnelId) -> TunnelStatus {
        match self.tunnels.is_up(tunnel) {
            true => TunnelStatus::Up,
            false => TunnelStatus::Down,
        }
    }

    fn state(&self, record: &Record) -> DataSourceState {
        record.state(self.is_up(record))
    }

    /// Closes a tunnel whose port is held by a session of another key than this one.
    pub async fn close_other_keys(&self, tunnel: TunnelId, key: &str) {
        let holder = self.tunnels.holder(tunnel);
        if holder.is_some_and(|holder| holder.public_key != key) {
            self.tunnels.close_tunnel(tunnel).await;
        }
    }
}

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(calls().into_router())
        .merge(web::routes(&app))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::map_response(problem::complete))
        .layer(middleware::from_fn(bound_time))
        .layer(header_by_default(header::CACHE_CONTROL, "no-store"))
        .layer(header_by_default(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // What fails inside is logged with its cause where it fails.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(request_span)
                .on_failure(()),
        )
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            metrics::observe,
        ))
        .with_state(app)
}

/// Every call, with who may make it.
fn calls() -> Calls {
    let calls = Calls::default();
    let calls = operator_calls(calls);
    let calls = bastion_calls(calls);
    open_calls(calls)
}

fn operator_calls(calls: Calls) -> Calls {
    let by = Caller::Operator;
    calls
        .with(by, routes!(data_sources::list, data_sources::create))
        .with(
            by,
            routes!(
                data_sources::read,
                data_sources::change,
                data_sources::delete
            ),
        )
        .with(by, routes!(connection::test))
        .with(by, routes!(connection::save))
        .with(by, routes!(connection::forget_login))
        .with(by, routes!(live::one))
        .with(by, routes!(live::all))
        .with(by, routes!(metrics::read))
}

fn bastion_calls(calls: Calls) -> Calls {
    calls
        .with(Caller::Enrolling, routes!(enrollment::read))
        .with(Caller::Enrolling, routes!(enrollment::register_key))
        .with(Caller::Enrolling, routes!(enrollment::tunnel_up))
        .with(Caller::Enrolling, routes!(enrollment::wait_for_save))
        .with(Caller::Leaving, routes!(tunnels::read, tunnels::delete))
        .with(Caller::Bastion, routes!(tunnels::change))
        .with(Caller::Bastion, routes!(tunnels::announce_key))
        .with(Caller::Bastion, routes!(tunnels::confirm_key))
}

fn open_calls(calls: Calls) -> Calls {
    let by = Caller::Anybody;
    calls
        .with(by, routes!(openapi::read))
        .with(by, routes!(scripts::bootstrap))
        .with(by, routes!(scripts::removal))
        .with(by, routes!(scripts::download))
        .with(by, routes!(health::alive))
        .with(by, routes!(health::ready))
}

pub(super) async fn no_such_path() -> ApiError {
    ApiError::new(
        ProblemKind::NotFound,
        "nothing is served under this path; the API begins at /api/v1",
    )
}

pub(super) async fn wrong_method() -> ApiError {
    ApiError::new(
        ProblemKind::MethodNotAllowed,
        "the Allow header names the methods of this path",
    )
}

async fn bound_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            ProblemKind::Internal,
            format!(
                "the request took longer than {} s",
                REQUEST_TIMEOUT.as_secs()
            ),
        )
        .into_response(),
    }
}

fn header_by_default(
    name: header::HeaderName,
    value: &'static str,
) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Names a request in the log by its route. The path itself may hold a token.
fn request_span(request: &Request) -> tracing::Span {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("(no route)", MatchedPath::as_str);
    tracing::info_span!("request", method = %request.method(), route)
}
