//! The passing side of the link: asks another node to take a connection.
//!
//! A few connections to each node that holds something are kept open, so that a new one waits for one answer
//! and not for handshakes. A node that does not answer in time is suspect, and asked last, until it has shown
//! that it is back.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use rustls::ClientConfig;
use socket2::SockRef;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::identity::Identity;
use super::stream::{PeerStream, set_options};
use super::tls;
use super::wire::{Answer, Request};
use crate::server::cluster::holders::{CertificateHash, Holders, Peer};

/// How long a node may take for its answer, a handshake included.
pub const ANSWER_TIME: Duration = Duration::from_secs(1);

/// For how long a node that has not answered is suspect at least.
const SUSPECT_TIME: Duration = Duration::from_secs(3);

/// How many connections to each node are kept open and unused.
const WARM: usize = 4;

/// For how long; a path may be forgotten by what is on it, and the other node ends it at last.
const WARM_TIME: Duration = Duration::from_secs(45);

/// How often they are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// How many handshakes with one node may be under way.
pub(super) const HANDSHAKES: usize = 64;

/// Why a node has not answered.
#[derive(Debug, Error)]
pub enum NoAnswer {
    /// It has said nothing in time.
    #[error("no answer within {} ms", ANSWER_TIME.as_millis())]
    Late,
    /// The connection failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// What a node has answered.
#[derive(Debug)]
pub enum Answered {
    /// It carries the connection.
    Accepted(PeerStream),
    /// It does not.
    Not(Answer),
}

/// The links to all other nodes.
pub struct PeerLinks {
    identity: Identity,
    holders: Holders,
    links: Mutex<HashMap<CertificateHash, Arc<Link>>>,
    suspects: Gauge,
}

/// The link to one node.
struct Link {
    tls: Arc<ClientConfig>,
    handshakes: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    warm: Vec<Warm>,
    /// Since when it is suspect.
    suspect: Option<Instant>,
    /// Whether somebody opens connections to be kept.
    is_refilled: bool,
}

/// A connection without a request.
struct Warm {
    stream: TlsStream<TcpStream>,
    since: Instant,
}

impl PeerLinks {
    /// To the nodes that are in the table; how many of them are suspect is shown in the gauge.
    pub fn new(identity: Identity, holders: Holders, suspects: Gauge) -> Arc<Self> {
        Arc::new(PeerLinks {
            identity,
            holders,
            links: Mutex::default(),
            suspects,
        })
    }

    /// What this node shows of itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether this node has not answered lately.
    pub fn is_suspect(&self, peer: &Peer) -> bool {
        let link = self.links().get(&peer.certificate).cloned();
        link.is_some_and(|link| link.state().suspect.is_some())
    }

    /// Asks a node to take a connection. It becomes suspect if it does not answer, and is not any more if it
    /// does.
    ///
    /// # Errors
    /// It has not answered in time, or cannot be reached.
    pub async fn ask(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        request: &Request,
    ) -> Result<Answered, NoAnswer> {
        let link = self.link(peer)?;
        let answered = match timeout(ANSWER_TIME, self.ask_on(&link, peer, request)).await {
            Ok(answered) => answered.map_err(NoAnswer::Failed),
            Err(_) => Err(NoAnswer::Late),
        };
        {
            let mut state = link.state();
            match &answered {
                Ok(_) => state.suspect = None,
                Err(_) => {
                    state.suspect = Some(Instant::now());
                    state.warm.clear();
                }
            }
        }
        if answered.is_err() {
            self.count_suspects();
        }
        answered
    }

    async fn ask_on(
        self: &Arc<Self>,
        link: &Arc<Link>,
        peer: &Arc<Peer>,
        request: &Request,
    ) -> io::Result<Answered> {
        loop {
            let kept = link.state().warm.pop();
            let Some(warm) = kept else { break };
            self.refill(link, peer);
            // One that has ended meanwhile says nothing of the node as it is now.
            if let Ok(answered) = exchange(warm.stream, request).await {
                return Ok(answered);
            }
        }
        exchange(link.open(peer).await?, request).await
    }

    /// Keeps some connections open to each node that holds something, and sees which suspects are back; until
    /// it is stopped.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let peers = self.holders.peers_of_all();
            let there: HashSet<_> = peers.iter().map(|peer| peer.certificate).collect();
            self.links()
                .retain(|certificate, _| there.contains(certificate));
            for peer in &peers {
                if let Ok(link) = self.link(peer) {
                    link.drop_old();
                    self.refill(&link, peer);
                }
            }
            self.count_suspects();
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        // What is kept goes with it.
        self.links().clear();
    }

    /// Opens as many connections as there should be, one after the other, beside everything else.
    fn refill(self: &Arc<Self>, link: &Arc<Link>, peer: &Arc<Peer>) {
        {
            let mut state = link.state();
            let is_recent = state.suspect.is_some_and(|at| at.elapsed() < SUSPECT_TIME);
            if is_recent || state.warm.len() >= WARM || state.is_refilled {
                return;
            }
            state.is_refilled = true;
        }
        let (links, link, peer) = (Arc::clone(self), Arc::clone(link), Arc::clone(peer));
        tokio::spawn(async move {
            loop {
                let opened = timeout(ANSWER_TIME, link.open(&peer)).await;
                let mut state = link.state();
                match opened {
                    Ok(Ok(stream)) => {
                        state.suspect = None;
                        let since = Instant::now();
                        state.warm.push(Warm { stream, since });
                        if state.warm.len() < WARM {
                            continue;
                        }
                    }
                    _ => state.suspect = Some(Instant::now()),
                }
                state.is_refilled = false;
                break;
            }
            links.count_suspects();
        });
    }

    fn link(&self, peer: &Peer) -> io::Result<Arc<Link>> {
        if let Some(link) = self.links().get(&peer.certificate) {
            return Ok(Arc::clone(link));
        }
        let tls = tls::client(&self.identity, peer.certificate).map_err(io::Error::other)?;
        let link = Arc::new(Link {
            tls,
            handshakes: Semaphore::new(HANDSHAKES),
            state: Mutex::default(),
        });
        let mut links = self.links();
        Ok(Arc::clone(links.entry(peer.certificate).or_insert(link)))
    }

    fn count_suspects(&self) {
        let links = self.links();
        let suspects = links
            .values()
            .filter(|link| link.state().suspect.is_some())
            .count();
        self.suspects.set(suspects.try_into().unwrap_or(i64::MAX));
    }

    fn links(&self) -> MutexGuard<'_, HashMap<CertificateHash, Arc<Link>>> {
        // Every change leaves it whole.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    async fn open(&self, peer: &Peer) -> io::Result<TlsStream<TcpStream>> {
        let _turn = self.handshakes.acquire().await.map_err(io::Error::other)?;
        let socket = TcpStream::connect(&peer.address).await?;
        set_options(&socket);
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(tls::name(), socket).await
    }

    /// Ends those that are kept for long, or that the other side has ended.
    fn drop_old(&self) {
        self.state()
            .warm
            .retain(|warm| warm.since.elapsed() < WARM_TIME && !has_something(&warm.stream));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the other side has said something unasked, which can only be its end.
fn has_something(stream: &TlsStream<TcpStream>) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    let peeked = SockRef::from(stream.get_ref().0).peek(&mut byte);
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn exchange(mut stream: TlsStream<TcpStream>, request: &Request) -> io::Result<Answered> {
    stream.write_all(&request.bytes()).await?;
    stream.flush().await?;
    match Answer::read(stream.read_u8().await?)? {
        Answer::Accepted => {
            let (socket, connection) = stream.into_inner();
            let stream = PeerStream::new(socket, connection.into());
            Ok(Answered::Accepted(stream))
        }
        other => Ok(Answered::Not(other)),
    }
}
