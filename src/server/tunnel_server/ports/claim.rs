//! A session becomes the holder of a port: of a free one, of one that is listened on for another node, or of one
//! whose holder is silent or replaced.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::giving_up::GivenUp;
use super::listening::bind;
use super::other_nodes::Fronted;
use super::{Holding, Ports, State};
use crate::protocol::TunnelId;
use crate::server::tunnel_server::Grant;
use crate::server::tunnel_server::events::SessionEvent;
use crate::server::tunnel_server::forward::{Holder, Own, Target};
use crate::server::tunnel_server::limits;
use crate::server::tunnel_server::live_session::{LiveSession, SessionId};
use crate::server::tunnel_server::table::Row;

/// Why a session may not have a port that its key is granted.
#[derive(Debug, Error)]
pub(in crate::server::tunnel_server) enum Refusal {
    /// It has it already.
    #[error("this session listens on the port already")]
    Own,
    /// Another session has it, is alive, and is not replaced.
    #[error(
        "another session of this tunnel, from {0}, holds the port and is alive; is the bastion \
         a copy of another machine?"
    )]
    Held(String),
    /// The port cannot be bound.
    #[error(
        "cannot listen on {address}: {cause}; is another program using the port? \
         (ss -ltnp shows which)"
    )]
    Bind {
        address: SocketAddr,
        cause: io::Error,
    },
}

/// What a look at a port finds, for a session that wants it.
enum Found {
    Free,
    /// It is about to be.
    Closing(CancellationToken),
    Own,
    Held(Arc<LiveSession>),
    /// The port was held for another tunnel, or the tunnel had another port: what is granted has
    /// changed meanwhile. It is no longer in the table.
    Stale(GivenUp),
}

impl Ports {
    /// Makes the session the holder of the granted port.
    ///
    /// # Errors
    /// The port cannot be bound, the session has it already, or its holder has shown a sign of life.
    pub(super) async fn claim(
        self: &Arc<Self>,
        grant: Grant,
        session: &Arc<LiveSession>,
        address: &str,
    ) -> Result<(), Refusal> {
        let newcomer = Holder {
            session: Arc::clone(session),
            address: address.to_owned(),
        };
        let deadline = Instant::now() + limits::REBIND_TIME;
        loop {
            match self.find(grant, session.id) {
                Found::Own => {
                    self.counters().refused.held_ports.inc();
                    return Err(Refusal::Own);
                }
                Found::Stale(given_up) => self.evict(given_up).await,
                Found::Held(holder) => {
                    let is_replaced = grant.replaces && holder.key() != session.key();
                    if !is_replaced && holder.is_alive().await {
                        self.counters().refused.held_ports.inc();
                        self.events
                            .announce(SessionEvent::RefusedHeld(grant.tunnel_id), None);
                        return Err(Refusal::Held(holder.to_string()));
                    }
                    if self.pass_over(grant, &holder, &newcomer) {
                        return Ok(());
                    }
                }
                // It has been stopped, and waits for nothing.
                Found::Closing(closed) => closed.cancelled().await,
                Found::Free => match self.listen(grant, &newcomer) {
                    Ok(()) => return Ok(()),
                    Err(cause) if Instant::now() > deadline => {
                        self.counters().refused.taken_ports.inc();
                        let address = SocketAddr::new(self.address, grant.port);
                        return Err(Refusal::Bind { address, cause });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }

    fn find(&self, grant: Grant, session: SessionId) -> Found {
        let mut state = self.state();
        let table = &state.own;
        let former = table.port_of(grant.tunnel_id).unwrap_or(grant.port);
        let holder = table.get(grant.port).map_or(grant.tunnel_id, |r| r.tunnel);
        let stale = if former != grant.port {
            self.remove(&mut state, former)
        } else if holder != grant.tunnel_id {
            self.remove(&mut state, grant.port)
        } else {
            None
        };
        if let Some(stale) = stale {
            return Found::Stale(stale);
        }
        match state.own.get(grant.port) {
            None => match state.closing.get(&grant.port) {
                Some(closed) => Found::Closing(closed.clone()),
                None => Found::Free,
            },
            Some(row) if row.session == session => Found::Own,
            Some(row) => Found::Held(Arc::clone(&row.holding.own.holder.session)),
        }
    }

    /// Listens on a port that no session of this node holds: on a new listener, or on that which is there for
    /// another node. Another session may have been quicker, which is an error that passes.
    fn listen(self: &Arc<Self>, grant: Grant, newcomer: &Holder) -> io::Result<()> {
        let mut state = self.state();
        let table = &state.own;
        if table.get(grant.port).is_some() || table.port_of(grant.tunnel_id).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let fronted = state.fronts.remove(&grant.port);
        let listener = match &fronted {
            Some(_) => None,
            None => Some(bind(SocketAddr::new(self.address, grant.port))?),
        };
        let stop = self.shutdown.child_token();
        let own = Arc::new(Own {
            port: grant.port,
            holder: newcomer.clone(),
            carried: self.activity.up(grant.tunnel_id),
            stop: stop.clone(),
            common: self.common.clone(),
        });
        let target = Target::Own(Arc::clone(&own));
        let listening = match (fronted, listener) {
            (Some(Fronted { listening, .. }), _) => {
                listening.target.send_replace(target);
                listening
            }
            (None, Some(listener)) => self.begin(listener, grant.port, target),
            // Where it is not there already, it was bound.
            (None, None) => return Err(io::ErrorKind::AddrInUse.into()),
        };
        let connections = stop.drop_guard();
        let holding = Holding {
            own,
            connections,
            listening,
        };
        self.insert(&mut state, grant.tunnel_id, holding);
        Ok(())
    }

    pub(super) fn insert(&self, state: &mut State, tunnel: TunnelId, holding: Holding) {
        let port = holding.own.port;
        let session = Arc::clone(&holding.own.holder.session);
        let row = Row {
            tunnel,
            session: session.id,
            holding,
        };
        state.own.insert(port, row);
        self.events
            .announce(SessionEvent::Up(tunnel), Some(session.key()));
        info!(tunnel = tunnel.0, port, %session, "tunnel up");
    }

    /// Hands the listening port from a session that is silent, or whose key is replaced, to a new
    /// one, unless it has passed on.
    fn pass_over(&self, grant: Grant, former: &LiveSession, newcomer: &Holder) -> bool {
        let session = &newcomer.session;
        {
            let mut state = self.state();
            match state.own.get_mut(grant.port) {
                Some(row) if row.tunnel == grant.tunnel_id && row.session == former.id => {
                    let holding = &mut row.holding;
                    holding.own = Arc::new(Own {
                        holder: newcomer.clone(),
                        ..holding.own.as_ref().clone()
                    });
                    let target = Target::Own(Arc::clone(&holding.own));
                    holding.listening.target.send_replace(target);
                }
                _ => return false,
            }
            state.own.pass(grant.port, session.id);
            self.events.announce(
                SessionEvent::TakenOver(grant.tunnel_id),
                Some(session.key()),
            );
        }
        former.close(
            "the port has passed to a new session: this one was silent, or its key is replaced",
        );
        info!(
            tunnel = grant.tunnel_id.0,
            port = grant.port,
            former = %former,
            %session,
            "tunnel taken over"
        );
        self.counters().takeovers.inc();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::OwnPorts;
    use super::super::test_ports::{GRANT, ports};
    use super::*;
    use crate::server::tunnel_server::test_session::session;

    #[tokio::test]
    async fn what_a_session_no_longer_holds_is_not_taken_from_its_new_holder() {
        let ports = ports();
        let (silent, _one) = session(SessionId(7)).await;
        let (newcomer, _two) = session(SessionId(8)).await;
        let (first, second) = (
            OwnPorts::new(&ports, SessionId(7)),
            OwnPorts::new(&ports, SessionId(8)),
        );
        first.claim(GRANT, &silent, "").await.unwrap();
        second.claim(GRANT, &newcomer, "").await.unwrap();
        drop(first);
        assert!(ports.is_up(GRANT.tunnel_id));
        drop(second);
        assert!(!ports.is_up(GRANT.tunnel_id));
    }
}
