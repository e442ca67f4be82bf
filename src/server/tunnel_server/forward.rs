//! A forwarded port: accept connections, and open a channel to the bastion for each, or have another node do it.
//!
//! Whoever has connected, a connection that this node's session carries goes the same way: also one that
//! another node has passed on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use russh::Channel;
use russh::server::Msg;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::activity::Carried;
use super::copy::copy;
use super::counters::Counters;
use super::delivery::Sink;
use super::fronts::Front;
use super::limits;
use super::live_session::LiveSession;
use super::log_lines::Kind;
use super::reader::Reader;
use super::window::{Budget, ReceiveWindow};
use crate::server::accepting::accept;

const NOT_ACCEPTED: Kind = "connections to a tunnel's port could not be accepted";
const TOO_MANY: Kind = "too many connections through a session";
const UNREACHABLE: Kind = "a database could not be reached through its bastion";

/// Who holds a port, and under which address it knows it.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) session: Arc<LiveSession>,
    pub(super) address: String,
}

/// What every connection through this node's sessions works with.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) window_budget: Arc<Budget>,
    pub(super) counters: Arc<Counters>,
}

/// A port that a session of this node holds.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) port: u16,
    pub(super) holder: Holder,
    /// What its tunnel carries.
    pub(super) carried: Arc<Carried>,
    /// Ends every connection through it.
    pub(super) stop: CancellationToken,
    pub(super) common: Common,
}

/// Where a port's connections go.
#[derive(Clone)]
pub(super) enum Target {
    Own(Arc<Own>),
    Front(Arc<Front>),
}

/// Accepts connections on a port until stopped. They go on; what ends them is their target's affair.
pub(super) async fn listen(
    listener: TcpListener,
    port: u16,
    target: watch::Receiver<Target>,
    stop: CancellationToken,
) {
    let failed = |error: &io::Error| {
        if let Some(more) = target.borrow().may_log(NOT_ACCEPTED) {
            warn!(port, "cannot accept a connection: {error}{more}");
        }
    };
    while let Some((socket, peer)) = accept(&listener, &stop, failed).await {
        let target = target.borrow().clone();
        target.take(socket, peer);
    }
}

impl Target {
    fn take(self, socket: TcpStream, peer: SocketAddr) {
        match self {
            Target::Own(own) => own.take(socket, peer),
            Target::Front(front) => front.take(socket, peer),
        }
    }

    fn may_log(&self, kind: Kind) -> Option<super::log_lines::LeftOut> {
        match self {
            Target::Own(own) => own.holder.session.may_log(kind),
            Target::Front(front) => front.may_log(kind),
        }
    }
}

impl Own {
    /// Carries a connection that was accepted on the port.
    pub(super) fn take(self: Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let reader = Reader::Direct(socket);
        // However this ends, by the end of the process too: what is not brought to its end is cut, and looks so.
        reader.abort();
        if let Ok(slot) = self.admit() {
            self.carry(slot, reader, peer);
        }
    }

    /// Counts a connection, and finds it a place among those of the session.
    ///
    /// # Errors
    /// The session has none, or is about to end since this node drains.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        let counters = &self.common.counters;
        counters.accepted.inc();
        self.carried.count_connection();
        let session = &self.holder.session;
        let slot = session.place();
        match slot {
            Ok(_) => {}
            // Nobody has to be told: its bastion is on its way to another node.
            Err(TryAcquireError::Closed) => {
                counters.refused.drained.inc();
            }
            Err(TryAcquireError::NoPermits) => {
                counters.refused.connections.inc();
                if let Some(more) = session.may_log(TOO_MANY) {
                    warn!(port = self.port, %session, "too many connections at once: one is refused{more}");
                }
            }
        }
        slot
    }

    /// Carries a connection on its session's thread.
    pub(super) fn carry(
        self: Arc<Self>,
        slot: OwnedSemaphorePermit,
        reader: Reader,
        peer: SocketAddr,
    ) {
        let scheduler = self.holder.session.scheduler.clone();
        let Ok(reader) = reader.move_to(&scheduler) else {
            // It is closed. The system had no room to watch it, and will have said so to others.
            return;
        };
        let connection = Connection {
            reader,
            peer,
            own: self,
        };
        scheduler.spawn(connection.carry(slot));
    }
}

/// A connection that has a place.
struct Connection {
    reader: Reader,
    peer: SocketAddr,
    own: Arc<Own>,
}

impl Connection {
    /// Carries the connection to its end, or to the end of its tunnel.
    async fn carry(self, slot: OwnedSemaphorePermit) {
        let session = Arc::clone(&self.own.holder.session);
        self.reader.set_options();
        let Some((channel, _slot)) = self.open_channel(slot).await else {
            return self.reader.abort();
        };
        let Own {
            port,
            carried,
            stop,
            common: Common {
                window_budget,
                counters,
            },
            ..
        } = self.own.as_ref();
        let _open = counters.connections.enter();
        let id = channel.id();
        // Nobody listens to the channel's own messages: they are in the delivery.
        let (_, to_bastion) = channel.split();
        let reader = Arc::new(self.reader);
        let from_bastion = session.deliveries.begin(
            id,
            Sink {
                reader: Arc::clone(&reader),
                channel: id,
                window: ReceiveWindow::new(
                    Arc::clone(&session.window_budget),
                    Arc::clone(window_budget),
                    Arc::clone(&session.round_trip),
                ),
                handle: session.handle.clone(),
                round_trip: Arc::clone(&session.round_trip),
                counters: Arc::clone(counters),
                carried: Arc::clone(carried),
            },
        );
        let count = |bytes| {
            counters.to_bastions.inc_by(bytes);
            carried.count_to_bastion(bytes);
        };
        let ended = tokio::select! {
            ended = copy(&reader, &from_bastion, to_bastion, count) => ended,
            () = stop.cancelled() => Err(ErrorKind::ConnectionAborted.into()),
        };
        match ended {
            Ok(()) => reader.leave().await,
            Err(e) => {
                debug!(port, "a connection was aborted: {e}");
                reader.abort();
            }
        }
        // The socket is closed first: whether the session takes the message is its affair.
        session.deliveries.over(id);
        drop(reader);
        let _ = session.handle.close(id).await;
    }

    /// Asks the bastion to connect to its database.
    async fn open_channel(
        &self,
        slot: OwnedSemaphorePermit,
    ) -> Option<(Channel<Msg>, OwnedSemaphorePermit)> {
        let Own {
            port,
            holder: Holder { session, address },
            stop,
            ..
        } = self.own.as_ref();
        session.round_trip.ask(&session.handle);
        let handle = session.handle.clone();
        let (address, asked_port) = (address.clone(), u32::from(*port));
        let (peer, peer_port) = (self.peer.ip().to_string(), u32::from(self.peer.port()));
        // A task of its own, since an answer that comes too late must be answered, too. Until then it
        // keeps the slot: a bastion that never answers is not asked without end.
        let mut opening: Opening = tokio::spawn(async move {
            let channel = handle
                .channel_open_forwarded_tcpip(address, asked_port, peer, peer_port)
                .await?;
            Ok((channel, slot))
        });
        let why = tokio::select! {
            opened = &mut opening => match opened {
                Ok(Ok(opened)) => return Some(opened),
                Ok(Err(e)) => e.to_string(),
                Err(e) => e.to_string(),
            },
            () = tokio::time::sleep(limits::CHANNEL_OPEN_TIME) => {
                close_when_opened(opening, Arc::clone(session));
                "the bastion took too long".to_owned()
            }
            () = stop.cancelled() => {
                close_when_opened(opening, Arc::clone(session));
                "the tunnel was closed".to_owned()
            }
        };
        self.own.common.counters.unreachable.inc();
        if let Some(more) = session.may_log(UNREACHABLE) {
            warn!(port, %session, "cannot reach the database through the bastion: {why}{more}");
        }
        None
    }
}

/// A channel that is being opened, with the slot that it takes.
type Opening = JoinHandle<Result<(Channel<Msg>, OwnedSemaphorePermit), russh::Error>>;

fn close_when_opened(opening: Opening, session: Arc<LiveSession>) {
    tokio::spawn(async move {
        if let Ok(Ok((channel, _slot))) = opening.await {
            session.deliveries.over(channel.id());
            let _ = channel.close().await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tunnel_server::live_session::SessionId;
    use crate::server::tunnel_server::test_session::session;

    #[tokio::test]
    async fn what_comes_while_a_session_drains_is_not_counted_as_too_many() {
        let (session, _client) = session(SessionId(1)).await;
        let counters = Arc::new(Counters::default());
        let own = Own {
            port: 20_001,
            holder: Holder {
                session: Arc::clone(&session),
                address: "127.0.0.1".to_owned(),
            },
            carried: Arc::default(),
            stop: CancellationToken::new(),
            common: Common {
                window_budget: Budget::in_all(1 << 20),
                counters: Arc::clone(&counters),
            },
        };
        let refused = || {
            let refused = &counters.refused;
            (refused.connections.get(), refused.drained.get())
        };
        let only = own.admit().unwrap();
        own.admit().unwrap_err();
        assert_eq!(refused(), (1, 0));
        assert!(!session.close_to_connections(1), "one goes through it");
        drop(only);
        assert!(session.close_to_connections(1));
        own.admit().unwrap_err();
        assert_eq!(refused(), (1, 1));
    }
}
