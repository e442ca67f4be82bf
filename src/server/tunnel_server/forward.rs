//! A forwarded port: accept connections and open a channel to the bastion for each.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::Channel;
use russh::server::Msg;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::activity::Carried;
use super::copy::copy;
use super::counters::Counters;
use super::delivery::Sink;
use super::limits;
use super::live_session::LiveSession;
use super::log_lines::Kind;
use super::window::{Budget, ReceiveWindow};

const NOT_ACCEPTED: Kind = "connections to a tunnel's port could not be accepted";
const TOO_MANY: Kind = "too many connections through a session";
const UNREACHABLE: Kind = "a database could not be reached through its bastion";

/// Who holds a port, and under which address it knows it.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) session: Arc<LiveSession>,
    pub(super) address: String,
}

/// Accepts connections on a port until stopped; then they end, too.
pub(super) async fn listen(
    listener: TcpListener,
    port: u16,
    holder: watch::Receiver<Holder>,
    window_budget: Arc<Budget>,
    counters: Arc<Counters>,
    carried: Arc<Carried>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let connection = Connection {
                    socket,
                    peer,
                    port,
                    holder: holder.borrow().clone(),
                    counters: Arc::clone(&counters),
                    carried: Arc::clone(&carried),
                };
                tokio::spawn(connection.carry(Arc::clone(&window_budget), stop.clone()));
            }
            Err(e) => {
                let session = Arc::clone(&holder.borrow().session);
                if let Some(more) = session.may_log(NOT_ACCEPTED) {
                    warn!(port, "cannot accept a connection: {e}{more}");
                }
                // Out of file descriptors, most likely: trying again at once would not help.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// An accepted connection.
struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    port: u16,
    holder: Holder,
    counters: Arc<Counters>,
    /// What its tunnel carries.
    carried: Arc<Carried>,
}

impl Connection {
    /// Carries the connection to its end, or to the end of its tunnel.
    async fn carry(self, window_budget: Arc<Budget>, stop: CancellationToken) {
        self.counters.accepted.inc();
        self.carried.count_connection();
        let session = Arc::clone(&self.holder.session);
        let Ok(slot) = Arc::clone(&session.slots).try_acquire_owned() else {
            self.counters.refused.connections.inc();
            if let Some(more) = session.may_log(TOO_MANY) {
                warn!(port = self.port, %session, "too many connections at once: one is refused{more}");
            }
            return abort(&self.socket);
        };
        set_options(&self.socket);
        let Some((channel, _slot)) = self.open_channel(slot, &stop).await else {
            return abort(&self.socket);
        };
        let _open = self.counters.connections.enter();
        let id = channel.id();
        // Nobody listens to the channel's own messages: they are in the delivery.
        let (_, to_bastion) = channel.split();
        let socket = Arc::new(self.socket);
        let from_bastion = session.deliveries.begin(
            id,
            Sink {
                socket: Arc::clone(&socket),
                channel: id,
                window: ReceiveWindow::new(
                    Arc::clone(&session.window_budget),
                    window_budget,
                    Arc::clone(&session.round_trip),
                ),
                handle: session.handle.clone(),
                round_trip: Arc::clone(&session.round_trip),
                counters: Arc::clone(&self.counters),
                carried: Arc::clone(&self.carried),
            },
        );
        let count = |bytes| {
            self.counters.to_bastions.inc_by(bytes);
            self.carried.count_to_bastion(bytes);
        };
        let ended = tokio::select! {
            ended = copy(&socket, &from_bastion, to_bastion, count) => ended,
            () = stop.cancelled() => Err(ErrorKind::ConnectionAborted.into()),
        };
        if let Err(e) = ended {
            debug!(port = self.port, "a connection was aborted: {e}");
            abort(&socket);
        }
        // The socket is closed first: whether the session takes the message is its affair.
        session.deliveries.over(id);
        drop(socket);
        let _ = session.handle.close(id).await;
    }

    /// Asks the bastion to connect to its database.
    async fn open_channel(
        &self,
        slot: OwnedSemaphorePermit,
        stop: &CancellationToken,
    ) -> Option<(Channel<Msg>, OwnedSemaphorePermit)> {
        let Holder { session, address } = &self.holder;
        session.round_trip.ask(&session.handle);
        let handle = session.handle.clone();
        let (address, port) = (address.clone(), u32::from(self.port));
        let (peer, peer_port) = (self.peer.ip().to_string(), u32::from(self.peer.port()));
        // A task of its own, since an answer that comes too late must be answered, too. Until then it
        // keeps the slot: a bastion that never answers is not asked without end.
        let mut opening: Opening = tokio::spawn(async move {
            let channel = handle
                .channel_open_forwarded_tcpip(address, port, peer, peer_port)
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
        self.counters.unreachable.inc();
        if let Some(more) = session.may_log(UNREACHABLE) {
            warn!(port = self.port, %session, "cannot reach the database through the bastion: {why}{more}");
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

fn set_options(socket: &TcpStream) {
    // Without the first, small queries wait for acknowledgements; without the second, a peer
    // that vanished while idle is never found. Neither is worth losing the connection for.
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

/// Makes the close that follows a reset, which no protocol takes for a regular end.
fn abort(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
