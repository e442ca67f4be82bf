//! The holder's side of the link: lets other nodes in, and hears for whom they ask.
//!
//! A stranger costs a place among the few that have not proved themselves, for a few seconds. Other nodes may
//! keep connections open unused for a while; they are ours and are not counted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::identity::{Identity, hash};
use super::stream::{PeerStream, set_options};
use super::tls;
use super::wire::{self, Answer, Asked, Request};
use crate::server::cluster::holders::Holders;
use crate::server::domain::peer_network::PeerNetwork;

/// How many connections may not have proved yet whose they are. Another node has at most
/// [`HANDSHAKES`](super::client::HANDSHAKES) of them.
const UNPROVED: usize = 512;

/// How many of them may come from one IPv4 address, or one IPv6 network of 64 bits.
const UNPROVED_PER_NETWORK: usize = 128;

/// How long they have for it.
const HANDSHAKE_TIME: Duration = Duration::from_secs(3);

/// How long another node may keep a connection without a request; it ends them itself long before.
const UNUSED_TIME: Duration = Duration::from_secs(120);

/// How long a request takes at most once it has begun, and its answer.
const REQUEST_TIME: Duration = Duration::from_secs(1);

/// Where the connections go that are passed on.
pub trait Destination: Send + Sync + 'static {
    /// What is kept for a connection from its request to its bytes.
    type Place: Send + 'static;

    /// Whether this connection can be taken; says at once.
    ///
    /// # Errors
    /// It cannot, as the answer says.
    fn admit(&self, request: &Request) -> Result<Self::Place, Answer>;

    /// Carries it from now on, on a task of its own.
    fn carry(&self, place: Self::Place, stream: PeerStream);

    /// Somebody has come who was not let in, or not heard.
    fn refused(&self, peer: SocketAddr, why: Refused, cause: &str);
}

/// Why somebody came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has not shown a certificate of another node.
    Stranger = 0,
    /// It took too long.
    Late = 1,
    /// Too many others have not proved themselves either.
    TooMany = 2,
    /// It asked for nothing that is understood.
    Request = 3,
    /// It asked in another version of the link.
    Version = 4,
}

impl Refused {
    /// All of them, in order, and what they are called in the metrics.
    pub const NAMES: [&str; 5] = ["stranger", "late", "too_many", "request", "version"];
}

/// What all connections share.
struct Shared<D> {
    destination: Arc<D>,
    holders: Holders,
    tls: TlsAcceptor,
    unproved: Unproved,
}

/// Lets other nodes in until it is stopped.
///
/// # Errors
/// The identity is none that TLS can use.
pub fn serve<D: Destination>(
    listener: TcpListener,
    identity: &Identity,
    holders: Holders,
    destination: Arc<D>,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static + use<D>> {
    let shared = Arc::new(Shared {
        destination,
        tls: tls::server(identity, holders.clone())?.into(),
        holders,
        unproved: Unproved::default(),
    });
    Ok(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, peer)) = accepted else {
                // Out of file descriptors, most likely: trying again at once would not help.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some(place) = shared.unproved.enter(PeerNetwork::of(peer.ip())) else {
                let why = "too many have not proved which node they are";
                shared.destination.refused(peer, Refused::TooMany, why);
                continue;
            };
            let (shared, stopped) = (Arc::clone(&shared), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = shared.hear(socket, peer, place) => {}
                }
            });
        }
    })
}

impl<D: Destination> Shared<D> {
    /// From the first byte of a connection until it is handed over, or has come to nothing.
    async fn hear(&self, socket: TcpStream, peer: SocketAddr, place: Place) {
        set_options(&socket);
        let refused = |why, cause: &str| self.destination.refused(peer, why, cause);
        let mut stream = match timeout(HANDSHAKE_TIME, self.tls.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return refused(Refused::Stranger, &error.to_string()),
            Err(_) => return refused(Refused::Late, "it has not proved which node it is in time"),
        };
        drop(place);
        let beginning = wire::read_beginning(&mut stream);
        let version = match timeout(UNUSED_TIME, beginning).await {
            Ok(Ok(version)) => version,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                return refused(Refused::Request, &error.to_string());
            }
            // It was not needed.
            Ok(Err(_)) | Err(_) => return,
        };
        match timeout(REQUEST_TIME, self.answer(version, &mut stream, peer)).await {
            Ok(Ok(Some(place))) => {
                let (socket, connection) = stream.into_inner();
                let stream = PeerStream::new(socket, connection.into());
                self.destination.carry(place, stream);
            }
            // The last answer needs no more than to be sent; the socket's end does not take it back.
            Ok(Ok(None)) => {
                let _ = timeout(REQUEST_TIME, stream.shutdown()).await;
            }
            Ok(Err(error)) => refused(Refused::Request, &error.to_string()),
            Err(_) => refused(Refused::Late, "its request took too long"),
        }
    }

    async fn answer(
        &self,
        version: u8,
        stream: &mut TlsStream<TcpStream>,
        peer: SocketAddr,
    ) -> std::io::Result<Option<D::Place>> {
        let admitted = match wire::read_rest(version, stream).await? {
            Asked::OtherVersion(version) => {
                let cause = format!(
                    "it speaks version {version} of the link between nodes, and this one version {}; \
                     do both run the same release?",
                    wire::VERSION
                );
                self.destination.refused(peer, Refused::Version, &cause);
                Err(Answer::OtherVersion)
            }
            // It may have waited since before the node was taken out.
            Asked::Connection(_) if !self.is_known(stream) => {
                let cause = "its node is no longer one of ours";
                self.destination.refused(peer, Refused::Stranger, cause);
                return Ok(None);
            }
            Asked::Connection(request) => self.destination.admit(&request),
        };
        let answer = admitted.as_ref().err().copied();
        let answer = answer.unwrap_or(Answer::Accepted);
        stream.write_all(&[answer as u8]).await?;
        stream.flush().await?;
        Ok(admitted.ok())
    }

    fn is_known(&self, stream: &TlsStream<TcpStream>) -> bool {
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first);
        certificate.is_some_and(|certificate| self.holders.knows(&hash(certificate)))
    }
}

/// The connections that have not proved yet whose they are.
#[derive(Default)]
struct Unproved(Arc<Mutex<HashMap<PeerNetwork, usize>>>);

/// One of them, until it is dropped.
struct Place {
    of: Arc<Mutex<HashMap<PeerNetwork, usize>>>,
    network: PeerNetwork,
}

impl Unproved {
    fn enter(&self, network: PeerNetwork) -> Option<Place> {
        let mut table = lock(&self.0);
        // As many entries as places at most.
        let all: usize = table.values().sum();
        let own = table.get(&network).copied().unwrap_or_default();
        if all >= UNPROVED || own >= UNPROVED_PER_NETWORK {
            return None;
        }
        table.insert(network, own + 1);
        Some(Place {
            of: Arc::clone(&self.0),
            network,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = lock(&self.of);
        match table.get_mut(&self.network) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                table.remove(&self.network);
            }
        }
    }
}

fn lock(table: &Mutex<HashMap<PeerNetwork, usize>>) -> MutexGuard<'_, HashMap<PeerNetwork, usize>> {
    // Every change leaves it whole.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustls::client::ResolvesClientCert;
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, SignatureScheme};
    use tokio::io::AsyncReadExt;
    use tokio_rustls::TlsConnector;
    use tokio_util::sync::DropGuard;

    use super::*;
    use crate::protocol::TunnelId;
    use crate::server::cluster::holders::Peer;

    const REQUEST: Request = Request {
        tunnel: TunnelId(1),
        port: 20_001,
        client: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7),
    };

    /// Takes nothing, and remembers why others came to nothing.
    #[derive(Default)]
    struct Nowhere(Mutex<Vec<Refused>>);

    impl Destination for Nowhere {
        type Place = ();

        fn admit(&self, _: &Request) -> Result<(), Answer> {
            Err(Answer::NotHeld)
        }

        fn carry(&self, (): (), _: PeerStream) {}

        fn refused(&self, _: SocketAddr, why: Refused, _: &str) {
            self.0.lock().unwrap().push(why);
        }
    }

    #[derive(Debug)]
    struct NoCertificate;

    impl ResolvesClientCert for NoCertificate {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }

    /// A listener, and a node that it knows.
    struct Test {
        address: SocketAddr,
        holders: Holders,
        nowhere: Arc<Nowhere>,
        known: Arc<ClientConfig>,
        stranger: Arc<ClientConfig>,
        _stop: DropGuard,
    }

    async fn start() -> Test {
        let [identity, known, stranger] = [(); 3].map(|()| Identity::generate().unwrap());
        let holders = Holders::default();
        holders.replace_peers([known.hash()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let nowhere = Arc::new(Nowhere::default());
        let (to, stopped) = (Arc::clone(&nowhere), stop.clone());
        let serving = serve(listener, &identity, holders.clone(), to, stopped);
        tokio::spawn(serving.unwrap());
        Test {
            address,
            holders,
            nowhere,
            known: tls::client(&known, identity.hash()).unwrap(),
            stranger: tls::client(&stranger, identity.hash()).unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    impl Test {
        /// What is answered to these bytes; nothing is an error.
        async fn answer(&self, config: &Arc<ClientConfig>, bytes: &[u8]) -> std::io::Result<u8> {
            let socket = TcpStream::connect(self.address).await?;
            let connector = TlsConnector::from(Arc::clone(config));
            let mut stream = connector.connect(tls::name(), socket).await?;
            stream.write_all(bytes).await?;
            let read = timeout(Duration::from_secs(5), stream.read_u8()).await;
            read.expect("it should have been answered or ended")
        }

        fn refused(&self) -> Vec<Refused> {
            std::mem::take(&mut self.nowhere.0.lock().unwrap())
        }
    }

    #[tokio::test]
    async fn a_node_is_answered_at_once_and_one_of_another_version_is_told_so() {
        let test = start().await;
        let answer = test.answer(&test.known, &REQUEST.bytes()).await;
        assert_eq!(answer.unwrap(), Answer::NotHeld as u8);
        let answer = test
            .answer(&test.known, b"HTPL\x02 and whatever it says")
            .await;
        assert_eq!(answer.unwrap(), Answer::OtherVersion as u8);
        assert_eq!(test.refused(), [Refused::Version]);
        let answer = test.answer(&test.known, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(answer.is_err());
        assert_eq!(test.refused(), [Refused::Request]);
    }

    #[tokio::test]
    async fn without_the_certificate_of_a_known_node_nothing_is_heard() {
        let test = start().await;
        let answer = test.answer(&test.stranger, &REQUEST.bytes()).await;
        assert!(answer.is_err());
        assert_eq!(test.refused(), [Refused::Stranger]);

        let mut none = ClientConfig::clone(&test.stranger);
        none.client_auth_cert_resolver = Arc::new(NoCertificate);
        let answer = test.answer(&Arc::new(none), &REQUEST.bytes()).await;
        assert!(answer.is_err());
        assert_eq!(test.refused(), [Refused::Stranger]);
    }

    #[tokio::test]
    async fn a_node_that_is_taken_out_is_not_heard_on_a_connection_that_it_kept() {
        let test = start().await;
        let socket = TcpStream::connect(test.address).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&test.known));
        let mut kept = connector.connect(tls::name(), socket).await.unwrap();
        kept.write_all(b"HT").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        test.holders.replace_peers(Vec::new());
        kept.write_all(&REQUEST.bytes()[2..]).await.unwrap();
        assert!(kept.read_u8().await.is_err());
        assert_eq!(test.refused(), [Refused::Stranger]);
    }

    #[tokio::test]
    async fn strangers_who_say_nothing_are_ended_and_are_never_many() {
        let test = start().await;
        let started = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..UNPROVED_PER_NETWORK + 20 {
            silent.push(TcpStream::connect(test.address).await.unwrap());
        }
        let mut beyond = silent.split_off(UNPROVED_PER_NETWORK);
        for stranger in &mut beyond {
            let end = timeout(Duration::from_secs(1), stranger.read(&mut [0])).await;
            assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
        }
        assert_eq!(test.refused(), [Refused::TooMany; 20]);
        for stranger in &mut silent {
            let end = timeout(HANDSHAKE_TIME * 2, stranger.read(&mut [0])).await;
            assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
        }
        assert!(started.elapsed() < HANDSHAKE_TIME * 2);
        let answer = test.answer(&test.known, &REQUEST.bytes()).await;
        assert_eq!(answer.unwrap(), Answer::NotHeld as u8);
    }

    #[test]
    fn one_network_s_strangers_leave_room_for_others_and_all_have_a_bound() {
        let unproved = Unproved::default();
        let network = |n: u8| PeerNetwork::of([192, 0, 2, n].into());
        let places: Vec<_> = (0..UNPROVED_PER_NETWORK)
            .map(|_| unproved.enter(network(1)).unwrap())
            .collect();
        assert!(unproved.enter(network(1)).is_none());
        let others: Vec<_> = (2..=255)
            .flat_map(|n| [unproved.enter(network(n)), unproved.enter(network(n))])
            .flatten()
            .collect();
        assert_eq!(others.len(), UNPROVED - UNPROVED_PER_NETWORK);
        drop(places);
        assert!(unproved.enter(network(1)).is_some());
        drop(others);
        assert!(lock(&unproved.0).is_empty());
    }
}
