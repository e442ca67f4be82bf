//! For load balancers and supervisors.

use std::sync::Arc;

use axum::extract::State;

use crate::server::http::app::App;
use crate::server::http::problem::ApiError;

/// Whether the process answers
#[utoipa::path(get, path = "/healthz", operation_id = "read_health",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain; charset=utf-8")))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// Whether all of it works: the database can be written, too
#[utoipa::path(get, path = "/readyz", operation_id = "read_readiness",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, description = "The database cannot be written or read")))]
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    app.store.check().await?;
    Ok("ready\n")
}
