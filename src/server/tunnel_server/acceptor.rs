//! Accepting SSH connections: how many, how long they may take to authenticate, and what is
//! cleaned up when one ends.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::BytesMut;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::{Config, run_stream};
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::KeyAuthority;
use super::client::{Client, Shared};
use super::delivery::Deliveries;
use super::door::Door;
use super::host_key::HostKey;
use super::key_sessions::KeySessions;
use super::limits::{self, Limits};
use super::live_session::{LiveSession, SessionId};
use super::log_lines::{Kind, Who};
use super::opening::{Noted, Opening, quote};
use super::ports::Ports;
use super::proxy_header::{self, NoBeginning};
use super::session_threads::{Place, SessionThreads};
use super::socket::{Socket, SocketStream};
use super::strangers::{Strangers, Visit};
use super::unfinished::{self, Why};
use crate::server::domain::proxies::TrustedProxies;

/// As what this server shows itself.
pub(super) struct Identity {
    config: Arc<Config>,
    /// The public keys that bastions are told of.
    pub(super) announced: Vec<String>,
}

impl Identity {
    pub(super) fn new(current: &[HostKey], next: &[HostKey]) -> anyhow::Result<Self> {
        let announced = current.iter().chain(next).map(HostKey::public);
        let shown = current.iter().map(|key| key.private.clone());
        Ok(Identity {
            config: Arc::new(ssh_config(shown.collect())),
            announced: announced.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// What every connection needs.
pub(super) struct Acceptor {
    /// It may change; a session keeps the one that it began with.
    identity: Arc<RwLock<Arc<Identity>>>,
    shared: Arc<Shared>,
    limits: Limits,
    strangers: Arc<Strangers>,
    proxies: TrustedProxies,
    /// From then on nobody is accepted, and who is there is told to go.
    ending: CancellationToken,
    /// The connections that there are.
    connections: TaskTracker,
}

/// A connection that is accepted, and not let in yet.
struct Newcomer {
    id: SessionId,
    socket: Arc<Socket>,
    place: Place,
    connection: OwnedSemaphorePermit,
}

/// How a connection ended, if it did not end by itself.
enum Early {
    Late,
    MadeRoom,
}

impl Acceptor {
    pub(super) fn new(
        identity: Arc<RwLock<Arc<Identity>>>,
        keys: Arc<dyn KeyAuthority>,
        ports: Arc<Ports>,
        limits: Limits,
        proxies: TrustedProxies,
        ending: CancellationToken,
        connections: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Acceptor {
            identity,
            shared: Arc::new(Shared {
                keys,
                ports,
                sessions: Arc::default(),
                log_lines: Arc::default(),
                limits: limits.clone(),
            }),
            strangers: Strangers::new(limits.clone()),
            limits,
            proxies,
            ending,
            connections,
        })
    }

    /// The sessions whose key is proved.
    pub(super) fn sessions(&self) -> Arc<KeySessions> {
        Arc::clone(&self.shared.sessions)
    }

    /// Serves until the end.
    pub(super) async fn serve(self: Arc<Self>, door: Door, threads: Arc<SessionThreads>) {
        let log_lines = Arc::clone(&self.shared.log_lines);
        // Together, so that neither ends unseen.
        tokio::join!(
            log_lines.tell(self.ending.clone()),
            self.accept(door, threads)
        );
    }

    async fn accept(self: Arc<Self>, mut door: Door, threads: Arc<SessionThreads>) {
        let connections = Arc::new(Semaphore::new(self.limits.connections));
        for id in (0..).map(SessionId) {
            let accepted = tokio::select! {
                biased;
                () = self.ending.cancelled() => return,
                accepted = door.accept() => accepted,
            };
            let place = threads.place();
            let accepted = accepted.and_then(|(stream, peer)| Ok((place.adopt(stream)?, peer)));
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    const KIND: Kind = "an SSH connection could not be accepted";
                    if let Some(more) = self.shared.log_lines.may(KIND, Who::Others) {
                        warn!("cannot accept an SSH connection: {e}{more}");
                    }
                    // Out of file descriptors, most likely: trying again at once would not help.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            set_options(&stream);
            let socket = Socket::new(stream);
            let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else {
                self.tell_refused(peer);
                continue;
            };
            let newcomer = Newcomer {
                id,
                socket,
                place,
                connection,
            };
            if self.proxies.trusts(peer.ip()) {
                // Spawned alone: the session's task is no larger for the wait before it.
                tokio::spawn(Arc::clone(&self).through_proxy(newcomer, peer));
            } else {
                self.admit(newcomer, peer, BytesMut::new());
            }
        }
    }

    /// Learns from a trusted proxy whose connection it is.
    async fn through_proxy(self: Arc<Self>, newcomer: Newcomer, proxy: SocketAddr) {
        const KIND: Kind = "an SSH connection came to nothing at a trusted proxy";
        let time = limits::PROXY_SILENCE + self.limits.identification_time;
        let beginning = tokio::select! {
            beginning = timeout(time, proxy_header::read(&newcomer.socket)) => beginning,
            () = self.ending.cancelled() => return,
        };
        let (why, text) = match beginning {
            Ok(Ok(beginning)) => {
                let peer = beginning.client.unwrap_or(proxy);
                return self.admit(newcomer, peer, beginning.rest);
            }
            // Load balancers look in this way whether the port is open.
            Ok(Err(e @ NoBeginning::Ended)) => (Why::NothingSent, e.to_string()),
            Ok(Err(e @ NoBeginning::Broken)) => (Why::ProxyLine, e.to_string()),
            Err(_) => (Why::Late, "it sent no first line in time".to_owned()),
        };
        self.shared.ports.counters().unfinished.inc(why);
        if let Some(more) = self.shared.log_lines.may(KIND, proxy) {
            info!(peer = %proxy, "{KIND}: {text}{more}");
        }
    }

    /// Lets a connection in whose peer is known, and serves it, or not.
    fn admit(self: &Arc<Self>, newcomer: Newcomer, peer: SocketAddr, first: BytesMut) {
        let Newcomer {
            id,
            socket,
            place,
            connection,
        } = newcomer;
        let opening = Arc::default();
        let Some(visit) = self.strangers.admit(id, peer, &socket, &opening) else {
            return self.tell_refused(peer);
        };
        let acceptor = Arc::clone(self);
        let scheduler = place.scheduler();
        let tracked = self.connections.token();
        // Not handed on as a whole, since each wrapping would double what an idle session keeps.
        scheduler.spawn(async move {
            acceptor
                .connection(id, socket, peer, opening, visit, first)
                .await;
            drop((connection, place, tracked));
        });
    }

    fn tell_refused(&self, peer: SocketAddr) {
        const KIND: Kind = "too many SSH connections at once";
        self.shared.ports.counters().refused.ssh_connections.inc();
        if let Some(more) = self.shared.log_lines.may(KIND, peer) {
            warn!(%peer, "too many SSH connections at once: one is refused{more}");
        }
    }

    /// One connection, from its first byte until nothing of it is left.
    async fn connection(
        &self,
        id: SessionId,
        socket: Arc<Socket>,
        peer: SocketAddr,
        opening: Arc<Opening>,
        visit: Visit,
        first: BytesMut,
    ) {
        let deliveries = Arc::new(Deliveries::default());
        let (authenticated, is_authenticated) = oneshot::channel();
        let client = Client::new(
            id,
            peer,
            Arc::clone(&socket),
            Arc::clone(&deliveries),
            Arc::clone(&self.shared),
            Arc::clone(&opening),
            authenticated,
        );
        let session = async {
            let stream = SocketStream::new(Arc::clone(&socket), deliveries, first);
            let stream = Noted::new(stream, Arc::clone(&opening));
            run_stream(self.config(), stream, client).await?.await
        };
        tokio::pin!(session);
        let session_or_early = tokio::select! {
            // A session that has logged in and ended meanwhile has logged in.
            biased;
            login = self.login(&opening, &visit, is_authenticated) => login.map_err(Err),
            ended = &mut session => Err(Ok(ended)),
            () = self.ending.cancelled() => return socket.close(),
        };
        drop(visit);
        match session_or_early {
            Ok(live) => {
                let ended = tokio::select! {
                    ended = &mut session => ended,
                    () = self.watch(&live) => Ok(()),
                    () = self.ending.cancelled() => {
                        live.close("The tunnel server is ending");
                        let _ = timeout(2 * limits::FAREWELL, session).await;
                        Ok(())
                    }
                };
                self.tell_end(peer, ended);
            }
            Err(ended) => self.tell_unfinished(peer, &opening, ended),
        }
        // The session's task ends with it, and gives up the session's ports.
        socket.close();
    }

    fn config(&self) -> Arc<Config> {
        let identity = self.identity.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&identity.config)
    }

    /// Waits for the login as long as it may take.
    async fn login(
        &self,
        opening: &Opening,
        visit: &Visit,
        is_authenticated: oneshot::Receiver<Arc<LiveSession>>,
    ) -> Result<Arc<LiveSession>, Early> {
        let in_time = async {
            let (first, rest) = (self.limits.identification_time, self.limits.login_time);
            timeout(first, opening.line()).await.ok()?;
            timeout(rest, is_authenticated).await.ok()
        };
        tokio::select! {
            in_time = in_time => match in_time {
                Some(Ok(live)) => Ok(live),
                // The session has ended, and says so itself.
                Some(Err(_)) => std::future::pending().await,
                None => Err(Early::Late),
            },
            () = visit.over() => Err(Early::MadeRoom),
        }
    }

    /// Ends a session that has been given no port in time; never returns.
    async fn watch(&self, live: &LiveSession) {
        tokio::time::sleep(self.limits.unused_session_time).await;
        if !live.was_given_a_port.load(Ordering::Relaxed) {
            const KIND: Kind = "an SSH session without a port was ended";
            self.shared.ports.counters().ended.unused.inc();
            if let Some(more) = live.may_log(KIND) {
                info!(session = %live, "ended an SSH session that was given no port{more}");
            }
            live.close("no port was given to this session");
        }
        std::future::pending().await
    }

    /// Says why a connection came to no login.
    fn tell_unfinished(
        &self,
        peer: SocketAddr,
        opening: &Opening,
        ended: Result<Result<(), russh::Error>, Early>,
    ) {
        const KIND: Kind = "an SSH connection ended before its login";
        let why = match ended {
            Ok(ended) => unfinished::why(ended, opening),
            Err(Early::Late) => {
                self.shared.ports.counters().refused.late_logins.inc();
                Some(unfinished::late(opening))
            }
            Err(Early::MadeRoom) => {
                let text = "it made room for another, since too many are waiting";
                Some((Why::MadeRoom, text.to_owned()))
            }
        };
        let Some((why, text)) = why else { return };
        self.shared.ports.counters().unfinished.inc(why);
        if let Some(more) = self.shared.log_lines.may(KIND, peer) {
            info!(%peer, "an SSH connection ended before its login: {text}{more}");
        }
    }

    /// Says why a session ended, if not by its client's wish.
    fn tell_end(&self, peer: SocketAddr, ended: Result<(), russh::Error>) {
        const SILENT: Kind = "an SSH session ended, since its client was silent";
        const MISUSED: Kind = "an SSH session was ended for what its client sent";
        use russh::Error::{Disconnect, HUP, IO, Join, KeepaliveTimeout};
        let counters = &self.shared.ports.counters().ended;
        let (kind, count) = match &ended {
            Ok(()) => return,
            Err(e @ (IO(_) | HUP | Disconnect | Join(_))) => {
                return debug!(%peer, "an SSH session ended: {e}");
            }
            Err(KeepaliveTimeout) => (SILENT, &counters.silent),
            Err(_) => (MISUSED, &counters.misused),
        };
        count.inc();
        if let (Err(e), Some(more)) = (ended, self.shared.log_lines.may(kind, peer)) {
            info!(%peer, "{kind}: {}{more}", quote(e.to_string().as_bytes()));
        }
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
        limits: russh::Limits {
            rekey_write_limit: limits::REKEY_BYTES,
            rekey_read_limit: limits::REKEY_BYTES,
            ..russh::Limits::default()
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
