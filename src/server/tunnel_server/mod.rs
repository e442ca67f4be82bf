//! The SSH tunnel server, in-process on `russh`.
//!
//! It accepts enrolled public keys and, for each, `tcpip-forward` on that key's own ports; nothing
//! else. It knows which session holds which port, so a tunnel's status is a fact and not a guess.
//! What it must know of enrollment it asks through [`KeyAuthority`]; it reads no database itself.
//!
//! The way of a byte: `acceptor` accepts the bastion's connection (`socket`), through a proxy too (`proxy_header`), if `strangers` has room,
//! `client` lets it prove its key and ask for a port (then it is a `live_session`), `ports` gives the
//! port to one session (`table`) and announces it (`events`), `forward` accepts a connection there,
//! `copy` carries it to the bastion and `delivery` back, within its `window`. Where other nodes hold tunnels,
//! `fronts` passes connections on to them, and takes those that they pass on (`by_peers`); a `passage` is for this
//! server's own connections. All bounds stand in
//! `limits`, all numbers in `counters`, and those of each tunnel in `activity`. Before this node ends beside others, `draining`
//! sends its bastions to them, and nobody comes in by its `door`.

mod acceptor;
mod activity;
mod backlog;
mod by_peers;
mod client;
mod copy;
mod counters;
mod delivery;
mod descriptors;
mod door;
mod draining;
mod events;
mod forward;
mod fronts;
mod host_key;
mod key_sessions;
mod limits;
mod live_session;
mod log_lines;
mod opening;
mod pace;
mod passage;
mod ports;
pub(super) mod proxy_header;
mod reader;
mod round_trip;
mod session_threads;
mod socket;
mod strangers;
mod table;
#[cfg(test)]
mod test_session;
mod unfinished;
mod window;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::acceptor::{Acceptor, Identity};
pub use self::activity::{Activity, Span, TunnelActivity};
use self::by_peers::ByPeers;
pub use self::counters::Counters;
pub use self::descriptors::limit as descriptor_limit;
use self::door::Door;
pub use self::events::{Batch, SessionEvent, SessionEvents, SessionNote};
use self::fronts::Fronts;
pub use self::host_key::{Generation, HostKey, KeyFolder, Marks};
use self::key_sessions::KeySessions;
pub use self::limits::Limits;
use self::live_session::LiveSession;
use self::log_lines::LogLines;
pub use self::passage::{OpenPassage, Passage};
use self::ports::Ports;
use self::session_threads::SessionThreads;
use self::window::Budget;
use crate::protocol::TunnelId;
use crate::server::cluster::holders::{CertificateHash, Holders};
use crate::server::cluster::peer_link::client::PeerLinks;
use crate::server::cluster::peer_link::{self, listener};
use crate::server::domain::proxies::TrustedProxies;
use crate::server::store::NodeSession;

/// How the tunnel server is set up.
#[derive(Debug, Clone)]
pub struct TunnelServerConfig {
    /// Where SSH is served.
    pub ssh_listen: SocketAddr,
    /// The address on which forwarded ports listen.
    pub forward_listen: IpAddr,
    /// The folder of the host keys; they are made there (0600) if they are absent.
    pub host_key_dir: PathBuf,
    /// Who may say for whom he connects.
    pub trusted_proxies: TrustedProxies,
    /// How many of what there may be.
    pub limits: Limits,
}

/// How the tunnel server is one of several nodes.
#[derive(Debug)]
pub struct Peering {
    /// Where other nodes connect.
    pub listener: TcpListener,
    /// What it shows of itself.
    pub identity: peer_link::identity::Identity,
    pub region: String,
    /// What the others hold.
    pub holders: Holders,
}

/// One port a key may listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The tunnel it belongs to.
    pub tunnel_id: TunnelId,
    /// The remote port.
    pub port: u16,
    /// Whether this key replaces the tunnel's other one: its session gets the port at once from a
    /// session of the other key, alive or not.
    pub replaces: bool,
}

/// The session that holds a tunnel's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// When it logged in.
    pub since: jiff::Timestamp,
    /// The key it has proved, in the form of [`KeyAuthority::grants`].
    pub public_key: String,
    /// The port that it listens on.
    pub port: u16,
}

/// Who knows which keys are enrolled.
#[async_trait]
pub trait KeyAuthority: Send + Sync + 'static {
    /// The ports this key may listen on; empty if the key is not enrolled.
    ///
    /// `public_key` is the key in OpenSSH's one-line form without a comment, `ssh-rsa AAAA…`.
    /// It may be asked before the key is proved, and for each forward before and after the port is
    /// held: no side effects.
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>>;

    /// Learns at once what has changed, if that is not so anyway, and says whether it has: then it is worth asking
    /// again. It is called where somebody is refused for what [`KeyAuthority::grants`] says.
    async fn catch_up(&self) -> bool {
        false
    }
}

/// A running tunnel server; dropping it closes every session.
pub struct TunnelServer {
    address: SocketAddr,
    identity: Arc<RwLock<Arc<Identity>>>,
    ports: Arc<Ports>,
    sessions: Arc<KeySessions>,
    /// Whether bastions are let in.
    is_open: watch::Sender<bool>,
    /// Cancelled when no more SSH connections are accepted, or a thread has ended, whatever the reason.
    accepts_no_more: CancellationToken,
    threads: Arc<SessionThreads>,
    connections: TaskTracker,
    connections_per_session: usize,
    /// Cancelled when it has to end.
    ending: CancellationToken,
    _shutdown: DropGuard,
}

impl TunnelServer {
    /// Makes the host keys if needed, binds, and serves until dropped.
    ///
    /// It also raises the process's soft limit of open files to the hard one: every tunnel takes
    /// two, and every connection through it another.
    pub async fn start(
        config: TunnelServerConfig,
        keys: Arc<dyn KeyAuthority>,
    ) -> anyhow::Result<Self> {
        config.limits.check()?;
        descriptors::raise_limit();
        let folder = KeyFolder::new(config.host_key_dir);
        let current = folder.load_or_create()?;
        // The tunnels do not wait for a key that is not shown yet.
        let next = folder.load(Generation::Next).unwrap_or_else(|error| {
            tracing::error!("the next host key is not announced: {error:#}");
            Vec::new()
        });
        let identity = Arc::new(RwLock::new(Arc::new(Identity::new(&current, &next)?)));
        let listener = TcpListener::bind(config.ssh_listen)
            .await
            .with_context(|| format!("cannot serve SSH on {}", config.ssh_listen))?;
        let address = listener.local_addr()?;

        let shutdown = CancellationToken::new();
        let ports = Arc::new(Ports::new(
            config.forward_listen,
            Budget::in_all(config.limits.window_memory),
            shutdown.clone(),
        ));
        let connections_per_session = config.limits.forwarded_per_session;
        let (ending, connections) = (shutdown.child_token(), TaskTracker::new());
        let acceptor = Acceptor::new(
            Arc::clone(&identity),
            keys,
            Arc::clone(&ports),
            config.limits,
            config.trusted_proxies,
            ending.clone(),
            connections.clone(),
        );
        let accepts_no_more = CancellationToken::new();
        let threads = Arc::new(SessionThreads::start(&shutdown, &accepts_no_more)?);
        let accepting = accepts_no_more.clone().drop_guard();
        let sessions = acceptor.sessions();
        let is_open = watch::Sender::new(true);
        let door = Door::new(listener, is_open.subscribe())?;
        let serving = acceptor.serve(door, Arc::clone(&threads));
        tokio::spawn(async move {
            serving.await;
            drop(accepting);
        });
        Ok(TunnelServer {
            address,
            identity,
            ports,
            sessions,
            is_open,
            accepts_no_more,
            threads,
            connections,
            connections_per_session,
            ending,
            _shutdown: shutdown.drop_guard(),
        })
    }

    /// Makes this node one of several: it takes connections from the others, and passes on to them what comes
    /// for the tunnels that they hold. It does so as long as the result runs, which ends with the server; with it
    /// comes the way to them for this server's own connections.
    pub fn peer(
        &self,
        peering: Peering,
    ) -> anyhow::Result<(impl Future<Output = ()> + Send + 'static + use<>, Passage)> {
        let Peering {
            listener,
            identity,
            region,
            holders,
        } = peering;
        let (ports, stop) = (Arc::clone(&self.ports), self.ports.stopped());
        let log_lines: Arc<LogLines> = Arc::default();
        let destination = Arc::new(ByPeers {
            ports: Arc::clone(&ports),
            log_lines: Arc::clone(&log_lines),
        });
        let serving = listener::serve(
            listener,
            &identity,
            holders.clone(),
            destination,
            stop.clone(),
        )?;
        let suspects = self.counters().suspects.clone();
        let links = PeerLinks::new(identity, holders.clone(), suspects);
        let fronts = Arc::new(Fronts {
            holders,
            links: Arc::clone(&links),
            region,
            ports: Arc::downgrade(&ports),
            counters: ports.shared_counters(),
            log_lines: Arc::clone(&log_lines),
            looking_per_tunnel: self.connections_per_session,
            scheduler: Handle::current(),
            stop: stop.clone(),
        });
        ensure!(
            ports.front_by(Arc::clone(&fronts)).is_ok(),
            "this node is one of several already"
        );
        let passage = Passage::of(&fronts);
        let running = async move {
            // Together, so that none ends unseen.
            tokio::select! {
                () = serving => {}
                () = links.keep(stop.clone()) => {}
                () = fronts.keep(ports) => {}
                () = log_lines.tell(stop) => {}
            }
        };
        Ok((running, passage))
    }

    /// What this node is told of the others, and what they know it by, if it is one of several.
    pub fn peering(&self) -> Option<(&Holders, CertificateHash)> {
        let fronts = self.ports.fronts()?;
        Some((&fronts.holders, fronts.links.identity().hash()))
    }

    /// The address on which SSH is served (the real port where 0 was asked for).
    pub fn ssh_address(&self) -> SocketAddr {
        self.address
    }

    /// The public host keys, `ssh-ed25519 AAAA…`: the current ones, and the next ones after them.
    pub fn host_keys(&self) -> Vec<String> {
        let identity = self.identity.read().unwrap_or_else(PoisonError::into_inner);
        identity.announced.clone()
    }

    /// Shows and announces these keys from now on. Sessions that have begun go on with what they were shown.
    ///
    /// # Errors
    /// A key cannot be written in OpenSSH's form; the former ones are shown on.
    pub fn take_host_keys(&self, current: &[HostKey], next: &[HostKey]) -> anyhow::Result<()> {
        let new = Arc::new(Identity::new(current, next)?);
        *self
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> &Counters {
        self.ports.counters()
    }

    /// What each tunnel did since it was last asked.
    pub fn activity(&self) -> &Activity {
        self.ports.activity()
    }

    /// How many tunnels are up now.
    pub fn tunnels_up(&self) -> usize {
        self.ports.in_use()
    }

    /// Which tunnels are up now.
    pub fn up(&self) -> Vec<TunnelId> {
        self.ports.tunnels()
    }

    /// Whether this tunnel's own session listens on its port now.
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        self.ports.is_up(tunnel)
    }

    /// Says again that this tunnel is up, if it still is.
    pub fn announce_again(&self, tunnel: TunnelId) {
        self.ports.announce_again(tunnel);
    }

    /// The session that listens on this tunnel's port now.
    pub fn holder(&self, tunnel: TunnelId) -> Option<Holder> {
        self.ports.holder(tunnel)
    }

    /// Every tunnel that is up now, with its session, as other nodes are told of it.
    pub fn sessions(&self) -> Vec<NodeSession> {
        let held = self.ports.holders();
        let described = |(tunnel, session): (TunnelId, Arc<LiveSession>)| NodeSession {
            tunnel,
            since: session.since(),
            bastion: session.peer.ip().to_canonical().to_string(),
            public_key: session.key().to_owned(),
        };
        held.into_iter().map(described).collect()
    }

    /// Ends this tunnel's listener and every connection through it at once; the session too, if it
    /// held nothing else.
    pub async fn close_tunnel(&self, tunnel: TunnelId) {
        self.ports.close_tunnel(tunnel).await;
    }

    /// What happened to tunnels' sessions, until it is noted.
    pub fn events(&self) -> &SessionEvents {
        self.ports.events()
    }

    /// Lets no bastion in until [`Self::let_in`]; those that are there go on.
    pub fn let_nobody_in(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets bastions in again.
    pub fn let_in(&self) {
        self.is_open.send_replace(true);
    }

    /// Has bastions go elsewhere, one after the other: each as soon as nothing goes through its session, and from
    /// the deadline on any. Returns when none is left.
    pub async fn end_sessions(&self, deadline: Instant) {
        let (sessions, counters) = (&self.sessions, self.counters());
        draining::end_sessions(sessions, self.connections_per_session, deadline, counters).await;
    }

    /// Whether no bastion is let in.
    pub fn is_shut(&self) -> bool {
        !*self.is_open.borrow()
    }

    /// Whether any bastion's session is there.
    pub fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Listens for other nodes no more. What is passed on to them goes on.
    pub fn end_fronts(&self) {
        self.ports.front_no_more();
    }

    /// How many connections are passed on to other nodes now.
    pub fn passed_on(&self) -> i64 {
        self.counters().fronted.open.get()
    }

    /// Accepts nobody any more, tells every client why, and returns when none is left, or soon.
    pub async fn end(&self) {
        self.ending.cancel();
        self.connections.close();
        let _ = timeout(limits::END, self.connections.wait()).await;
    }

    /// Whether it accepts connections, and each thread does its work within this time.
    pub async fn works_within(&self, time: Duration) -> bool {
        !self.accepts_no_more.is_cancelled()
            && timeout(time, self.threads.answer()).await == Ok(true)
    }

    /// Returns when no more SSH connections are accepted, or one of the sessions' threads has ended, which is
    /// a fault while the server runs.
    pub async fn ended(&self) {
        self.accepts_no_more.cancelled().await;
    }
}
