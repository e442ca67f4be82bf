//! The metrics at an address of their own, without a credential: for a Prometheus on the same machine
//! or in the same private network.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use crate::server::app::App;
use crate::server::domain::proxies::TrustedProxies;
use crate::server::http::admission::Admission;
use crate::server::http::api::problem::ApiError;
use crate::server::http::api::problem::{no_such_path, wrong_method};
use crate::server::http::connections::{Bounds, Connections};

/// More than one Prometheus needs.
const BOUNDS: Bounds = Bounds {
    in_all: 64,
    per_address: 64,
};

/// Serves until aborted.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    first_request_timeout: Duration,
    app: Arc<App>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(read))
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

async fn read(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    super::page(&app).await
}
