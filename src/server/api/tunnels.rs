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
use crate::protocol::{ProblemKind, Tunnel, TunnelChange};
use crate::server::store::Record;

/// `GET /tunnels/{id}`
pub async fn read(
    OwnTunnel(id): OwnTunnel,
    State(app): State<Arc<App>>,
) -> Result<Json<Tunnel>, ApiError> {
    view(&app, app.store.tunnel(id).await?).map(Json)
}

/// `PATCH /tunnels/{id}`
pub async fn change(
    ChangeableTunnel(id): ChangeableTunnel,
    State(app): State<Arc<App>>,
    Body(change): Body<TunnelChange>,
) -> Result<Json<Tunnel>, ApiError> {
    let record = match change.service_installed {
        Some(installed) => app.store.set_service_installed(id, installed).await?,
        None => app.store.tunnel(id).await?,
    };
    app.changes.announce(record.id);
    view(&app, record).map(Json)
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

fn view(app: &App, record: Record) -> Result<Tunnel, ApiError> {
    if record.is_removed() {
        return Err(ApiError::gone());
    }
    let remote_port = record.remote_port.ok_or_else(|| {
        ApiError::new(
            ProblemKind::WrongState,
            "no bastion has registered for this tunnel, so it has no port yet",
        )
    })?;
    Ok(Tunnel {
        id: record.tunnel_id,
        status: app.status(&record),
        state: app.state(&record),
        display_name: record.display_name,
        database_type: Some(record.database_type),
        host: record.host,
        port: record.port,
        remote_port,
    })
}
