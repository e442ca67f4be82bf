//! "Test connection", "Save", and the login that is kept for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Operator;
use super::extract::{Body, Id, OptionalBody};
use crate::protocol::{ConnectionTest, ConnectionTestResult, DataSource, DataSourceId};
use crate::server::http::app::App;
use crate::server::http::problem::ApiError;
use crate::server::http::view;

/// Saves a data source
///
/// The bastion that waits for it then installs its service. With a body, its login is kept too; again,
/// it changes nothing but that.
#[utoipa::path(post, path = "/api/v1/data-sources/{id}/save", operation_id = "save_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source")), request_body = Option<ConnectionTest>,
    responses((status = 200, description = "As it stands now", body = DataSource),
        (status = 409, description = "Its tunnel is not up, it is being removed, or the saved password is for something else")))]
pub async fn save(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
    OptionalBody(login): OptionalBody<ConnectionTest>,
) -> Result<Json<DataSource>, ApiError> {
    let record = app.save(id, login, &operator.actor).await?;
    Ok(Json(view::data_source(&app, &record)))
}

/// Tests the connection
///
/// A real login and query through the tunnel or directly, stage by stage; without a password, with the
/// saved one. A test that fails is a good answer with `ok: false`.
#[utoipa::path(post, path = "/api/v1/data-sources/{id}/test", operation_id = "test_connection",
    params(("id" = i64, Path, minimum = 1, description = "The data source")), request_body = ConnectionTest,
    responses((status = 200, description = "How far it came", body = ConnectionTestResult),
        (status = 409, description = "No bastion has registered, or the saved password is for something else")))]
pub async fn test(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
    Body(login): Body<ConnectionTest>,
) -> Result<Json<ConnectionTestResult>, ApiError> {
    let result = app.test_connection(id, login, &operator.actor).await?;
    Ok(Json(result))
}

/// Erases the saved login
///
/// There may be none.
#[utoipa::path(delete, path = "/api/v1/data-sources/{id}/login", operation_id = "erase_login",
    params(("id" = i64, Path, minimum = 1, description = "The data source")),
    responses((status = 204, description = "None is saved")))]
pub async fn forget_login(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
) -> Result<StatusCode, ApiError> {
    app.forget_login(id, &operator.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
