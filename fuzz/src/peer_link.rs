//! What a node hears from another one, and from whoever else connects there.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::cluster::holders::{CertificateHash, Holders};
use holistics_tunnel::server::cluster::peer_link::identity::Identity;
use holistics_tunnel::server::cluster::peer_link::listener::{Destination, Refused, serve};
use holistics_tunnel::server::cluster::peer_link::stream::PeerStream;
use holistics_tunnel::server::cluster::peer_link::wire::{Answer, Request};
use holistics_tunnel::server::fuzzing::{peer_request, peer_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::tunnel_server::SOON;

/// The tunnel that the node holds.
const HELD: TunnelId = TunnelId(7);

/// The length of a request, and what it begins with.
const REQUEST: usize = 33;
const MAGIC: &[u8] = b"HTPL";
const VERSION: u8 = 1;

struct Node {
    runtime: Runtime,
    address: SocketAddr,
    certificate: CertificateHash,
    known: Identity,
}

static NODE: LazyLock<Node> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("the system has room for threads");
    let [own, known] = [(); 2].map(|()| Identity::generate().expect("a certificate"));
    let holders = Holders::default();
    holders.replace_peers([known.hash()]);
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let serving = serve(
            listener,
            &own,
            holders,
            Arc::new(Nobody),
            CancellationToken::new(),
        );
        tokio::spawn(serving.expect("the certificate can be used"));
        address
    });
    Node {
        runtime,
        address,
        certificate: own.hash(),
        known,
    }
});

/// Holds one tunnel, and reads what comes for it.
struct Nobody;

impl Destination for Nobody {
    type Place = ();

    fn admit(&self, request: &Request) -> Result<(), Answer> {
        match request.tunnel {
            HELD => Ok(()),
            _ => Err(Answer::NotHeld),
        }
    }

    fn carry(&self, (): (), stream: PeerStream) {
        tokio::spawn(async move { while matches!(read(&stream).await, Ok(true)) {} });
    }

    fn not_accepted(&self, cause: &io::Error) {
        panic!("{cause}");
    }

    fn refused(&self, _: SocketAddr, _: Refused, _: &str) {}
}

/// Whether there may be more.
async fn read(stream: &PeerStream) -> io::Result<bool> {
    stream.readable().await?;
    match stream.try_read_buf(&mut BytesMut::new()) {
        Ok(read) => Ok(read > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

pub fn run(input: &[u8]) {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let Some((stage, sent)) = input.split_first() else {
        return;
    };
    let node = &*NODE;
    node.runtime.block_on(async {
        let attack = timeout(SOON, node.attack(stage % 4, sent)).await;
        attack.expect("the node neither answers nor ends the connection");
        if RUNS.fetch_add(1, Ordering::Relaxed) % 16 == 0 {
            let held = node.answer(&request(HELD)).await;
            assert_eq!(
                held,
                Some(Answer::Accepted as u8),
                "an honest node is not heard"
            );
        }
    });
}

impl Node {
    async fn attack(&self, stage: u8, sent: &[u8]) {
        match stage {
            0 => self.hears_no_stranger(sent).await,
            1 => assert_eq!(self.answer(sent).await, expected(sent)),
            // A connection that is carried, whose TLS goes wrong.
            2 => {
                let (mut socket, _) = self.carried().await.into_inner();
                let _ = socket.write_all(sent).await;
                let _ = socket.shutdown().await;
                rest(socket).await;
            }
            // One that carries these bytes, and ends as it should or not.
            _ => {
                let mut stream = self.carried().await;
                let _ = stream.write_all(sent).await;
                let _ = stream.flush().await;
                match sent.first() {
                    Some(first) if first % 2 == 0 => {
                        let _ = stream.shutdown().await;
                        rest(stream).await;
                    }
                    _ => drop(stream),
                }
            }
        }
    }

    async fn hears_no_stranger(&self, sent: &[u8]) {
        let mut socket = TcpStream::connect(self.address).await.expect("it listens");
        let _ = socket.write_all(sent).await;
        let _ = socket.shutdown().await;
        rest(socket).await;
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        let (config, name) = peer_tls(&self.known, self.certificate).expect("a certificate");
        let connected = TlsConnector::from(config).connect(name, socket).await;
        connected.expect("a known node is let in")
    }

    /// What a known node is answered who says this and no more.
    async fn answer(&self, sent: &[u8]) -> Option<u8> {
        let mut stream = self.connect().await;
        stream.write_all(sent).await.ok()?;
        // Without `shutdown` the node would wait for the rest of a request.
        if sent.len() < REQUEST {
            stream.shutdown().await.ok()?;
        }
        stream.read_u8().await.ok()
    }

    async fn carried(&self) -> TlsStream<TcpStream> {
        let mut stream = self.connect().await;
        stream.write_all(&request(HELD)).await.expect("a request");
        let answer = stream.read_u8().await.expect("an answer");
        assert_eq!(answer, Answer::Accepted as u8);
        stream
    }
}

fn request(tunnel: TunnelId) -> Vec<u8> {
    let client = "192.0.2.7:5432".parse().expect("it is an address");
    let port = 20_001;
    peer_request(&Request {
        tunnel,
        port,
        client,
    })
}

/// What the description of the link says.
fn expected(sent: &[u8]) -> Option<u8> {
    let version = *sent.strip_prefix(MAGIC)?.first()?;
    if version != VERSION {
        return Some(Answer::OtherVersion as u8);
    }
    let request = sent.get(..REQUEST)?;
    let answer = if request[5..13] == HELD.0.to_be_bytes() {
        Answer::Accepted
    } else {
        Answer::NotHeld
    };
    Some(answer as u8)
}

async fn rest(mut stream: impl AsyncReadExt + Unpin) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}
