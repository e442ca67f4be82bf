//! Listening on a port, and what becomes of it when the listener ends, in whatever way.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use super::giving_up::log_down;
use super::{Ports, State};
use crate::server::tunnel_server::forward::{self, Target};

/// A listener, and where its connections go.
pub(super) struct Listening {
    pub(super) target: watch::Sender<Target>,
    /// Ends it, also when it is merely dropped.
    stop: DropGuard,
    /// Cancelled when the port is closed.
    closed: CancellationToken,
    task: task::Id,
}

impl State {
    /// Stops listening on a port. The result is cancelled when it is closed.
    pub(super) fn close(&mut self, port: u16, listening: Listening) -> CancellationToken {
        let Listening { stop, closed, .. } = listening;
        self.closing.insert(port, closed.clone());
        drop(stop);
        closed
    }
}

impl Ports {
    pub(super) fn begin(
        self: &Arc<Self>,
        listener: TcpListener,
        port: u16,
        target: Target,
    ) -> Listening {
        let (target, target_seen) = watch::channel(target);
        let stop = self.shutdown.child_token();
        let listening = forward::listen(listener, port, target_seen, stop.clone());
        self.watch(port, target, stop, listening)
    }

    pub(super) fn watch(
        self: &Arc<Self>,
        port: u16,
        target: watch::Sender<Target>,
        stop: CancellationToken,
        listening: impl Future<Output = ()> + Send + 'static,
    ) -> Listening {
        let (ports, stopped) = (Arc::clone(self), stop.clone());
        let closed = CancellationToken::new();
        let told = closed.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _ = AssertUnwindSafe(listening).catch_unwind().await;
            let was_stopped = {
                // Who closes it has the state, too: that was before this, or `lost` finds it.
                let mut state = ports.state();
                state.closing.remove(&port);
                stopped.is_cancelled()
            };
            drop(told);
            if !was_stopped {
                ports.lost(port);
            }
        });
        Listening {
            target,
            stop: stop.drop_guard(),
            closed,
            task: task.id(),
        }
    }

    /// Called by a listener that has ended though nobody stopped it. Its tunnel is down then, and
    /// the session has to come again, since it does not know.
    pub(super) fn lost(&self, port: u16) {
        let is_this = |listening: &Listening| listening.task == task::id();
        let given_up = {
            let mut state = self.state();
            // Another one may listen there by now.
            let given_up = match state.own.get(port) {
                Some(row) if is_this(&row.holding.listening) => {
                    let given_up = self.remove(&mut state, port);
                    // Nor does it listen for another node.
                    state.fronts.remove(&port);
                    given_up
                }
                _ => {
                    let front = state.fronts.get(&port);
                    if front.is_some_and(|front| is_this(&front.listening)) {
                        state.fronts.remove(&port);
                    }
                    None
                }
            };
            // It has ended: whoever wants the port would wait for that for ever.
            state.closing.remove(&port);
            given_up
        };
        error!(port, "the port's listener has ended by itself");
        self.front_lost.notify_one();
        if let Some(given_up) = given_up {
            log_down(&given_up);
            let session = given_up.session;
            session.close("the tunnel's listener has failed; connect again");
        }
    }
}

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::super::Holding;
    use super::super::test_ports::{GRANT, next_event, ports};
    use super::*;
    use crate::server::tunnel_server::events::SessionEvent;
    use crate::server::tunnel_server::forward::{Holder, Own};
    use crate::server::tunnel_server::live_session::SessionId;
    use crate::server::tunnel_server::test_session::session;

    #[tokio::test]
    async fn a_tunnel_whose_listener_has_died_is_down_and_its_bastion_is_disconnected() {
        for panics in [true, false] {
            let ports = ports();
            let (session, mut bastion) = session(SessionId(7)).await;
            let stop = ports.shutdown.child_token();
            let own = Arc::new(Own {
                port: GRANT.port,
                holder: Holder {
                    session,
                    address: String::new(),
                },
                carried: ports.activity.up(GRANT.tunnel_id),
                stop: stop.clone(),
                common: ports.common.clone(),
            });
            let listening = async move { assert!(!panics, "a bug") };
            {
                let mut state = ports.state();
                let target = watch::Sender::new(Target::Own(Arc::clone(&own)));
                let listening = ports.watch(GRANT.port, target, stop.clone(), listening);
                let holding = Holding {
                    own,
                    connections: stop.drop_guard(),
                    listening,
                };
                ports.insert(&mut state, GRANT.tunnel_id, holding);
            }
            assert_eq!(next_event(&ports).await, SessionEvent::Up(GRANT.tunnel_id));
            assert_eq!(
                next_event(&ports).await,
                SessionEvent::Down(GRANT.tunnel_id)
            );
            assert!(!ports.is_up(GRANT.tunnel_id));
            assert!(
                ports.state().closing.is_empty(),
                "whoever wants the port next would wait for ever"
            );
            assert_eq!(bastion.read(&mut [0; 16]).await.unwrap(), 0);
        }
    }
}
