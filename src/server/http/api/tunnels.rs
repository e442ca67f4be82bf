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
use super::problem::ApiError;
use crate::protocol::{
    DatabaseAddress, NewPublicKey, ProblemKind, Tunnel, TunnelChange, TunnelId, TunnelKey,
    TunnelSession,
};
use crate::server::app::App;
use crate::server::domain::{host_keys, inputs, public_key};
use crate::server::store::{BastionReport, Record};

/// How many host keys a bastion may have pinned: two kinds, of a few generations.
const MOST_HOST_KEYS: usize = 16;

/// Shows a tunnel
#[utoipa::path(get, path = "/api/v1/tunnels/{id}", operation_id = "read_tunnel", params(("id" = i64, Path, minimum = 1, description = "The tunnel")),
    responses((status = 200, description = "As it stands now", body = Tunnel),
        (status = 409, description = "No bastion has registered for it")))]
pub async fn read(
    OwnTunnel(id): OwnTunnel,
    State(app): State<Arc<App>>,
) -> Result<Json<Tunnel>, ApiError> {
    view(&app, id, app.store.tunnel(id).await?).map(Json)
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
    let report = checked(change).map_err(ApiError::invalid)?;
    let record = app.store.report(id, &report).await?;
    app.changes.announce(record.id);
    view(&app, id, record).map(Json)
}

/// A bastion decides anyway where its tunnel leads, so its token may also write that down.
fn checked(change: TunnelChange) -> Result<BastionReport, String> {
    Ok(BastionReport {
        service_installed: change.service_installed,
        target: change.target.map(address).transpose()?,
        applied: change.applied.map(address).transpose()?,
        host_keys: change.host_keys.map(pinned).transpose()?,
    })
}

fn pinned(keys: Vec<String>) -> Result<Vec<String>, String> {
    if !(1..=MOST_HOST_KEYS).contains(&keys.len()) {
        return Err(format!("host_keys must be from 1 to {MOST_HOST_KEYS} keys"));
    }
    host_keys::fingerprints(&keys).map_err(|error| format!("host_keys: {error}"))
}

fn address(address: DatabaseAddress) -> Result<DatabaseAddress, String> {
    Ok(DatabaseAddress {
        host: inputs::host("host", &address.host)?,
        port: inputs::port("port", address.port)?,
    })
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
    let public_key = public_key::normalize(&new.public_key).map_err(ApiError::invalid)?;
    let (former_accepted, changed) = app.store.announce_key(id, &public_key).await?;
    if let Some(data_source) = changed {
        tracing::info!(tunnel = id.0, former_accepted, "new key announced");
        app.changes.announce(data_source);
    }
    Ok(Json(TunnelKey {
        public_key,
        former_accepted,
    }))
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
    let public_key = public_key::normalize(&new.public_key).map_err(ApiError::invalid)?;
    let holder = app.tunnels.holder(id);
    if holder.is_none_or(|holder| holder.public_key != public_key) {
        return Err(ApiError::new(
            ProblemKind::TunnelDown,
            "no session with this key listens on the tunnel's port. Start ssh with it, then call again.",
        ));
    }
    if let Some(data_source) = app.store.confirm_key(id, &public_key).await? {
        // The port may have passed back to the old key since it was looked at.
        app.close_other_keys(id, &public_key).await;
        tracing::info!(tunnel = id.0, "new key confirmed");
        app.changes.announce(data_source);
    }
    Ok(Json(TunnelKey {
        public_key,
        former_accepted: false,
    }))
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
    let data_source = app.store.tunnel(id).await?.id;
    app.store.remove(data_source, "bastion").await?;
    app.tunnels.close_tunnel(id).await;
    tracing::info!(
        data_source = data_source.0,
        tunnel = id.0,
        "removed by its bastion"
    );
    app.changes.announce(data_source);
    Ok(StatusCode::NO_CONTENT)
}

fn view(app: &App, id: TunnelId, record: Record) -> Result<Tunnel, ApiError> {
    if record.is_removed() {
        return Err(ApiError::gone());
    }
    let remote_port = record.remote_port().ok_or_else(|| {
        ApiError::new(
            ProblemKind::WrongState,
            "no bastion has registered for this tunnel, so it has no port yet",
        )
    })?;
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
        host_keys: app.tunnels.host_keys(),
    })
}
