//! "Test connection", "Save", and the login that is kept for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Operator;
use super::data_sources::view;
use super::extract::{Body, Id, OptionalBody};
use super::problem::ApiError;
use crate::protocol::{
    ConnectionTest, ConnectionTestResult, DataSource, DataSourceId, DataSourceState, ProblemKind,
};
use crate::server::app::App;
use crate::server::domain::{inputs, logins};
use crate::server::probe;
use crate::server::store::{Record, StoredLogin};

/// How long a tunnel is waited for that passes from setup to the service.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How often it is looked for.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(100);

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
    let record = app.store.data_source(id).await?;
    if !record.is_saved() && !record.is_leaving() {
        check_tunnel_is_up(&app, &record)?;
    }
    let login = match login {
        Some(login) => Some(to_store(&app, &record, login)?),
        None => None,
    };
    let name = &operator.name;
    let record = app.store.save(id, login.as_ref(), name).await?;
    tracing::info!(data_source = id.0, operator = name, "saved");
    app.changes.announce(id);
    Ok(Json(view(&app, &record)))
}

fn to_store(app: &App, record: &Record, login: ConnectionTest) -> Result<StoredLogin, ApiError> {
    let login = completed(app, record, login)?;
    logins::to_store(&app.secret, record, login).map_err(|error| ApiError::internal(&error))
}

/// A direct connection can be saved at any time.
fn check_tunnel_is_up(app: &App, record: &Record) -> Result<(), ApiError> {
    if record.tunnel.is_none() || app.is_up(record) {
        return Ok(());
    }
    let next = match record.is_enrolled() {
        true => {
            "its tunnel is not up. Run the command on the bastion again and leave it waiting, then save."
        }
        false => "no bastion has registered. Run the command on the bastion first, then save.",
    };
    Err(ApiError::new(
        ProblemKind::WrongState,
        format!("the data source cannot be saved yet: {next}"),
    ))
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
    let record = app.store.data_source(id).await?;
    if record.is_removed() {
        return Err(ApiError::gone());
    }
    wait_for_the_hand_over(&app, &record).await;
    let target = target(&app, &record)?;
    let login = completed(&app, &record, login)?;
    let result = probe::run(&target, &login).await;
    app.metrics.tested(result.ok);
    tracing::info!(data_source = id.0, ok = result.ok, "connection tested");
    let action = match result.ok {
        true => "connection tested: it works",
        false => "connection tested: it does not work",
    };
    let subject = format!("data source {id}");
    app.note_done(&operator.name, action, &subject).await;
    Ok(Json(result))
}

/// Once it is saved, a tunnel passes from setup to the bastion's service, and is away for a moment.
async fn wait_for_the_hand_over(app: &App, record: &Record) {
    let is_passing_over = record.tunnel.is_some() && app.state(record) == DataSourceState::Saved;
    let deadline = Instant::now() + HAND_OVER;
    while is_passing_over && !app.is_up(record) && Instant::now() < deadline {
        tokio::time::sleep(HAND_OVER_PAUSE).await;
    }
}

fn target(app: &App, record: &Record) -> Result<probe::Target, ApiError> {
    Ok(probe::Target {
        database_type: record.database_type,
        database: record.address().to_string(),
        route: route(app, record)?,
    })
}

fn route(app: &App, record: &Record) -> Result<probe::Route, ApiError> {
    if record.tunnel.is_none() {
        return Ok(probe::Route::Direct {
            host: record.host.clone(),
            port: record.port,
            loopback_allowed: app.direct_loopback_allowed,
        });
    }
    let Some(port) = record.remote_port() else {
        return Err(ApiError::new(
            ProblemKind::WrongState,
            "no bastion has registered for this data source. Run its command on the bastion first, then test.",
        ));
    };
    Ok(probe::Route::Tunnel {
        through: (app.forward_listen, port).into(),
        is_up: app.is_up(record),
    })
}

/// The login with its values checked and its password found.
fn completed(
    app: &App,
    record: &Record,
    login: ConnectionTest,
) -> Result<ConnectionTest, ApiError> {
    let login = checked(login).map_err(ApiError::invalid)?;
    Ok(logins::completed(&app.secret, record, login)?)
}

fn checked(login: ConnectionTest) -> Result<ConnectionTest, String> {
    inputs::one_line("database", &login.database, 255)?;
    inputs::one_line("username", &login.username, 255)?;
    // A NUL would end the password early in most database protocols.
    match login.password.contains('\0') {
        true => Err("password must not contain a NUL character".to_owned()),
        false => Ok(login),
    }
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
    app.store.forget_login(id, &operator.name).await?;
    tracing::info!(data_source = id.0, operator = operator.name, "login erased");
    app.changes.announce(id);
    Ok(StatusCode::NO_CONTENT)
}
