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
use axum::routing::{delete, get, post, put};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;

use self::problem::ApiError;
use super::address::PublicAddress;
use super::changes::Changes;
use super::downloads::Downloads;
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
        .merge(operator_routes())
        .merge(bastion_routes())
        .merge(open_routes())
        .merge(web::routes(&app))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(bound_time))
        .layer(header_by_default(header::CACHE_CONTROL, "no-store"))
        .layer(header_by_default(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // What fails inside is logged with its cause where it fails.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(request_span)
                .on_failure(()),
        )
        .with_state(app)
}

fn operator_routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/api/v1/data-sources",
            get(data_sources::list).post(data_sources::create),
        )
        .route(
            "/api/v1/data-sources/{id}",
            get(data_sources::read)
                .patch(data_sources::change)
                .delete(data_sources::delete),
        )
        .route("/api/v1/data-sources/events", get(live::all))
        .route("/api/v1/data-sources/{id}/events", get(live::one))
        .route("/api/v1/data-sources/{id}/test", post(connection::test))
        .route("/api/v1/data-sources/{id}/save", post(connection::save))
        .route(
            "/api/v1/data-sources/{id}/login",
            delete(connection::forget_login),
        )
}

fn bastion_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/enrollment", get(enrollment::read))
        .route(
            "/api/v1/enrollment/public-key",
            put(enrollment::register_key),
        )
        .route("/api/v1/enrollment/tunnel-up", post(enrollment::tunnel_up))
        .route(
            "/api/v1/enrollment/data-source",
            get(enrollment::wait_for_save),
        )
        .route(
            "/api/v1/tunnels/{id}",
            get(tunnels::read)
                .patch(tunnels::change)
                .delete(tunnels::delete),
        )
        .route(
            "/api/v1/tunnels/{id}/public-key",
            put(tunnels::announce_key),
        )
        .route(
            "/api/v1/tunnels/{id}/public-key/confirm",
            post(tunnels::confirm_key),
        )
}

fn open_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/i/{token}", get(scripts::bootstrap))
        .route("/r/{token}", get(scripts::removal))
        .route(
            "/download/{target}/holistics-tunnel",
            get(scripts::download),
        )
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
}

async fn no_such_path() -> ApiError {
    ApiError::new(
        ProblemKind::NotFound,
        "nothing is served under this path; the API begins at /api/v1",
    )
}

async fn wrong_method() -> ApiError {
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
