//! Accepting SSH connections: how many, how long they may take to authenticate, and what is
//! cleaned up when one ends.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::{Config, run_stream};
use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::KeyAuthority;
use super::client::Client;
use super::delivery::Deliveries;
use super::limits;
use super::live_session::SessionId;
use super::ports::Ports;
use super::socket::{Socket, SocketStream};

/// What every connection needs.
pub(super) struct Acceptor {
    config: Arc<Config>,
    keys: Arc<dyn KeyAuthority>,
    ports: Arc<Ports>,
    shutdown: CancellationToken,
}

impl Acceptor {
    pub(super) fn new(
        host_keys: Vec<PrivateKey>,
        keys: Arc<dyn KeyAuthority>,
        ports: Arc<Ports>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Acceptor {
            config: Arc::new(ssh_config(host_keys)),
            keys,
            ports,
            shutdown,
        })
    }

    /// Serves until the shutdown.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let unauthenticated = Arc::new(Semaphore::new(limits::UNAUTHENTICATED_CONNECTIONS));
        let connections = Arc::new(Semaphore::new(limits::CONNECTIONS));
        for id in 0.. {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    warn!("cannot accept an SSH connection: {e}");
                    // Out of file descriptors, most likely: trying again at once would not help.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (Ok(login), Ok(connection)) = (
                Arc::clone(&unauthenticated).try_acquire_owned(),
                Arc::clone(&connections).try_acquire_owned(),
            ) else {
                self.ports.counters().refused.ssh_connections.one();
                warn!(%peer, "too many SSH connections at once: one is refused");
                continue;
            };
            let acceptor = Arc::clone(&self);
            tokio::spawn(async move {
                acceptor.connection(id, stream, peer, login).await;
                drop(connection);
            });
        }
    }

    /// One connection, from its first byte until nothing of it is left.
    async fn connection(
        &self,
        id: SessionId,
        stream: TcpStream,
        peer: SocketAddr,
        login: OwnedSemaphorePermit,
    ) {
        set_options(&stream);
        let socket = Socket::new(stream);
        let deliveries = Arc::new(Deliveries::default());
        let (authenticated, is_authenticated) = oneshot::channel();
        let client = Client::new(
            id,
            peer,
            Arc::clone(&socket),
            Arc::clone(&deliveries),
            Arc::clone(&self.keys),
            Arc::clone(&self.ports),
            authenticated,
        );
        let session = async {
            let stream = SocketStream::new(Arc::clone(&socket), deliveries);
            run_stream(Arc::clone(&self.config), stream, client)
                .await?
                .await
        };
        let watchdog = async {
            let grace = tokio::time::timeout(limits::LOGIN_GRACE, is_authenticated).await;
            drop(login);
            if grace.is_err() {
                self.ports.counters().refused.late_logins.one();
                debug!(%peer, "did not authenticate in time");
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = session => if let Err(e) = ended {
                debug!(%peer, "an SSH connection ended: {e}");
            },
            () = watchdog => {}
            () = self.shutdown.cancelled() => {}
        }
        // The session's task ends with it, and gives up the session's ports.
        socket.close();
    }
}

fn set_options(stream: &TcpStream) {
    // Small packets must not wait for the acknowledgement of others. None of these options is
    // worth losing the connection for.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_keepalive(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(limits::UNACKNOWLEDGED));
}

fn ssh_config(host_keys: Vec<PrivateKey>) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-holistics-tunnel")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: limits::REJECTION_TIME,
        // The first request, for "none", only asks which methods there are.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: host_keys,
        limits: Limits {
            rekey_write_limit: limits::REKEY_BYTES,
            rekey_read_limit: limits::REKEY_BYTES,
            ..Limits::default()
        },
        window_size: limits::WINDOW_AT_FIRST,
        maximum_packet_size: limits::PACKET,
        preferred: algorithms(),
        max_auth_attempts: limits::AUTHENTICATION_ATTEMPTS,
        // The time for a login is bounded here, the time after it by keepalives.
        inactivity_timeout: None,
        keepalive_interval: Some(limits::KEEPALIVE_INTERVAL),
        keepalive_max: limits::KEEPALIVES_UNANSWERED,
        nodelay: true,
        ..Config::default()
    }
}

/// What is offered; the client's order decides. Everything with SHA-1 is left out, and so is
/// compression.
fn algorithms() -> Preferred {
    const KEY_EXCHANGES: &[kex::Name] = &[
        kex::MLKEM768X25519_SHA256,
        kex::CURVE25519,
        kex::CURVE25519_PRE_RFC_8731,
        kex::ECDH_SHA2_NISTP256,
        kex::ECDH_SHA2_NISTP384,
        kex::ECDH_SHA2_NISTP521,
        kex::DH_G14_SHA256,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ];
    const CIPHERS: &[cipher::Name] = &[
        cipher::AES_128_GCM,
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    /// Of host keys, and of signatures by users' keys.
    const KEYS: &[Algorithm] = &[
        Algorithm::Ed25519,
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        },
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP384,
        },
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP521,
        },
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha512),
        },
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha256),
        },
    ];
    Preferred {
        kex: Cow::Borrowed(KEY_EXCHANGES),
        cipher: Cow::Borrowed(CIPHERS),
        key: Cow::Borrowed(KEYS),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}
