//! The metrics at an address of their own, without a credential: for a Prometheus on the same machine
//! or in the same private network.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::server::api::problem::ApiError;
use crate::server::api::{App, no_such_path, wrong_method};

/// Binds the address.
///
/// # Errors
/// It cannot be bound.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve metrics on {address}; choose another address with --metrics-listen")
    })
}

/// Serves until aborted.
pub async fn serve(listener: TcpListener, app: Arc<App>) {
    let router = Router::new()
        .route("/metrics", get(read))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "metrics are not served any more");
    }
}

async fn read(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    super::page(&app).await
}
