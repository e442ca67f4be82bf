//! A tunnel's own calls, after setup.
//!
//! A removed tunnel is answered 404, also to its own token: a bastion that repeats its removal
//! learns that it is done.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::auth::{ChangeableTunnel, OwnTunnel};
use super::extract::Body;
use super::problem::ApiError;
use crate::protocol::{
    DatabaseAddress, NewPublicKey, ProblemKind, Tunnel, TunnelChange, TunnelId, TunnelKey,
    TunnelSession,
};
use crate::server::store::{BastionReport, Record};
use crate::server::{inputs, public_key};

/// `GET /tunnels/{id}`
pub async fn read(
    OwnTunnel(id): OwnTunnel,
    State(app): State<Arc<App>>,
) -> Result<Json<Tunnel>, ApiError> {
    view(&app, id, app.store.tunnel(id).await?).map(Json)
}

/// `PATCH /tunnels/{id}`
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
    })
}

fn address(address: DatabaseAddress) -> Result<DatabaseAddress, String> {
    Ok(DatabaseAddress {
        host: inputs::host("host", &address.host)?,
        port: inputs::port("port", address.port)?,
    })
}

/// `PUT /tunnels/{id}/public-key`: both keys open the tunnel until the new one is confirmed. The
/// same key again gets the same answer; the present key takes the announcement back.
pub async fn announce_key(
    ChangeableTunnel(id): ChangeableTunnel,
    State(app): State<Arc<App>>,
    Body(new): Body<NewPublicKey>,
) -> Result<Json<TunnelKey>, ApiError> {
    let public_key = public_key::normalize(&new.public_key).map_err(ApiError::invalid)?;
    let (former_accepted, changed) = app.store.announce_key(id, &public_key).await?;
    if let Some(data_source) = changed {
        tracing::info!(tunnel = id, former_accepted, "new key announced");
        app.changes.announce(data_source);
    }
    Ok(Json(TunnelKey {
        public_key,
        former_accepted,
    }))
}

/// `POST /tunnels/{id}/public-key/confirm`: the old key opens nothing any more. Only while a
/// session of the new key holds the port.
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
        tracing::info!(tunnel = id, "new key confirmed");
        app.changes.announce(data_source);
    }
    Ok(Json(TunnelKey {
        public_key,
        former_accepted: false,
    }))
}

/// `DELETE /tunnels/{id}`
pub async fn delete(
    OwnTunnel(id): OwnTunnel,
    State(app): State<Arc<App>>,
) -> Result<StatusCode, ApiError> {
    let data_source = app.store.tunnel(id).await?.id;
    app.store.remove(data_source, "bastion").await?;
    app.tunnels.close_tunnel(id).await;
    tracing::info!(data_source, tunnel = id, "removed by its bastion");
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
    })
}
