//! Ports for tests, and what happened there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Ports;
use crate::protocol::TunnelId;
use crate::server::tunnel_server::Grant;
use crate::server::tunnel_server::events::SessionEvent;
use crate::server::tunnel_server::window::Budget;

pub(super) fn ports() -> Arc<Ports> {
    let address = IpAddr::from([127, 0, 0, 1]);
    Arc::new(Ports::new(
        address,
        Budget::in_all(1 << 30),
        CancellationToken::new(),
    ))
}

/// The kernel chooses where it really listens.
pub(super) const GRANT: Grant = Grant {
    tunnel_id: TunnelId(1),
    port: 0,
    replaces: false,
};

pub(super) async fn next_event(ports: &Ports) -> SessionEvent {
    timeout(Duration::from_secs(10), ports.events.wait())
        .await
        .expect("an event should have come");
    let noted = ports.events.take(1).noted();
    assert_eq!(noted.len(), 1);
    noted[0].event
}
