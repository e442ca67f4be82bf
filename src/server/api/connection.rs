//! "Test connection", "Save", and the login that is kept for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::auth::Operator;
use super::data_sources::view;
use super::extract::{Body, Id, OptionalBody};
use super::problem::ApiError;
use crate::protocol::{ConnectionTest, ConnectionTestResult, DataSource, ProblemKind};
use crate::server::store::{Record, StoredLogin};
use crate::server::{inputs, logins, probe};

/// `POST /data-sources/{id}/save`: with a body, its login is kept too. It may be called again for a
/// new login.
pub async fn save(
    operator: Operator,
    Id(id): Id,
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
    tracing::info!(data_source = id, operator = name, "saved");
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

/// `POST /data-sources/{id}/test`: without a password, with the saved one.
pub async fn test(
    operator: Operator,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(login): Body<ConnectionTest>,
) -> Result<Json<ConnectionTestResult>, ApiError> {
    let record = app.store.data_source(id).await?;
    if record.is_removed() {
        return Err(ApiError::gone());
    }
    let target = target(&app, &record)?;
    let login = completed(&app, &record, login)?;
    let result = probe::run(&target, &login).await;
    tracing::info!(data_source = id, ok = result.ok, "connection tested");
    let action = match result.ok {
        true => "connection tested: it works",
        false => "connection tested: it does not work",
    };
    let subject = format!("data source {id}");
    app.store.audit(&operator.name, action, &subject).await?;
    Ok(Json(result))
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

/// `DELETE /data-sources/{id}/login`: erases the saved login; 204 also where there is none.
pub async fn forget_login(
    operator: Operator,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<StatusCode, ApiError> {
    app.store.forget_login(id, &operator.name).await?;
    tracing::info!(data_source = id, operator = operator.name, "login erased");
    app.changes.announce(id);
    Ok(StatusCode::NO_CONTENT)
}
