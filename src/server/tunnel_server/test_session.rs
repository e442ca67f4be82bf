//! A session for tests of what others do with one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use russh::server::{Config, Handler, run_stream};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::live_session::{LiveSession, ProvedKey, SessionId};
use super::socket::Socket;
use super::window::Budget;

struct Nobody;

impl Handler for Nobody {
    type Error = russh::Error;
}

/// A session whose client has gone silent, and the client's end of its connection.
pub(super) async fn session(id: SessionId) -> (Arc<LiveSession>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    let (mut line, server) = tokio::io::duplex(1 << 16);
    line.write_all(b"SSH-2.0-test\r\n").await.unwrap();
    let ssh = run_stream(Arc::new(Config::default()), server, Nobody)
        .await
        .unwrap();
    let session = LiveSession {
        id,
        handle: ssh.handle(),
        scheduler: tokio::runtime::Handle::current(),
        slots: Arc::new(Semaphore::new(1)),
        deliveries: Arc::default(),
        round_trip: Arc::default(),
        log_lines: Arc::default(),
        was_given_a_port: AtomicBool::new(false),
        window_budget: Budget::per_session(),
        socket: Socket::new(accepted),
        peer,
        key: ProvedKey {
            line: "ssh-ed25519 AAAA".to_owned(),
            fingerprint: "SHA256:0".to_owned(),
        },
        since: jiff::Timestamp::now(),
        waits_for_us: AtomicBool::new(false),
    };
    (Arc::new(session), client)
}
