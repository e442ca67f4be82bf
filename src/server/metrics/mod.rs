//! `/metrics`, for Prometheus.
//!
//! What can be asked is asked when it is read (`facts`); only what happens and leaves nothing behind
//! is counted: requests and connection tests (`counts`), and what the tunnel server does. Every label has a bounded set of values: a
//! route is the template and never the path, which may hold a token.

pub mod counts;
mod facts;
mod listener;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::prometheus_text;

use super::app::App;
use super::http::api::auth::Operator;
use super::http::api::problem::ApiError;
use counts::Call;

pub use listener::serve;

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
    let facts = facts::now(app).await?;
    let mut text = String::new();
    prometheus_text::encode(&mut text, &facts)
        .and_then(|()| prometheus_text::encode(&mut text, &app.tunnels.counters().registry))
        .and_then(|()| app.metrics.write(&mut text))
        .map_err(|error| ApiError::internal(&error))?;
    Ok((
        [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
        text,
    )
        .into_response())
}
