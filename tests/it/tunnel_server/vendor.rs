//! The vendor's side of a test: an in-process tunnel server whose enrolled keys stand in memory.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::domain::proxies::{self, TrustedProxies};
use holistics_tunnel::server::tunnel_server::{
    Grant, KeyAuthority, Limits, SessionEvent, TunnelServer, TunnelServerConfig,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::ports::free_port;
use crate::tunnel_server::bastion::{Key, Ssh};

/// What an authority makes of the answer it would give.
type Whim = Arc<dyn Fn(Vec<Grant>) -> anyhow::Result<Vec<Grant>> + Send + Sync>;

#[derive(Default)]
struct Enrolled {
    keys: Mutex<HashMap<String, Vec<Grant>>>,
    whim: Mutex<Option<Whim>>,
    /// How often it was asked.
    lookups: AtomicU64,
}

#[async_trait]
impl KeyAuthority for Enrolled {
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let keys = self.keys.lock().unwrap();
        let grants = keys.get(public_key).cloned().unwrap_or_default();
        drop(keys);
        let whim = self.whim.lock().unwrap().clone();
        whim.map_or(Ok(grants.clone()), |whim| whim(grants))
    }
}

pub struct Vendor {
    pub server: TunnelServer,
    /// Taken from the server and not looked at yet.
    events: VecDeque<SessionEvent>,
    pub dir: TempDir,
    enrolled: Arc<Enrolled>,
}

/// A tunnel that is enrolled.
#[derive(Clone)]
pub struct Tunnel {
    pub id: TunnelId,
    pub port: u16,
    pub key: Key,
}

impl Vendor {
    pub async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub async fn start_with(limits: Limits) -> Self {
        Self::start_as(Ipv4Addr::LOCALHOST.into(), limits, &[]).await
    }

    /// One whose forwarded ports listen on this address.
    pub async fn start_on(forward_listen: IpAddr) -> Self {
        Self::start_as(forward_listen, Limits::default(), &[]).await
    }

    /// The same with bounds.
    pub async fn start_on_with(forward_listen: IpAddr, limits: Limits) -> Self {
        Self::start_as(forward_listen, limits, &[]).await
    }

    /// One behind these proxies.
    pub async fn start_behind(proxies: &[&str], limits: Limits) -> Self {
        Self::start_as(Ipv4Addr::LOCALHOST.into(), limits, proxies).await
    }

    async fn start_as(forward_listen: IpAddr, limits: Limits, trusted: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let enrolled = Arc::new(Enrolled::default());
        let config = TunnelServerConfig {
            ssh_listen: (Ipv4Addr::LOCALHOST, 0).into(),
            forward_listen,
            host_key_dir: dir.path().join("host-keys"),
            trusted_proxies: TrustedProxies::new(
                trusted
                    .iter()
                    .map(|text| proxies::network(text).unwrap())
                    .collect(),
            ),
            limits,
        };
        let server = TunnelServer::start(config, Arc::clone(&enrolled) as _)
            .await
            .unwrap();
        let known_hosts: String = server
            .host_keys()
            .iter()
            .map(|key| format!("[127.0.0.1]:{} {key}\n", server.ssh_address().port()))
            .collect();
        std::fs::write(dir.path().join("known_hosts"), known_hosts).unwrap();
        Vendor {
            events: VecDeque::new(),
            server,
            dir,
            enrolled,
        }
    }

    /// How often it was asked about a key.
    pub fn lookups(&self) -> u64 {
        self.enrolled.lookups.load(Ordering::Relaxed)
    }

    /// A tunnel with a new ed25519 key.
    pub fn enroll(&self, id: i64) -> Tunnel {
        let name = format!("key-{id}");
        self.enroll_key(
            id,
            Key::generate(self.dir.path(), &name, &["-t", "ed25519"]),
        )
    }

    pub fn enroll_key(&self, id: i64, key: impl Into<Key>) -> Tunnel {
        self.enroll_as(id, key.into(), free_port())
    }

    /// A tunnel with this key and port, which another vendor's server may know, too.
    pub fn enroll_as(&self, id: i64, key: Key, port: u16) -> Tunnel {
        let id = TunnelId(id);
        let grant = Grant {
            replaces: false,
            tunnel_id: id,
            port,
        };
        let mut keys = self.enrolled.keys.lock().unwrap();
        keys.entry(key.public.clone()).or_default().push(grant);
        Tunnel { id, port, key }
    }

    /// Another key for the same tunnel, which is to take the first one's place.
    pub fn enroll_next_key(&self, tunnel: &Tunnel) -> Key {
        let name = format!("next-key-{}", tunnel.id);
        let key = Key::generate(self.dir.path(), &name, &["-t", "ed25519"]);
        let grant = Grant {
            tunnel_id: tunnel.id,
            port: tunnel.port,
            replaces: true,
        };
        let mut keys = self.enrolled.keys.lock().unwrap();
        keys.entry(key.public.clone()).or_default().push(grant);
        key
    }

    /// Forgets the tunnel, as its deletion does.
    pub fn forget(&self, tunnel: &Tunnel) {
        let mut keys = self.enrolled.keys.lock().unwrap();
        for grants in keys.values_mut() {
            grants.retain(|g| g.tunnel_id != tunnel.id);
        }
    }

    /// From now on the authority's answers are made of the right ones by this.
    pub fn answer_by(
        &self,
        whim: impl Fn(Vec<Grant>) -> anyhow::Result<Vec<Grant>> + Send + Sync + 'static,
    ) {
        *self.enrolled.whim.lock().unwrap() = Some(Arc::new(whim));
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    /// The beginning of every ssh command line; the caller adds options before `tunnel@…`.
    pub fn ssh(&self, program: &str, key: &Key, options: &[&str]) -> Command {
        self.ssh_to(self.server.ssh_address().port(), program, key, options)
    }

    /// The same to another port, where a proxy listens.
    pub fn ssh_to(&self, port: u16, program: &str, key: &Key, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
            ])
            .args(["-o", "StrictHostKeyChecking=yes", "-o"])
            .arg(format!(
                "UserKnownHostsFile={}",
                self.known_hosts().display()
            ))
            .args([
                "-o",
                "ExitOnForwardFailure=yes",
                "-o",
                "LogLevel=VERBOSE",
                "-p",
            ])
            .arg(port.to_string())
            .arg("-i")
            .arg(&key.private)
            .args(options);
        command
    }

    /// An ssh that forwards from an address of the tunnel server to the database.
    pub fn forward(&self, key: &Key, listen: &str, to: SocketAddr, options: &[&str]) -> Ssh {
        let mut command = self.ssh("ssh", key, options);
        command.args(["-N", "-R", &format!("{listen}:{to}"), "tunnel@127.0.0.1"]);
        Ssh::spawn(command)
    }

    /// Whether the tunnel of this number is up.
    pub fn is_up(&self, id: i64) -> bool {
        self.server.is_up(TunnelId(id))
    }

    /// Brings a tunnel up.
    pub async fn up(&self, tunnel: &Tunnel, to: SocketAddr) -> Ssh {
        self.up_with(tunnel, to, &[]).await
    }

    pub async fn up_with(&self, tunnel: &Tunnel, to: SocketAddr, options: &[&str]) -> Ssh {
        let listen = format!("127.0.0.1:{}", tunnel.port);
        let mut ssh = self.forward(&tunnel.key, &listen, to, options);
        let deadline = Instant::now() + Duration::from_secs(15);
        while !self.server.is_up(tunnel.id) {
            if ssh.has_ended() || Instant::now() > deadline {
                panic!("the tunnel did not come up: {:?}", ssh.output().await);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ssh
    }

    /// The next event that nobody has looked at.
    pub async fn event(&mut self) -> SessionEvent {
        if self.events.is_empty() {
            timeout(Duration::from_secs(10), self.server.events().wait())
                .await
                .expect("an event should have come");
        }
        self.take_events();
        self.events.pop_front().unwrap()
    }

    pub fn has_event(&mut self) -> bool {
        self.take_events();
        !self.events.is_empty()
    }

    fn take_events(&mut self) {
        let notes = self.server.events().take(usize::MAX).noted();
        self.events.extend(notes.iter().map(|note| note.event));
    }
}

/// A connection to a tunnel's port, as the vendor's programs make it.
pub async fn connect(tunnel: &Tunnel) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port))
        .await
        .unwrap()
}

/// Waits, with a bound, until something is so.
pub async fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
