//! Thousands of tunnels: bastions that are nothing but an SSH session each, all in this process, on a machine that
//! has an address for each of them. As `autossh` does, each begins anew whenever its session ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{API_BASE, DataSource};
use russh::client::{self, ChannelOpenHandle, Handle, Msg, Session};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::cluster::installation::{Cluster, REGIONS};
use crate::cluster::states::Api;
use crate::support::lab::token_of;
use crate::support::machines::Machine;
use crate::support::server::Operator;
use crate::support::wait;

/// The addresses of its bastions.
const NETWORK: &str = "10.78.0.0/16";

/// How many are registered at a time.
const CALLERS: usize = 8;

/// How long ssh takes to be started again, and how long is waited after it has failed.
const AGAIN: Duration = Duration::from_millis(200);
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long one attempt may take, as `ConnectTimeout` bounds it.
const ATTEMPT: Duration = Duration::from_secs(15);

/// The bastions. They are gone when this is dropped.
pub struct Crowd {
    bastions: Vec<Arc<Bastion>>,
    failures: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
    machine: Machine,
}

/// One of them.
pub struct Bastion {
    /// Its data source, as it was created.
    pub source: DataSource,
    /// Its tunnel's token.
    pub token: String,
    address: Ipv4Addr,
    key: Mutex<Arc<PrivateKey>>,
    /// Told when it has another key.
    has_new_key: Notify,
    port: u16,
    /// Since when it is up, if it is.
    up: Mutex<Option<Instant>>,
}

impl Crowd {
    /// Registers this many, each for a data source of its own.
    pub fn enroll(cluster: &Cluster, number: usize) -> Self {
        let machine = cluster.machine("crowd", Ipv4Addr::new(10, 77, 1, 60));
        machine.be_all_of(NETWORK);
        let numbers: Vec<_> = (0..number).collect();
        let mut bastions = Vec::new();
        let (operator, api) = (&cluster.operator, &cluster.api());
        std::thread::scope(|scope| {
            let parts = numbers.chunks(number.div_ceil(CALLERS));
            let threads: Vec<_> = parts
                .map(|part| scope.spawn(move || enroll(operator, api, part)))
                .collect();
            for thread in threads {
                bastions.extend(thread.join().expect("all are registered"));
            }
        });
        Crowd {
            bastions,
            failures: Arc::default(),
            runtime: None,
            machine,
        }
    }

    /// All of them connect to this place, and stay connected.
    pub fn connect(&mut self, to: SocketAddr) {
        let _inside = self.machine.enter();
        let runtime = Runtime::new().expect("a runtime");
        for bastion in &self.bastions {
            let (bastion, failures) = (Arc::clone(bastion), Arc::clone(&self.failures));
            runtime.spawn(async move { bastion.stay_connected(to, &failures).await });
        }
        self.runtime = Some(runtime);
    }

    /// Waits until all are up, each since this moment or later. Returns how long after it each was, the quickest
    /// first.
    pub fn wait_until_up_since(&self, since: Instant, limit: Duration) -> Vec<Duration> {
        let times = || {
            let times = self
                .bastions
                .iter()
                .filter_map(|bastion| bastion.up()?.checked_duration_since(since));
            times.collect::<Vec<_>>()
        };
        wait::until_true(
            "all tunnels to be up",
            limit,
            || {
                format!(
                    "{} are up; {} attempts failed",
                    times().len(),
                    self.failures()
                )
            },
            || times().len() == self.bastions.len(),
        );
        let mut times = times();
        times.sort_unstable();
        times
    }

    /// How many attempts to connect have failed until now.
    pub fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    /// Each of them.
    pub fn bastions(&self) -> impl Iterator<Item = &Bastion> {
        self.bastions.iter().map(Arc::as_ref)
    }

    /// Whether a key opens a session here.
    pub fn is_let_in(&self, key: &Arc<PrivateKey>, at: SocketAddr) -> bool {
        let _inside = self.machine.enter();
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let stream = TcpStream::connect(at).await.expect("a node");
            log_in(stream, Arc::clone(key)).await.is_ok()
        })
    }
}

fn enroll(operator: &Operator, api: &Api, numbers: &[usize]) -> Vec<Arc<Bastion>> {
    let client = api.client();
    let url = format!("{}{API_BASE}/enrollment/public-key", api.url);
    let numbers = numbers.iter();
    numbers
        .map(|number| {
            let source = operator.create_in(REGIONS[0], &format!("Crowd {number}"), "db", 5432);
            let key = new_key();
            let registration = json!({
                "public_key": public(&key), "hostname": "bastion", "os": "Debian 13", "user": "ann",
            });
            let request = client.put(&url).bearer_auth(token_of(&source));
            let answer = request.json(&registration).send().expect("an answer");
            let answer: Value = answer.json().expect("JSON");
            let port = answer["remote_port"]
                .as_u64()
                .unwrap_or_else(|| panic!("{answer:#}"));
            let [high, low] = u16::try_from(number + 1).expect("few").to_be_bytes();
            Arc::new(Bastion {
                token: answer["tunnel_token"].as_str().expect("a token").to_owned(),
                source,
                address: Ipv4Addr::new(10, 78, high, low),
                key: Mutex::new(key),
                has_new_key: Notify::new(),
                port: port.try_into().expect("a port"),
                up: Mutex::default(),
            })
        })
        .collect()
}

/// A new key.
pub fn new_key() -> Arc<PrivateKey> {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519);
    Arc::new(key.expect("a key"))
}

/// Its other half.
pub fn public(key: &PrivateKey) -> String {
    let public = key.public_key().to_openssh();
    public.expect("its other half")
}

impl Bastion {
    /// Its key.
    pub fn key(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.key.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Connects anew with another key.
    pub fn use_key(&self, key: &Arc<PrivateKey>) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(key);
        self.note(None);
        self.has_new_key.notify_one();
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its session is there, as it sees it.
    pub fn is_up(&self) -> bool {
        self.up().is_some()
    }

    fn up(&self) -> Option<Instant> {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stay_connected(&self, to: SocketAddr, failures: &AtomicUsize) {
        loop {
            match timeout(ATTEMPT, self.connect(to)).await {
                Ok(Ok(session)) => {
                    self.note(Some(Instant::now()));
                    tokio::select! {
                        // Its end is what is waited for, whatever the reason.
                        _ = session => {}
                        () = self.has_new_key.notified() => {}
                    }
                    self.note(None);
                    sleep(AGAIN).await;
                }
                Ok(Err(_)) | Err(_) => {
                    failures.fetch_add(1, Ordering::Relaxed);
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    fn note(&self, up: Option<Instant>) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = up;
    }

    async fn connect(&self, to: SocketAddr) -> Result<Handle<Echo>, russh::Error> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((self.address, 0)))?;
        let stream = socket.connect(to).await?;
        let session = log_in(stream, self.key()).await?;
        session
            .tcpip_forward("127.0.0.1", u32::from(self.port))
            .await?;
        Ok(session)
    }
}

async fn log_in(stream: TcpStream, key: Arc<PrivateKey>) -> Result<Handle<Echo>, russh::Error> {
    let config = Arc::new(client::Config::default());
    let mut session = client::connect_stream(config, stream, Echo).await?;
    let key = PrivateKeyWithHashAlg::new(key, None);
    let login = session.authenticate_publickey("tunnel", key).await?;
    if login.success() {
        Ok(session)
    } else {
        Err(russh::Error::NotAuthenticated)
    }
}

/// A bastion whose database answers with what it is sent.
struct Echo;

impl client::Handler for Echo {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        mut channel: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(async move {
            while let Some(message) = channel.wait().await {
                if let ChannelMsg::Data { data } = message {
                    channel.data(&data[..]).await?;
                }
            }
            Ok::<_, Self::Error>(())
        });
        Ok(())
    }
}
