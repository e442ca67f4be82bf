//! The bastion's calls during setup.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::auth::Bastion;
use super::extract::{Body, Options};
use crate::protocol::{
    Enrolled, Enrollment, KeyRegistration, LONGEST_POLL_SECONDS, SaveProgress, SaveStatus,
    TunnelServerAddress, TunnelStatus, TunnelUp,
};
use crate::server::domain::changes::Wake;
use crate::server::http::app::App;
use crate::server::http::problem::ApiError;
use crate::server::http::view::tunnel_server;
use crate::server::store::Record;

/// Shows what to tunnel
#[utoipa::path(get, path = "/api/v1/enrollment", operation_id = "read_enrollment",
    responses((status = 200, description = "What this token is for", body = Enrollment),
        (status = 404, description = "The data source has been removed")))]
pub async fn read(
    bastion: Bastion,
    State(app): State<Arc<App>>,
) -> Result<Json<Enrollment>, ApiError> {
    let record = app.tunnel(bastion.tunnel_id).await?;
    if record.removed {
        return Err(ApiError::gone());
    }
    let region = record.region().unwrap_or_default().to_owned();
    Ok(Json(Enrollment {
        data_source_id: record.id,
        tunnel_id: bastion.tunnel_id,
        state: app.state(&record),
        display_name: record.display_name,
        database_type: record.database_type,
        host: record.host,
        port: record.port,
        expires_at: bastion.expires_at,
        server: Some(tunnel_server(&app, &region)),
    }))
}

/// Registers the bastion's key
///
/// The same key again gets the same answer.
#[utoipa::path(put, path = "/api/v1/enrollment/public-key", operation_id = "register_key", request_body = KeyRegistration,
    responses((status = 200, description = "Where to connect, and the token for later calls", body = Enrolled),
        (status = 404, description = "The data source has been removed"),
        (status = 409, description = "Another key is enrolled, the key is another bastion's, or the data source is being removed"),
        (status = 503, description = "Every remote port is given to a tunnel")))]
pub async fn register_key(
    bastion: Bastion,
    State(app): State<Arc<App>>,
    // The client's, where a trusted proxy stands between.
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Body(registration): Body<KeyRegistration>,
) -> Result<Json<Enrolled>, ApiError> {
    let tunnel_id = bastion.tunnel_id;
    let enrolled = app
        .enroll(tunnel_id, &bastion.credential, registration, client.ip())
        .await?;
    Ok(Json(Enrolled {
        tunnel_id,
        remote_port: enrolled.remote_port,
        // What was noted that it is told, also if the keys have changed meanwhile.
        server: TunnelServerAddress {
            host_keys: enrolled.host_keys,
            ..tunnel_server(&app, &enrolled.region)
        },
        tunnel_token: enrolled.tunnel_token.as_str().to_owned(),
    }))
}

/// Confirms that the tunnel is up
///
/// The server looks whether this tunnel's own session listens.
#[utoipa::path(post, path = "/api/v1/enrollment/tunnel-up", operation_id = "confirm_tunnel",
    responses((status = 200, description = "It listens", body = TunnelUp),
        (status = 404, description = "The data source has been removed"),
        (status = 409, description = "It does not listen, or the data source is being removed")))]
pub async fn tunnel_up(
    bastion: Bastion,
    State(app): State<Arc<App>>,
) -> Result<Json<TunnelUp>, ApiError> {
    let record = app.tunnel_up(bastion.tunnel_id).await?;
    Ok(Json(TunnelUp {
        status: TunnelStatus::Up,
        state: record.state(true),
    }))
}

/// The options of [`wait_for_save`].
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct WaitOptions {
    /// How many seconds the answer may take.
    #[param(maximum = 25)]
    wait: u64,
}

/// Waits for the save
///
/// Answers as soon as there is news, or when the time is over.
#[utoipa::path(get, path = "/api/v1/enrollment/data-source", operation_id = "wait_for_save", params(WaitOptions),
    responses((status = 200, description = "What the operator has done", body = SaveProgress)))]
pub async fn wait_for_save(
    bastion: Bastion,
    Options(options): Options<WaitOptions>,
    State(app): State<Arc<App>>,
) -> Result<Json<SaveProgress>, ApiError> {
    if options.wait > LONGEST_POLL_SECONDS {
        let most = format!("wait must be at most {LONGEST_POLL_SECONDS} seconds");
        return Err(ApiError::invalid(most));
    }
    let deadline = Instant::now() + Duration::from_secs(options.wait);
    let record = app.tunnel(bastion.tunnel_id).await?;
    let mut watch = app.changes.watch(record.id);
    loop {
        let status = progress(&app.tunnel(bastion.tunnel_id).await?);
        if status != SaveStatus::Waiting {
            return Ok(Json(SaveProgress { status }));
        }
        match timeout_at(deadline, watch.next()).await {
            Ok(Wake::Changed(_) | Wake::Missed | Wake::AccessChanged) => {}
            Ok(Wake::ShuttingDown) | Err(_) => return Ok(Json(SaveProgress { status })),
        }
    }
}

fn progress(record: &Record) -> SaveStatus {
    match (record.is_leaving(), record.saved) {
        (true, _) => SaveStatus::Cancelled,
        (false, true) => SaveStatus::Saved,
        (false, false) => SaveStatus::Waiting,
    }
}
