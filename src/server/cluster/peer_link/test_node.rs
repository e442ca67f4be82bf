//! A node of whose link all but the tunnels is real.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::identity::Identity;
use super::listener::{Destination, Refused, serve};
use super::stream::PeerStream;
use super::tls;
use super::wire::{Answer, Request};
use crate::protocol::TunnelId;
use crate::server::cluster::holders::{CertificateHash, Holders, Peer};

/// An address where nobody listens; the socket has it, so that nobody else can.
pub(super) fn nobody() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address.to_string())
}

/// Asks for a tunnel that it does not hold.
pub(super) const REQUEST: Request = Request {
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

    fn not_accepted(&self, cause: &std::io::Error) {
        panic!("{cause}");
    }

    fn refused(&self, _: SocketAddr, why: Refused, _: &str) {
        self.0.lock().unwrap().push(why);
    }
}

/// It listens as long as this lives.
pub(super) struct TestNode {
    pub(super) address: SocketAddr,
    pub(super) holders: Holders,
    /// Another node, which it knows.
    pub(super) known: Identity,
    pub(super) stranger: Identity,
    pub(super) certificate: CertificateHash,
    nowhere: Arc<Nowhere>,
    _stop: DropGuard,
}

impl TestNode {
    pub(super) async fn start() -> Self {
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
        TestNode {
            address,
            holders,
            known,
            stranger,
            certificate: identity.hash(),
            nowhere,
            _stop: stop.drop_guard(),
        }
    }

    /// As others know it.
    pub(super) fn peer(&self) -> Peer {
        peer("this", &self.address.to_string(), self.certificate)
    }

    /// How another node asks it.
    pub(super) fn asked_by(&self, other: &Identity) -> Arc<ClientConfig> {
        tls::client(other, self.certificate).unwrap()
    }

    pub(super) async fn connect(
        &self,
        config: &Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(tls::name(), socket).await
    }

    /// What is answered to these bytes; nothing is an error.
    pub(super) async fn answer(
        &self,
        config: &Arc<ClientConfig>,
        bytes: &[u8],
    ) -> std::io::Result<u8> {
        let mut stream = self.connect(config).await?;
        stream.write_all(bytes).await?;
        let read = timeout(Duration::from_secs(5), stream.read_u8()).await;
        read.expect("it should have been answered or ended")
    }

    /// Why others came to nothing since this was asked last.
    pub(super) fn refused(&self) -> Vec<Refused> {
        std::mem::take(&mut self.nowhere.0.lock().unwrap())
    }
}

/// A connection between two nodes. Beside it, what it is sent on and what it arrives at, for what TLS does not do.
pub(in crate::server) async fn connection() -> (PeerStream, std::net::TcpStream, TcpStream) {
    let [here, there] = [(); 2].map(|()| Identity::generate().unwrap());
    let holders = Holders::default();
    holders.replace_peers([there.hash()]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let connector = TlsConnector::from(tls::client(&there, here.hash()).unwrap());
    let acceptor = TlsAcceptor::from(tls::server(&here, holders).unwrap());
    let (accepted, dialled) = tokio::join!(
        acceptor.accept(accepted),
        connector.connect(tls::name(), dialled)
    );
    let (socket, connection) = accepted.unwrap().into_inner();
    let beside = SockRef::from(&socket).try_clone().unwrap().into();
    let stream = PeerStream::new(socket, connection.into());
    (stream, beside, dialled.unwrap().into_inner().0)
}

pub(super) fn peer(node: &str, address: &str, certificate: CertificateHash) -> Peer {
    Peer {
        node: node.to_owned(),
        region: String::new(),
        address: address.to_owned(),
        certificate,
        draining: false,
    }
}
