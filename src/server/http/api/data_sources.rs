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

use super::auth::Operator;
use super::extract::{Body, Id, Options};
use super::problem::ApiError;
use crate::protocol::{
    API_BASE, ConnectionKind, DataSource, DataSourceChange, DataSourceId, EnrollmentCommand,
    NewDataSource, RemovalCommand, TunnelStatus, TunnelSummary,
};
use crate::server::app::App;
use crate::server::domain::token::TokenKind;
use crate::server::domain::{inputs, logins};
use crate::server::http::scripts;
use crate::server::store::{
    Change, NewCommandToken, NewEnrollment, NewRecord, Record, TunnelRecord,
};

/// How long a removal command works. Long, since a tunnel is often deleted when nobody is at hand.
const REMOVAL_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// The name of the one region that there is.
const REGION: &str = "default";

/// Creates a data source
///
/// The answer holds the command to run on the bastion.
#[utoipa::path(post, path = "/api/v1/data-sources", operation_id = "create_data_source", request_body = NewDataSource,
    responses((status = 201, description = "Created, with the command for the bastion", body = DataSource,
        headers(("Location" = String, description = "Where it can be read")))))]
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

/// Creates a data source, with a command for the bastion unless it is reached directly.
///
/// # Errors
/// A value is not valid, or the database failed.
pub async fn create_for(
    app: &App,
    operator: &Operator,
    new: NewDataSource,
) -> Result<DataSource, ApiError> {
    let command = match new.connection {
        ConnectionKind::ReverseTunnel => {
            let command = NewCommandToken::generate(&app.secret, TokenKind::Enrollment);
            Some((command, expiry(app.enrollment_ttl)?))
        }
        ConnectionKind::Direct => None,
    };
    let enrollment = command.as_ref().map(|(command, expires_at)| NewEnrollment {
        token: command.token.hash(),
        expires_at: *expires_at,
    });
    let new = checked(new, enrollment).map_err(ApiError::invalid)?;
    let record = app.store.create(&new, &operator.name).await?;
    let mut answer = view(app, &record);
    if let Some((command, expires_at)) = command {
        app.store.keep_seed(&command).await?;
        answer.enrollment = Some(EnrollmentCommand {
            command: scripts::bootstrap_command(&app.public, &command.token),
            token: command.token.as_str().to_owned(),
            expires_at,
        });
    }
    tracing::info!(
        data_source = record.id.0,
        operator = operator.name,
        "created"
    );
    app.changes.announce(record.id);
    Ok(answer)
}

/// Gives a data source another setup command; the one before stops working.
///
/// # Errors
/// Its service is installed, it has no tunnel, it is being removed or gone, or the database failed.
pub async fn new_command(app: &App, operator: &Operator, id: DataSourceId) -> Result<(), ApiError> {
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

fn checked(new: NewDataSource, enrollment: Option<NewEnrollment>) -> Result<NewRecord, String> {
    if let Some(region) = &new.region {
        known_region(region)?;
    }
    Ok(NewRecord {
        display_name: inputs::display_name(&new.display_name)?,
        database_type: new.database_type,
        host: inputs::host("host", &new.host)?,
        port: inputs::port("port", new.port)?,
        region: new.region,
        enrollment,
    })
}

fn known_region(region: &str) -> Result<(), String> {
    match region == REGION {
        true => Ok(()),
        false => Err(format!(
            "region {region:?} is not known: this server has the one region {REGION:?}, which may be left out"
        )),
    }
}

/// Lists the data sources
///
/// Those that are removed are left out.
#[utoipa::path(get, path = "/api/v1/data-sources", operation_id = "list_data_sources",
    responses((status = 200, description = "All of them", body = Vec<DataSource>)))]
pub async fn list(
    _: Operator,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<DataSource>>, ApiError> {
    let records = app.store.data_sources().await?;
    Ok(Json(
        records.iter().map(|record| view(&app, record)).collect(),
    ))
}

/// Shows a data source
///
/// One that is removed can still be read, so that whoever waits for its end sees it.
#[utoipa::path(get, path = "/api/v1/data-sources/{id}", operation_id = "read_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source")),
    responses((status = 200, description = "As it stands now", body = DataSource)))]
pub async fn read(
    _: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
) -> Result<Json<DataSource>, ApiError> {
    let record = app.store.data_source(id).await?;
    Ok(Json(view(&app, &record)))
}

/// Changes a data source
///
/// A new host or port needs a command on the bastion, which the answer holds; the remote port stays.
#[utoipa::path(patch, path = "/api/v1/data-sources/{id}", operation_id = "change_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source")), request_body = DataSourceChange,
    responses((status = 200, description = "As it stands now", body = DataSource),
        (status = 409, description = "It is being removed")))]
pub async fn change(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
    Body(change): Body<DataSourceChange>,
) -> Result<Json<DataSource>, ApiError> {
    let change = checked_change(change).map_err(ApiError::invalid)?;
    let record = app.store.change(id, &change, &operator.name).await?;
    tracing::info!(data_source = id.0, operator = operator.name, "changed");
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

/// The options of [`delete`].
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteOptions {
    /// Removes it now, without the bastion.
    force: bool,
}

/// Removes a data source
///
/// Asks for the removal, and gives the command for the bastion; again, it gives a new command. With
/// `?force=true` it removes at once, without the bastion; and so it does for a direct connection, which has
/// nothing on one.
#[utoipa::path(delete, path = "/api/v1/data-sources/{id}", operation_id = "delete_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source"), DeleteOptions),
    responses((status = 200, description = "Being removed: the command for the bastion", body = RemovalCommand),
        (status = 204, description = "Removed")))]
pub async fn delete(
    operator: Operator,
    Id(id): Id<DataSourceId>,
    Options(options): Options<DeleteOptions>,
    State(app): State<Arc<App>>,
) -> Result<Response, ApiError> {
    let record = app.store.data_source(id).await?;
    match options.force || record.tunnel.is_none() {
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
pub async fn remove_now(app: &App, id: DataSourceId, operator: &Operator) -> Result<(), ApiError> {
    let record = app.store.remove(id, &operator.name).await?;
    if let Some(tunnel) = record.tunnel_id() {
        app.tunnels.close_tunnel(tunnel).await;
    }
    tracing::info!(
        data_source = id.0,
        operator = operator.name,
        "removed at once"
    );
    app.changes.announce(id);
    Ok(())
}

/// Asks for a data source's removal, and gives the command for its bastion.
///
/// # Errors
/// It is removed already, it has no tunnel, or the database failed.
pub async fn request_removal(
    app: &App,
    id: DataSourceId,
    operator: &Operator,
) -> Result<RemovalCommand, ApiError> {
    let command = NewCommandToken::generate(&app.secret, TokenKind::Removal);
    let token = &command.token;
    app.store
        .request_removal(id, &token.hash(), expiry(REMOVAL_TTL)?, &operator.name)
        .await?;
    app.store.keep_seed(&command).await?;
    tracing::info!(
        data_source = id.0,
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
    let tunnel = record.tunnel.as_ref();
    DataSource {
        id: record.id,
        display_name: record.display_name.clone(),
        database_type: record.database_type,
        connection: record.connection(),
        host: record.host.clone(),
        port: record.port,
        state: app.state(record),
        tunnel: tunnel.map(|tunnel| tunnel_summary(app, record, tunnel)),
        login: record.login.as_ref().map(logins::summary),
        update_command: record
            .pending()
            .and(tunnel)
            .map(|tunnel| format!("{} update-tunnel {}", scripts::PROGRAM, tunnel.id)),
        enrollment: None,
        created_at: record.created_at,
    }
}

fn tunnel_summary(app: &App, record: &Record, tunnel: &TunnelRecord) -> TunnelSummary {
    let status = app.status(tunnel.id);
    TunnelSummary {
        id: tunnel.id,
        remote_port: tunnel.remote_port,
        server: app.public.ssh_server(),
        status,
        last_seen: match status {
            TunnelStatus::Up => Some(jiff::Timestamp::now()),
            TunnelStatus::Down => tunnel.last_seen,
        },
        applied: tunnel.applied.clone(),
        pending: record.pending(),
    }
}
