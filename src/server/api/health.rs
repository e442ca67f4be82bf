//! For load balancers and supervisors.

use std::sync::Arc;

use axum::extract::State;

use super::App;
use super::problem::ApiError;

/// `GET /healthz`: the process answers.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database answers too.
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    app.store.ping().await?;
    Ok("ready\n")
}
