//! The operators' calls.
//!
//! A removed data source can still be read, with the state `removed`, so that whoever waits for
//! its end sees it; it is in no list, and every change of it is answered 404.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::auth::Operator;
use super::extract::{Body, Id, Options};
use super::problem::ApiError;
use crate::protocol::{
    API_BASE, ConnectionTest, ConnectionTestResult, DataSource, DataSourceChange,
    EnrollmentCommand, NewDataSource, ProblemKind, RemovalCommand, TunnelSummary,
};
use crate::server::store::{Change, NewCommandToken, NewRecord, Record};
use crate::server::token::{Token, TokenKind};
use crate::server::{inputs, probe, scripts};

/// How long a removal command works. Long, since a tunnel is often deleted when nobody is at hand.
const REMOVAL_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// `POST /data-sources`
pub async fn create(
    operator: Operator,
    State(app): State<Arc<App>>,
    Body(new): Body<NewDataSource>,
) -> Result<impl IntoResponse, ApiError> {
    let answer = create_for(&app, &operator, new).await?;
    let location = format!("{API_BASE}/data-sources/{}", answer.id);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(answer),
    ))
}

/// Creates a data source with its command.
///
/// # Errors
/// A value is not valid, or the database failed.
pub async fn create_for(
    app: &App,
    operator: &Operator,
    new: NewDataSource,
) -> Result<DataSource, ApiError> {
    let command = NewCommandToken::generate(&app.secret, TokenKind::Enrollment);
    let token = &command.token;
    let expires_at = expiry(app.enrollment_ttl)?;
    let new = checked(new, token, expires_at).map_err(ApiError::invalid)?;
    let record = app.store.create(&new, &operator.name).await?;
    app.store.keep_seed(&command).await?;
    tracing::info!(data_source = record.id, operator = operator.name, "created");
    app.changes.announce(record.id);
    let mut answer = view(app, &record);
    answer.enrollment = Some(EnrollmentCommand {
        command: scripts::bootstrap_command(&app.public, token),
        token: token.as_str().to_owned(),
        expires_at,
    });
    Ok(answer)
}

/// Gives a data source another setup command; the one before stops working.
///
/// # Errors
/// Its service is installed, it is being removed or gone, or the database failed.
pub async fn new_command(app: &App, operator: &Operator, id: i64) -> Result<(), ApiError> {
    let command = NewCommandToken::generate(&app.secret, TokenKind::Enrollment);
    let expires_at = expiry(app.enrollment_ttl)?;
    let hash = command.token.hash();
    app.store
        .replace_enrollment(id, &hash, expires_at, &operator.name)
        .await?;
    app.store.keep_seed(&command).await?;
    app.changes.announce(id);
    Ok(())
}

fn checked(
    new: NewDataSource,
    token: &Token,
    expires_at: jiff::Timestamp,
) -> Result<NewRecord, String> {
    if let Some(region) = &new.region {
        inputs::identifier("region", region)?;
    }
    Ok(NewRecord {
        display_name: inputs::display_name(&new.display_name)?,
        database_type: new.database_type,
        host: inputs::host("host", &new.host)?,
        port: inputs::port("port", new.port)?,
        region: new.region,
        enrollment: token.hash(),
        expires_at,
    })
}

/// `GET /data-sources`
pub async fn list(
    _: Operator,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<DataSource>>, ApiError> {
    let records = app.store.data_sources().await?;
    Ok(Json(
        records.iter().map(|record| view(&app, record)).collect(),
    ))
}

/// `GET /data-sources/{id}`
pub async fn read(
    _: Operator,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<Json<DataSource>, ApiError> {
    let record = app.store.data_source(id).await?;
    Ok(Json(view(&app, &record)))
}

/// `PATCH /data-sources/{id}`
pub async fn change(
    operator: Operator,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(change): Body<DataSourceChange>,
) -> Result<Json<DataSource>, ApiError> {
    let change = checked_change(change).map_err(ApiError::invalid)?;
    let record = app.store.change(id, &change, &operator.name).await?;
    tracing::info!(data_source = id, operator = operator.name, "changed");
    app.changes.announce(id);
    Ok(Json(view(&app, &record)))
}

fn checked_change(change: DataSourceChange) -> Result<Change, String> {
    Ok(Change {
        display_name: change
            .display_name
            .map(|name| inputs::display_name(&name))
            .transpose()?,
        host: change
            .host
            .map(|host| inputs::host("host", &host))
            .transpose()?,
        port: change
            .port
            .map(|port| inputs::port("port", port))
            .transpose()?,
    })
}

/// `POST /data-sources/{id}/save`
pub async fn save(
    operator: Operator,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<Json<DataSource>, ApiError> {
    let record = app.store.data_source(id).await?;
    if !record.is_saved() && !record.is_leaving() {
        check_tunnel_is_up(&app, &record)?;
    }
    let record = app.store.save(id, &operator.name).await?;
    tracing::info!(data_source = id, operator = operator.name, "saved");
    app.changes.announce(id);
    Ok(Json(view(&app, &record)))
}

fn check_tunnel_is_up(app: &App, record: &Record) -> Result<(), ApiError> {
    if app.is_up(record) {
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

/// `POST /data-sources/{id}/test`
pub async fn test(
    _: Operator,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(login): Body<ConnectionTest>,
) -> Result<Json<ConnectionTestResult>, ApiError> {
    let login = checked_login(login).map_err(ApiError::invalid)?;
    let record = app.store.data_source(id).await?;
    if record.is_removed() {
        return Err(ApiError::gone());
    }
    let Some(port) = record.remote_port else {
        return Err(ApiError::new(
            ProblemKind::WrongState,
            "no bastion has registered for this data source. Run its command on the bastion first, then test.",
        ));
    };
    let target = probe::Target {
        database_type: record.database_type,
        database: format!("{}:{}", record.host, record.port),
        route: probe::Route::Tunnel {
            through: (app.forward_listen, port).into(),
            is_up: app.is_up(&record),
        },
    };
    let result = probe::run(&target, &login).await;
    tracing::info!(data_source = id, ok = result.ok, "connection tested");
    Ok(Json(result))
}

fn checked_login(login: ConnectionTest) -> Result<ConnectionTest, String> {
    inputs::one_line("database", &login.database, 255)?;
    inputs::one_line("username", &login.username, 255)?;
    // A NUL would end the password early in most database protocols.
    match login.password.contains('\0') {
        true => Err("password must not contain a NUL character".to_owned()),
        false => Ok(login),
    }
}

/// `DELETE /data-sources/{id}`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteOptions {
    /// Removes it now, without the bastion.
    force: bool,
}

/// `DELETE /data-sources/{id}`: asks for the removal, and gives the command for the bastion; again,
/// it gives a new command. With `?force=true` it removes at once.
pub async fn delete(
    operator: Operator,
    Id(id): Id,
    Options(options): Options<DeleteOptions>,
    State(app): State<Arc<App>>,
) -> Result<Response, ApiError> {
    match options.force {
        true => {
            remove_now(&app, id, &operator).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        false => Ok(Json(request_removal(&app, id, &operator).await?).into_response()),
    }
}

/// Removes a data source without the bastion.
///
/// # Errors
/// It is removed already, or the database failed.
pub async fn remove_now(app: &App, id: i64, operator: &Operator) -> Result<(), ApiError> {
    let record = app.store.remove(id, &operator.name).await?;
    app.tunnels.close_tunnel(record.tunnel_id).await;
    tracing::info!(
        data_source = id,
        operator = operator.name,
        "removed by force"
    );
    app.changes.announce(id);
    Ok(())
}

/// Asks for a data source's removal, and gives the command for its bastion.
///
/// # Errors
/// It is removed already, or the database failed.
pub async fn request_removal(
    app: &App,
    id: i64,
    operator: &Operator,
) -> Result<RemovalCommand, ApiError> {
    let command = NewCommandToken::generate(&app.secret, TokenKind::Removal);
    let token = &command.token;
    app.store
        .request_removal(id, &token.hash(), expiry(REMOVAL_TTL)?, &operator.name)
        .await?;
    app.store.keep_seed(&command).await?;
    tracing::info!(
        data_source = id,
        operator = operator.name,
        "removal asked for"
    );
    app.changes.announce(id);
    Ok(RemovalCommand {
        command: scripts::removal_command(&app.public, token),
        token: token.as_str().to_owned(),
    })
}

/// The end of a span from now, in whole milliseconds as it is stored.
fn expiry(ttl: Duration) -> Result<jiff::Timestamp, ApiError> {
    jiff::Timestamp::now()
        .checked_add(ttl)
        .and_then(|at| jiff::Timestamp::from_millisecond(at.as_millisecond()))
        .map_err(|error| ApiError::internal(&error))
}

/// A data source as an operator sees it.
pub fn view(app: &App, record: &Record) -> DataSource {
    let last_seen = match app.is_up(record) {
        true => Some(jiff::Timestamp::now()),
        false => record.last_seen,
    };
    DataSource {
        id: record.id,
        display_name: record.display_name.clone(),
        database_type: record.database_type,
        host: record.host.clone(),
        port: record.port,
        state: app.state(record),
        tunnel: TunnelSummary {
            id: record.tunnel_id,
            remote_port: record.remote_port,
            server: app.public.ssh_server(),
            status: app.status(record),
            last_seen,
            applied: record.applied.clone(),
            pending: record.pending(),
        },
        update_command: record
            .pending()
            .map(|_| format!("holistics-tunnel update-tunnel {}", record.tunnel_id)),
        enrollment: None,
        created_at: record.created_at,
    }
}
