//! Ports whose tunnels other nodes hold: connections there are passed on.
//!
//! This node listens there as long as another node holds the tunnel, so that all nodes look alike to whoever
//! connects. Which ports those are [`Holders`] says; who listens is in `ports`, since a session of this node may
//! come and take a port over. Nothing that is counted of a tunnel is counted here, but at its holder.

use std::cmp::Reverse;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use prometheus_client::metrics::counter::Counter;
use rand::seq::SliceRandom;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::counters::Counters;
use super::forward::Own;
use super::log_lines::{Kind, LeftOut, LogLines, Who};
use super::ports::Ports;
use super::reader::{abort, adopt, leave, set_options, shut_down_write};
use crate::protocol::TunnelId;
use crate::server::cluster::holders::{Holders, Peer};
use crate::server::cluster::peer_link::client::{Answered, PeerLinks};
use crate::server::cluster::peer_link::stream::PeerStream;
use crate::server::cluster::peer_link::wire::{Answer, Request};

const NOT_BOUND: Kind = "the port of a tunnel that another node holds cannot be listened on";
const NOT_PASSED_ON: Kind = "a connection could not be passed on to another node";

/// How many nodes are asked for one connection.
const ASKED: usize = 4;

/// How many of a tunnel's connections ask at once: half as many as one node may be asked by anew, so that those of
/// other tunnels wait for none of them.
const ASKING: usize = 32;

/// How long the others wait until it is their turn.
const TURN_TIME: Duration = Duration::from_secs(5);

/// After how long a port that could not be bound is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// How much is read from the accepted connection at once.
const READ: usize = 64 << 10;

/// What all of them share.
pub(super) struct Fronts {
    pub(super) holders: Holders,
    pub(super) links: Arc<PeerLinks>,
    /// Where this node is.
    pub(super) region: String,
    pub(super) ports: Weak<Ports>,
    pub(super) counters: Arc<Counters>,
    pub(super) log_lines: Arc<LogLines>,
    /// How many connections of one tunnel may look for its holder at once: no more than its session would take.
    pub(super) looking_per_tunnel: usize,
    /// Where the connections live.
    pub(super) scheduler: Handle,
    pub(super) stop: CancellationToken,
}

/// A port that another node holds.
pub(super) struct Front {
    all: Arc<Fronts>,
    tunnel: TunnelId,
    port: u16,
    /// Places for connections that nobody has taken yet.
    looking: Arc<Semaphore>,
    /// Turns for those of them that ask.
    asking: Semaphore,
}

/// Who takes a connection.
enum Taker {
    Peer(PeerStream),
    /// A session of this node, which has come meanwhile.
    Own(Arc<Own>),
    Nobody(Nobody),
}

/// Why nobody does.
#[derive(Clone, Copy)]
enum Nobody {
    NotHeld,
    Full,
    Unanswered,
    TooMany,
}

impl Fronts {
    /// Listens on these ports as long as they are to be listened on.
    pub(super) async fn keep(self: Arc<Self>, ports: Arc<Ports>) {
        let mut changes = self.holders.changes();
        loop {
            changes.mark_unchanged();
            let is_whole = self.listen(&ports).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = changes.changed() => {}
                () = ports.a_front_is_lost() => {}
                () = tokio::time::sleep(AGAIN), if !is_whole => {}
            }
        }
    }

    /// Whether all ports are listened on that should be.
    async fn listen(&self, ports: &Arc<Ports>) -> bool {
        ports.end_fronts();
        let mut is_whole = true;
        for (port, tunnel) in self.holders.ports() {
            if let Err(error) = ports.begin_front(port, tunnel).await {
                is_whole = false;
                if let Some(more) = self.log_lines.may(NOT_BOUND, Who::Tunnel(tunnel)) {
                    warn!(
                        tunnel = tunnel.0,
                        port,
                        "cannot listen on the port of a tunnel that another node holds: {error}; is another \
                         program using the port? (ss -ltnp shows which){more}"
                    );
                }
            }
            // There may be thousands.
            tokio::task::consume_budget().await;
        }
        is_whole
    }

    /// The nodes that hold a tunnel, in the order in which they are asked.
    fn order(&self, tunnel: TunnelId, port: u16) -> Vec<Arc<Peer>> {
        let mut peers = self.holders.of(tunnel, port);
        peers.shuffle(&mut rand::rng());
        peers.sort_by_cached_key(|peer| {
            let is_good = !self.links.is_suspect(peer);
            Reverse((is_good, peer.region == self.region, !peer.draining))
        });
        peers
    }
}

impl Front {
    pub(super) fn new(all: &Arc<Fronts>, tunnel: TunnelId, port: u16) -> Self {
        Front {
            looking: Arc::new(Semaphore::new(all.looking_per_tunnel)),
            asking: Semaphore::new(ASKING),
            all: Arc::clone(all),
            tunnel,
            port,
        }
    }

    pub(super) fn tunnel(&self) -> TunnelId {
        self.tunnel
    }

    /// Passes on a connection that was accepted on the port.
    pub(super) fn take(self: Arc<Self>, socket: TcpStream, client: SocketAddr) {
        // However this ends, by the end of the process too: what is not brought to its end is cut, and looks so.
        abort(&socket);
        let Ok(place) = Arc::clone(&self.looking).try_acquire_owned() else {
            return self.comes_to_nothing(Nobody::TooMany);
        };
        let scheduler = self.all.scheduler.clone();
        let Ok(socket) = adopt(socket, &scheduler) else {
            // It is closed. The system had no room to watch it, and will have said so to others.
            return;
        };
        scheduler.spawn(async move { self.pass_on(socket, client, place).await });
    }

    pub(super) fn may_log(&self, kind: Kind) -> Option<LeftOut> {
        self.all.log_lines.may(kind, Who::Tunnel(self.tunnel))
    }

    async fn pass_on(&self, socket: TcpStream, client: SocketAddr, place: OwnedSemaphorePermit) {
        let counters = &self.all.counters.fronted;
        set_options(&socket);
        let taker = tokio::select! {
            taker = self.taker(client) => taker,
            () = self.all.stop.cancelled() => return,
        };
        drop(place);
        let peer = match taker {
            Taker::Peer(peer) => peer,
            Taker::Own(own) => {
                counters.own.inc();
                return own.take(socket, client);
            }
            Taker::Nobody(why) => return self.comes_to_nothing(why),
        };
        counters.passed_on.inc();
        let open = counters.open.enter();
        let ended = tokio::select! {
            ended = carry(&socket, &peer) => ended,
            () = self.all.stop.cancelled() => Err(ErrorKind::ConnectionAborted.into()),
        };
        match ended {
            Ok(()) => {
                drop((peer, open));
                leave(&socket).await;
            }
            Err(error) => {
                debug!(
                    port = self.port,
                    "a connection that was passed on was aborted: {error}"
                );
                peer.abort();
            }
        }
    }

    fn comes_to_nothing(&self, why: Nobody) {
        self.count(why).inc();
        if let Some(more) = self.may_log(NOT_PASSED_ON) {
            let why = why.text();
            warn!(
                tunnel = self.tunnel.0,
                port = self.port,
                "cannot pass a connection on: {why}{more}"
            );
        }
    }

    async fn taker(&self, client: SocketAddr) -> Taker {
        let Ok(Ok(_turn)) = timeout(TURN_TIME, self.asking.acquire()).await else {
            return Taker::Nobody(Nobody::TooMany);
        };
        let request = Request {
            tunnel: self.tunnel,
            port: self.port,
            client,
        };
        let mut why = Nobody::NotHeld;
        for peer in self.all.order(self.tunnel, self.port).iter().take(ASKED) {
            let node = &peer.node;
            match self.all.links.ask(peer, &request).await {
                Ok(Answered::Accepted(stream)) => return Taker::Peer(stream),
                Ok(Answered::Not(Answer::Full)) => why = Nobody::Full,
                Ok(Answered::Not(Answer::OtherVersion)) => {
                    why = Nobody::Unanswered;
                    if let Some(more) = self.may_log(NOT_PASSED_ON) {
                        warn!(%node, "the node speaks another version of the link between nodes{more}");
                    }
                }
                // Its session has gone, and the table does not know it yet.
                Ok(Answered::Not(Answer::NotHeld | Answer::Accepted)) => {}
                Err(error) => {
                    why = Nobody::Unanswered;
                    if let Some(more) = self.may_log(NOT_PASSED_ON) {
                        warn!(%node, address = peer.address, "the node does not answer: {error}{more}");
                    }
                }
            }
        }
        let ports = self.all.ports.upgrade();
        match ports.and_then(|ports| ports.own(self.tunnel, self.port)) {
            Some(own) => Taker::Own(own),
            None => Taker::Nobody(why),
        }
    }

    fn count(&self, why: Nobody) -> &Counter {
        let counters = &self.all.counters.fronted;
        match why {
            Nobody::NotHeld => &counters.not_held,
            Nobody::Full => &counters.full,
            Nobody::Unanswered => &counters.unanswered,
            Nobody::TooMany => &counters.too_many,
        }
    }
}

impl Nobody {
    fn text(self) -> &'static str {
        match self {
            Nobody::NotHeld => "no node that was asked holds the tunnel any more",
            Nobody::Full => "the tunnel's session has as many connections as it may",
            Nobody::Unanswered => "no node that holds the tunnel answers",
            Nobody::TooMany => {
                "too many of the tunnel's connections wait for the node that holds it"
            }
        }
    }
}

/// Carries bytes both ways until both have ended.
///
/// # Errors
/// The connection was cut on one side; it must not look to the other as if it had ended well.
async fn carry(client: &TcpStream, peer: &PeerStream) -> io::Result<()> {
    let (up, down) = (to_peer(client, peer), from_peer(peer, client));
    tokio::pin!(up, down);
    tokio::select! {
        received = &mut down => {
            received?;
            tokio::select! {
                sent = &mut up => sent,
                closed = peer.closed() => closed,
            }
        }
        sent = &mut up => {
            sent?;
            down.await
        }
    }
}

async fn to_peer(client: &TcpStream, peer: &PeerStream) -> io::Result<()> {
    loop {
        // Where both sides are quick, neither would ever have to be waited for.
        tokio::task::consume_budget().await;
        // The buffer is made when there is something to read: idle connections have none.
        client.readable().await?;
        let mut bytes = BytesMut::with_capacity(READ);
        match client.try_read_buf(&mut bytes) {
            Ok(0) => return peer.finish().await,
            Ok(_) => peer.write_all(&bytes).await?,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

async fn from_peer(peer: &PeerStream, client: &TcpStream) -> io::Result<()> {
    loop {
        tokio::task::consume_budget().await;
        peer.readable().await?;
        let mut bytes = BytesMut::new();
        match peer.try_read_buf(&mut bytes) {
            Ok(0) => return shut_down_write(client),
            Ok(_) => write_all(client, &bytes).await?,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

async fn write_all(client: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match client.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => client.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
