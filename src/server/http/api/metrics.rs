//! `/metrics`, for Prometheus.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::prometheus_text;

use super::auth::Operator;
use crate::server::domain::proxies::TrustedProxies;
use crate::server::http::admission::Admission;
use crate::server::http::app::App;
use crate::server::http::connections::{Bounds, Connections};
use crate::server::http::problem::{ApiError, no_such_path, wrong_method};
use crate::server::metrics::counts::Call;
use crate::server::metrics::facts::{self, Web};

/// Counts requests, with what they took and how they were answered.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let call = Call::new(route.map(MatchedPath::as_str), request.method());
    let response = next.run(request).await;
    app.metrics.answered(call, response.status(), started);
    response
}

/// The metrics
///
/// In Prometheus' text format. `--metrics-listen` serves the same without a credential, at an address
/// of its own.
#[utoipa::path(get, path = "/metrics", operation_id = "read_metrics",
    responses((status = 200, description = "All metrics", body = String,
        content_type = "text/plain; version=0.0.4; charset=utf-8")))]
pub async fn read(_: Operator, State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    page(&app).await
}

async fn page(app: &App) -> Result<Response, ApiError> {
    let web = Web {
        streams: app.web.open_streams(),
        connections: app.connections.open(),
        refused: app.connections.refused(),
        made_room: app.connections.made_room(),
    };
    let facts = facts::now(app, web).await?;
    let mut text = String::new();
    prometheus_text::encode(&mut text, &facts)
        .and_then(|()| match app.tunnels.local() {
            Some(local) => prometheus_text::encode(&mut text, &local.counters().registry),
            None => Ok(()),
        })
        .and_then(|()| app.metrics.write(&mut text))
        .map_err(|error| ApiError::internal(&error))?;
    Ok((
        [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
        text,
    )
        .into_response())
}

/// More than one Prometheus needs.
const BOUNDS: Bounds = Bounds {
    in_all: 64,
    per_address: 64,
};

/// Serves the metrics at an address of their own, without a credential, until aborted: for a Prometheus on the
/// same machine or in the same private network.
pub async fn serve(
    listener: TcpListener,
    first_request_timeout: Duration,
    app: Arc<App>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(read_openly))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app);
    let connections = Connections::new(BOUNDS, TrustedProxies::default());
    let served = axum_server::from_tcp(listener)?
        .acceptor(Admission(Arc::clone(&connections)))
        .first_request_timeout(first_request_timeout)
        .serve(router.into_make_service());
    tokio::select! {
        served = served => served,
        () = connections.end_idle() => Ok(()),
    }
}

async fn read_openly(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    page(&app).await
}
