//! Writes down what the tunnel server sees: tunnels that come up and go down, and when each was
//! last seen.
//!
//! One task for all tunnels. Nothing here decides whether a tunnel is up: that is asked of the
//! tunnel server at the moment it matters.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::app::App;
use super::store::{EventKind, StoreError};
use super::tunnel_server::SessionEvent;
use crate::protocol::TunnelId;

/// How often "last seen" of the tunnels that are up is written, so that after a crash it is no
/// older than this.
const SEEN_INTERVAL: Duration = Duration::from_secs(300);

/// How often is looked whether an old key's time is over, at least.
const OVERLAP_CHECK: Duration = Duration::from_secs(30);

/// Runs until the tunnel server is gone; abort it before that.
pub async fn record(app: Arc<App>) {
    let mut events = app.tunnels.events();
    let mut seen = interval(SEEN_INTERVAL);
    seen.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut overlaps = interval(OVERLAP_CHECK.min(app.key_overlap));
    overlaps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => note(&app, event).await,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "session events came faster than they could be written");
                }
                Err(RecvError::Closed) => return,
            },
            _ = seen.tick() => note_seen(&app).await,
            _ = overlaps.tick() => end_key_overlaps(&app).await,
        }
    }
}

/// Writes "last seen" of every tunnel that is up now.
pub async fn note_seen(app: &App) {
    let result = async {
        let mut tunnels = app.store.enrolled_tunnels().await?;
        tunnels.retain(|tunnel| app.tunnels.is_up(*tunnel));
        app.store.note_seen(&tunnels).await
    };
    if let Err(error) = result.await {
        tracing::error!(error = ?error, "cannot write when the tunnels were last seen");
    }
}

/// Refuses the old keys whose time is over, and closes what they still hold.
async fn end_key_overlaps(app: &App) {
    let ended = match app.store.end_key_overlaps(app.key_overlap).await {
        Ok(ended) => ended,
        Err(error) => {
            tracing::error!(error = ?error, "cannot end the time of old keys");
            return;
        }
    };
    for (tunnel, data_source, key) in ended {
        app.close_other_keys(tunnel, &key).await;
        tracing::info!(tunnel, "the old key's time is over");
        app.changes.announce(data_source);
    }
}

/// A key that is to take another's place has been seen with the port.
async fn note_key(app: &App, tunnel: TunnelId) {
    if let Some(holder) = app.tunnels.holder(tunnel)
        && let Err(error) = app.store.note_key_in_use(tunnel, &holder.public_key).await
    {
        tracing::error!(tunnel, error = ?error, "cannot write which key is in use");
    }
}

async fn note(app: &App, event: SessionEvent) {
    let (tunnel, kind) = kind_of(event);
    tracing::info!(tunnel, event = kind.as_str(), "tunnel session");
    if matches!(kind, EventKind::Up | EventKind::TakenOver) {
        note_key(app, tunnel).await;
    }
    match app.store.note_session(tunnel, kind).await {
        Ok(data_source) => app.changes.announce(data_source),
        // A bench or a race with removal: nothing to write it to.
        Err(StoreError::NotFound) => {}
        Err(error) => tracing::error!(tunnel, error = ?error, "cannot write a session event"),
    }
}

fn kind_of(event: SessionEvent) -> (TunnelId, EventKind) {
    match event {
        SessionEvent::Up(tunnel) => (tunnel, EventKind::Up),
        SessionEvent::Down(tunnel) => (tunnel, EventKind::Down),
        SessionEvent::TakenOver(tunnel) => (tunnel, EventKind::TakenOver),
        SessionEvent::RefusedHeld(tunnel) => (tunnel, EventKind::RefusedHeld),
    }
}
