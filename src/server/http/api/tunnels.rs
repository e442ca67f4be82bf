//! A tunnel's own calls, after setup.
//!
//! A removed tunnel is answered 404, also to its own token: a bastion that repeats its removal
//! learns that it is done.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::{ChangeableTunnel, OwnTunnel};
use super::extract::Body;
use crate::protocol::{NewPublicKey, Tunnel, TunnelChange, TunnelId, TunnelKey, TunnelSession};
use crate::server::domain::Error;
use crate::server::http::app::App;
use crate::server::http::problem::ApiError;
use crate::server::http::view::wanted_place;
use crate::server::store::Record;

/// Shows a tunnel
#[utoipa::path(get, path = "/api/v1/tunnels/{id}", operation_id = "read_tunnel", params(("id" = i64, Path, minimum = 1, description = "The tunnel")),
    responses((status = 200, description = "As it stands now", body = Tunnel),
        (status = 409, description = "No bastion has registered for it")))]
pub async fn read(
    OwnTunnel(id): OwnTunnel,
    State(app): State<Arc<App>>,
) -> Result<Json<Tunnel>, ApiError> {
    view(&app, id, app.tunnel(id).await?).map(Json)
}

/// Reports what the bastion has done
#[utoipa::path(patch, path = "/api/v1/tunnels/{id}", operation_id = "change_tunnel", params(("id" = i64, Path, minimum = 1, description = "The tunnel")), request_body = TunnelChange,
    responses((status = 200, description = "As it stands now", body = Tunnel),
        (status = 409, description = "The data source is not in a state for that")))]
pub async fn change(
    ChangeableTunnel(id): ChangeableTunnel,
    State(app): State<Arc<App>>,
    Body(change): Body<TunnelChange>,
) -> Result<Json<Tunnel>, ApiError> {
    let record = app.report(id, change).await?;
    view(&app, id, record).map(Json)
}

/// Announces a new key
///
/// Both keys open the tunnel until the new one is confirmed. The same key again gets the same answer;
/// the present key takes the announcement back.
#[utoipa::path(put, path = "/api/v1/tunnels/{id}/public-key", operation_id = "announce_key", params(("id" = i64, Path, minimum = 1, description = "The tunnel")), request_body = NewPublicKey,
    responses((status = 200, description = "Which keys open the tunnel", body = TunnelKey),
        (status = 409, description = "The key is another bastion's, or the data source is not in a state for that")))]
pub async fn announce_key(
    ChangeableTunnel(id): ChangeableTunnel,
    State(app): State<Arc<App>>,
    Body(new): Body<NewPublicKey>,
) -> Result<Json<TunnelKey>, ApiError> {
    Ok(Json(app.announce_key(id, &new.public_key).await?))
}

/// Confirms a new key
///
/// The old key opens nothing any more. Only while a session of the new key holds the port.
#[utoipa::path(post, path = "/api/v1/tunnels/{id}/public-key/confirm", operation_id = "confirm_key", params(("id" = i64, Path, minimum = 1, description = "The tunnel")), request_body = NewPublicKey,
    responses((status = 200, description = "Which keys open the tunnel", body = TunnelKey),
        (status = 409, description = "No session with this key listens, or the data source is not in a state for that")))]
pub async fn confirm_key(
    ChangeableTunnel(id): ChangeableTunnel,
    State(app): State<Arc<App>>,
    Body(new): Body<NewPublicKey>,
) -> Result<Json<TunnelKey>, ApiError> {
    Ok(Json(app.confirm_key(id, &new.public_key).await?))
}

/// Removes a tunnel
///
/// Its session ends at once, and its key is refused.
#[utoipa::path(delete, path = "/api/v1/tunnels/{id}", operation_id = "delete_tunnel", params(("id" = i64, Path, minimum = 1, description = "The tunnel")),
    responses((status = 204, description = "Removed")))]
pub async fn delete(
    OwnTunnel(id): OwnTunnel,
    State(app): State<Arc<App>>,
) -> Result<StatusCode, ApiError> {
    app.remove_own(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(app: &App, id: TunnelId, record: Record) -> Result<Tunnel, ApiError> {
    if record.removed {
        return Err(ApiError::gone());
    }
    let remote_port = record.remote_port().ok_or(Error::NotEnrolled)?;
    let tunnel = record.tunnel.clone().ok_or(Error::NoTunnel)?;
    Ok(Tunnel {
        id,
        status: app.status(id),
        state: app.state(&record),
        display_name: record.display_name,
        database_type: Some(record.database_type),
        host: record.host,
        port: record.port,
        remote_port,
        session: app.tunnels.holder(id).map(|holder| TunnelSession {
            since: holder.since,
            public_key: holder.public_key,
        }),
        host_keys: app.host_keys_of(&tunnel.region),
        place: wanted_place(app, &tunnel),
    })
}
