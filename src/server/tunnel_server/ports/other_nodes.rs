//! Ports whose tunnels other nodes hold: this one listens there, too.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::debug;

use super::Ports;
use super::listening::{Listening, bind};
use crate::protocol::TunnelId;
use crate::server::tunnel_server::forward::Target;
use crate::server::tunnel_server::fronts::{Front, Fronts};

/// A port that is listened on since another node holds it.
pub(super) struct Fronted {
    pub(super) tunnel: TunnelId,
    pub(super) listening: Listening,
}

impl Ports {
    /// From now on, ports that other nodes hold may be listened on.
    ///
    /// # Errors
    /// It has been said before.
    pub(in crate::server::tunnel_server) fn front_by(
        &self,
        fronts: Arc<Fronts>,
    ) -> Result<(), Arc<Fronts>> {
        self.fronting.set(fronts)
    }

    pub(in crate::server::tunnel_server) fn fronts(&self) -> Option<&Arc<Fronts>> {
        self.fronting.get()
    }

    /// Listens on a port that another node holds, if no session of this one does.
    pub(in crate::server::tunnel_server) async fn begin_front(
        self: &Arc<Self>,
        port: u16,
        tunnel: TunnelId,
    ) -> io::Result<()> {
        let closing = self.state().closing.get(&port).cloned();
        if let Some(closed) = closing {
            closed.cancelled().await;
        }
        let mut state = self.state();
        let is_there = state.fronts.get(&port).map(|front| front.tunnel) == Some(tunnel);
        if is_there || state.own.get(port).is_some() {
            return Ok(());
        }
        let Some(target) = self.front(port) else {
            return Ok(());
        };
        let (tunnel, target) = (target.tunnel(), Target::Front(target));
        let listening = match state.fronts.remove(&port) {
            Some(Fronted { listening, .. }) => {
                listening.target.send_replace(target);
                listening
            }
            None => {
                let listener = bind(SocketAddr::new(self.address, port))?;
                self.begin(listener, port, target)
            }
        };
        state.fronts.insert(port, Fronted { tunnel, listening });
        debug!(
            tunnel = tunnel.0,
            port, "listening for another node that holds the tunnel"
        );
        Ok(())
    }

    /// Ends listening on ports that no other node holds any more.
    pub(in crate::server::tunnel_server) fn end_fronts(&self) {
        let mut state = self.state();
        let given_up = |port: &u16, _: &mut Fronted| self.front(*port).is_none();
        let given_up: Vec<_> = state.fronts.extract_if(given_up).collect();
        for (port, Fronted { listening, .. }) in given_up {
            state.close(port, listening);
        }
    }

    /// Ends listening for other nodes, once and for all.
    pub(in crate::server::tunnel_server) fn front_no_more(&self) {
        self.fronts_have_ended.store(true, Ordering::Relaxed);
        self.end_fronts();
    }

    /// Returns when a port has to be listened on again that other nodes hold.
    pub(in crate::server::tunnel_server) async fn a_front_is_lost(&self) {
        self.front_lost.notified().await;
    }

    /// Where a port's connections go if no session of this node holds it.
    pub(super) fn front(&self, port: u16) -> Option<Arc<Front>> {
        if self.fronts_have_ended.load(Ordering::Relaxed) {
            return None;
        }
        let all = self.fronting.get()?;
        let tunnel = all.holders.tunnel_with(port)?;
        Some(Arc::new(Front::new(all, tunnel, port)))
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::runtime::Handle;
    use tokio_util::sync::CancellationToken;

    use super::super::OwnPorts;
    use super::super::test_ports::{GRANT, ports};
    use super::*;
    use crate::server::cluster::holders::{Held, Holders, Peer};
    use crate::server::cluster::peer_link::client::PeerLinks;
    use crate::server::cluster::peer_link::identity::Identity;
    use crate::server::tunnel_server::Grant;
    use crate::server::tunnel_server::live_session::SessionId;
    use crate::server::tunnel_server::test_session::session;

    /// Makes the ports those of one node of several; what others hold is told to the result.
    fn others_of(ports: &Arc<Ports>) -> Holders {
        let holders = Holders::default();
        let identity = Identity::generate().unwrap();
        let links = PeerLinks::new(identity, holders.clone(), Gauge::default());
        let fronts = Fronts {
            holders: holders.clone(),
            links,
            region: String::new(),
            ports: Arc::downgrade(ports),
            counters: ports.shared_counters(),
            log_lines: Arc::default(),
            looking_per_tunnel: 1,
            scheduler: Handle::current(),
            stop: CancellationToken::new(),
        };
        assert!(ports.front_by(Arc::new(fronts)).is_ok());
        holders
    }

    #[tokio::test]
    async fn a_port_that_is_listened_on_again_at_once_waits_for_its_former_listener() {
        let (ports, tunnel) = (ports(), GRANT.tunnel_id);
        let others = others_of(&ports);
        let free = std::net::TcpListener::bind((ports.address(), 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let peers = vec![Arc::new(Peer {
            node: "other".to_owned(),
            region: String::new(),
            address: String::new(),
            certificate: [7; 32],
            draining: false,
        })];
        let held = vec![Held {
            tunnel,
            port,
            is_here: true,
            peers,
        }];
        // Nothing runs between the end of one listener and the beginning of the next but what they wait for.
        for _ in 0..3 {
            others.replace(held.clone());
            ports.begin_front(port, tunnel).await.unwrap();
            others.replace(Vec::new());
            ports.end_fronts();
        }
        let (session, _bastion) = session(SessionId(7)).await;
        let own = OwnPorts::new(&ports, SessionId(7));
        own.claim(Grant { port, ..GRANT }, &session, "")
            .await
            .unwrap();
        drop(own);
        others.replace(held);
        ports.begin_front(port, tunnel).await.unwrap();
        assert!(ports.state().closing.is_empty());
    }
}
