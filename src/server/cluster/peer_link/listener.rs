//! The holder's side of the link: lets other nodes in, and hears for whom they ask.
//!
//! A stranger costs a place among the few that have not proved themselves (`unproved`), for a few seconds. Other
//! nodes may keep connections open unused for a while; they are ours and are not counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
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
use super::unproved::{Place, Unproved};
use super::wire::{self, Answer, Asked, Request};
use crate::server::accepting::accept;
use crate::server::cluster::holders::Holders;

/// How long a connection has to prove which node it is from.
const HANDSHAKE_TIME: Duration = Duration::from_secs(3);

/// How long another node may keep a connection without a request; it ends them itself long before.
const UNUSED_TIME: Duration = Duration::from_secs(120);

/// How long a request takes at most once it has begun, and its answer.
const REQUEST_TIME: Duration = Duration::from_secs(1);

const NO_LONGER_KNOWN: &str = "its node is no longer one of ours";

/// Where the connections go that are passed on.
pub trait Destination: Send + Sync + 'static {
    /// What is kept for a connection from its request to its bytes.
    type Place: Send + 'static;

    /// Whether this connection can be taken; says at once.
    fn admit(&self, request: &Request) -> Result<Self::Place, Answer>;

    /// Carries it from now on, on a task of its own.
    fn carry(&self, place: Self::Place, stream: PeerStream);

    /// No connection could be accepted at this moment.
    fn not_accepted(&self, cause: &io::Error);

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
        let failed = |error: &io::Error| shared.destination.not_accepted(error);
        while let Some((socket, peer)) = accept(&listener, &stop, failed).await {
            let Some(place) = shared.unproved.enter(peer.ip()) else {
                let why = "too many connections that have not yet proved which node they are from";
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
        let mut stream = match self.shake_hands(socket, place).await {
            Ok(stream) => stream,
            Err((why, cause)) => return refused(why, &cause),
        };
        // A session that is resumed shows what was judged before.
        if !self.is_known(&stream) {
            return refused(Refused::Stranger, NO_LONGER_KNOWN);
        }
        let beginning = wire::read_beginning(&mut stream);
        let version = match timeout(UNUSED_TIME, beginning).await {
            Ok(Ok(version)) => version,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
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

    async fn shake_hands(
        &self,
        socket: TcpStream,
        place: Place,
    ) -> Result<TlsStream<TcpStream>, (Refused, String)> {
        let shaking = async {
            socket.peek(&mut [0]).await?;
            place.has_spoken();
            self.tls.accept(socket).await
        };
        let (why, cause) = tokio::select! {
            // One that has proved it makes room anyway.
            biased;
            shaken = timeout(HANDSHAKE_TIME, shaking) => match shaken {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => (Refused::Stranger, error.to_string()),
                Err(_) => (Refused::Late, "it has not proved which node it is from in time".to_owned()),
            },
            () = place.over() => (Refused::TooMany, "it has made room for another".to_owned()),
        };
        Err((why, cause))
    }

    async fn answer(
        &self,
        version: u8,
        stream: &mut TlsStream<TcpStream>,
        peer: SocketAddr,
    ) -> io::Result<Option<D::Place>> {
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
                self.destination
                    .refused(peer, Refused::Stranger, NO_LONGER_KNOWN);
                return Ok(None);
            }
            Asked::Connection(Request::NOTHING) => Err(Answer::NotHeld),
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

#[cfg(test)]
mod tests {
    use rustls::client::ResolvesClientCert;
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, HandshakeKind, SignatureScheme};
    use tokio::io::AsyncReadExt;

    use super::super::test_node::{REQUEST, TestNode};
    use super::super::unproved::PER_NETWORK;
    use super::*;

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

    #[tokio::test]
    async fn a_node_is_answered_at_once_and_one_of_another_version_is_told_so() {
        let node = TestNode::start().await;
        let known = node.asked_by(&node.known);
        let answer = node.answer(&known, &REQUEST.bytes()).await;
        assert_eq!(answer.unwrap(), Answer::NotHeld as u8);
        let answer = node.answer(&known, b"HTPL\x02 and whatever it says").await;
        assert_eq!(answer.unwrap(), Answer::OtherVersion as u8);
        assert_eq!(node.refused(), [Refused::Version]);
        let answer = node.answer(&known, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(answer.is_err());
        assert_eq!(node.refused(), [Refused::Request]);
    }

    #[tokio::test]
    async fn without_the_certificate_of_a_known_node_nothing_is_heard() {
        let node = TestNode::start().await;
        let stranger = node.asked_by(&node.stranger);
        let answer = node.answer(&stranger, &REQUEST.bytes()).await;
        assert!(answer.is_err());
        assert_eq!(node.refused(), [Refused::Stranger]);

        let mut none = ClientConfig::clone(&stranger);
        none.client_auth_cert_resolver = Arc::new(NoCertificate);
        let answer = node.answer(&Arc::new(none), &REQUEST.bytes()).await;
        assert!(answer.is_err());
        assert_eq!(node.refused(), [Refused::Stranger]);
    }

    #[tokio::test]
    async fn a_node_that_is_taken_out_is_not_heard_on_a_connection_that_it_kept() {
        let node = TestNode::start().await;
        let known = node.asked_by(&node.known);
        let mut kept = node.connect(&known).await.unwrap();
        kept.write_all(b"HT").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.holders.replace_peers([]);
        kept.write_all(&REQUEST.bytes()[2..]).await.unwrap();
        assert!(kept.read_u8().await.is_err());
        assert_eq!(node.refused(), [Refused::Stranger]);
    }

    #[tokio::test]
    async fn a_node_that_is_taken_out_does_not_come_in_by_what_it_proved_before() {
        let node = TestNode::start().await;
        let known = node.asked_by(&node.known);
        for _ in 0..2 {
            let answer = node.answer(&known, &REQUEST.bytes()).await;
            assert_eq!(answer.unwrap(), Answer::NotHeld as u8);
        }
        let resumed = node.connect(&known).await.unwrap();
        let kind = resumed.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed));
        node.holders.replace_peers([]);
        let answer = node.answer(&known, &REQUEST.bytes()).await;
        assert!(answer.is_err());
        // The one that was open, too, if it was not through yet.
        let refused = node.refused();
        assert!(refused.ends_with(&[Refused::Stranger]), "{refused:?}");
    }

    #[tokio::test]
    async fn strangers_who_say_nothing_keep_no_node_out_and_are_ended() {
        let node = TestNode::start().await;
        let mut silent = Vec::new();
        for _ in 0..PER_NETWORK + 20 {
            silent.push(TcpStream::connect(node.address).await.unwrap());
        }
        let known = node.asked_by(&node.known);
        let answer = node.answer(&known, &REQUEST.bytes()).await;
        assert_eq!(answer.unwrap(), Answer::NotHeld as u8);
        for stranger in &mut silent {
            let end = timeout(HANDSHAKE_TIME * 2, stranger.read(&mut [0])).await;
            assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
        }
        let made_room = |why: &&Refused| **why == Refused::TooMany;
        assert_eq!(node.refused().iter().filter(made_room).count(), 21);
    }
}
