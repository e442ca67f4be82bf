//! A session gives up its ports, or they are taken from it.

use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::claim::Refusal;
use super::other_nodes::Fronted;
use super::{Holding, Ports, State};
use crate::protocol::TunnelId;
use crate::server::tunnel_server::Grant;
use crate::server::tunnel_server::events::SessionEvent;
use crate::server::tunnel_server::forward::Target;
use crate::server::tunnel_server::live_session::{LiveSession, SessionId};
use crate::server::tunnel_server::table::Row;

/// The ports of one session. They are given up with it, however the session ends.
pub(in crate::server::tunnel_server) struct OwnPorts {
    all: Arc<Ports>,
    session: SessionId,
}

impl OwnPorts {
    pub(in crate::server::tunnel_server) fn new(all: &Arc<Ports>, session: SessionId) -> Self {
        OwnPorts {
            all: Arc::clone(all),
            session,
        }
    }

    /// Makes the session the holder of the granted port.
    ///
    /// # Errors
    /// The port cannot be bound, the session has it already, or its holder has shown a sign of life.
    pub(in crate::server::tunnel_server) async fn claim(
        &self,
        grant: Grant,
        session: &Arc<LiveSession>,
        address: &str,
    ) -> Result<(), Refusal> {
        self.all.claim(grant, session, address).await
    }

    /// Gives up a port, if the session holds it. Connections through it end, too: a port that is
    /// nobody's carries nothing.
    pub(in crate::server::tunnel_server) async fn release(&self, port: u16) -> bool {
        let given_up = {
            let mut state = self.all.state();
            match state.own.get(port) {
                Some(row) if row.session == self.session => self.all.remove(&mut state, port),
                _ => None,
            }
        };
        let Some(given_up) = given_up else {
            return false;
        };
        log_down(&given_up);
        given_up.end().await;
        true
    }
}

impl Drop for OwnPorts {
    fn drop(&mut self) {
        let mut state = self.all.state();
        let ports = state.own.ports_of(self.session).to_vec();
        let given_up: Vec<_> = ports
            .into_iter()
            .filter_map(|port| self.all.remove(&mut state, port))
            .collect();
        drop(state);
        // If the log itself has failed, to fail again in here would end the process.
        if !std::thread::panicking() {
            given_up.iter().for_each(log_down);
        }
    }
}

/// A port that its session no longer holds. Its connections end with it.
pub(super) struct GivenUp {
    tunnel: TunnelId,
    pub(super) session: Arc<LiveSession>,
    connections: DropGuard,
    /// Cancelled when the port is closed; none if another node holds it: then it stays.
    closed: Option<CancellationToken>,
}

impl GivenUp {
    /// Returns when the port is closed, if it is to be.
    async fn end(self) {
        drop(self.connections);
        if let Some(closed) = self.closed {
            closed.cancelled().await;
        }
    }
}

impl Ports {
    /// Closes a tunnel, and its session if that holds nothing else.
    pub(in crate::server::tunnel_server) async fn close_tunnel(&self, tunnel: TunnelId) {
        let given_up = {
            let mut state = self.state();
            let port = state.own.port_of(tunnel);
            port.and_then(|port| self.remove(&mut state, port))
        };
        if let Some(given_up) = given_up {
            self.evict(given_up).await;
        }
    }

    /// Closes what was taken out of the table against its session's will.
    pub(super) async fn evict(&self, given_up: GivenUp) {
        log_down(&given_up);
        let session = Arc::clone(&given_up.session);
        given_up.end().await;
        if !self.has_one(session.id) {
            session.close("the tunnel was closed by the server");
        }
    }

    /// Takes a port from its session: the tunnel is down here. The port closes, unless another node holds it; its
    /// connections end when the result is dropped.
    pub(super) fn remove(&self, state: &mut State, port: u16) -> Option<GivenUp> {
        let Row {
            tunnel, holding, ..
        } = state.own.remove(port)?;
        self.events.announce(SessionEvent::Down(tunnel), None);
        self.activity.down(tunnel);
        let Holding {
            own,
            connections,
            listening,
        } = holding;
        let closed = match self.front(port) {
            Some(front) => {
                let tunnel = front.tunnel();
                listening.target.send_replace(Target::Front(front));
                state.fronts.insert(port, Fronted { tunnel, listening });
                None
            }
            None => Some(state.close(port, listening)),
        };
        Some(GivenUp {
            tunnel,
            session: Arc::clone(&own.holder.session),
            connections,
            closed,
        })
    }
}

pub(super) fn log_down(given_up: &GivenUp) {
    info!(tunnel = given_up.tunnel.0, session = %given_up.session, "tunnel down");
}

#[cfg(test)]
mod tests {
    use super::super::test_ports::{GRANT, next_event, ports};
    use super::*;
    use crate::server::tunnel_server::test_session::session;

    #[tokio::test]
    async fn the_ports_of_a_session_are_free_when_it_ends_in_whatever_way() {
        let ports = ports();
        let (session, _bastion) = session(SessionId(7)).await;
        let own = OwnPorts::new(&ports, SessionId(7));
        own.claim(GRANT, &session, "").await.unwrap();
        assert!(matches!(
            own.claim(GRANT, &session, "").await,
            Err(Refusal::Own)
        ));
        let holder = ports.holder(GRANT.tunnel_id).unwrap();
        assert_eq!(
            (holder.public_key.as_str(), holder.port),
            (session.key(), GRANT.port)
        );
        assert_eq!(next_event(&ports).await, SessionEvent::Up(GRANT.tunnel_id));

        let failing = tokio::spawn(async move {
            let _own = own;
            panic!("a bug");
        });
        assert!(failing.await.is_err());
        assert!(!ports.is_up(GRANT.tunnel_id));
        assert_eq!(
            next_event(&ports).await,
            SessionEvent::Down(GRANT.tunnel_id)
        );
    }
    #[tokio::test]
    async fn it_is_not_said_again_that_a_tunnel_is_up_once_it_is_down() {
        let ports = ports();
        let (session, _bastion) = session(SessionId(7)).await;
        let own = OwnPorts::new(&ports, SessionId(7));
        let tunnel = GRANT.tunnel_id;
        own.claim(GRANT, &session, "").await.unwrap();
        assert_eq!(next_event(&ports).await, SessionEvent::Up(tunnel));
        ports.announce_again(tunnel);
        assert_eq!(next_event(&ports).await, SessionEvent::Up(tunnel));
        drop(own);
        ports.announce_again(tunnel);
        assert_eq!(next_event(&ports).await, SessionEvent::Down(tunnel));
    }
}
