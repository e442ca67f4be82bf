//! Bastions that are nothing but an SSH session each, with a key and an address of their own, all in this process. As the
//! installed service does, each begins anew, three seconds after its session has ended.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use russh::client::{self, ChannelOpenHandle, Handle, Msg, Session};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::queries;
use crate::figures::Figures;

/// `RestartSec` of the installed service.
const AGAIN: Duration = Duration::from_secs(3);

/// What ssh is started with: `ConnectTimeout`, `ServerAliveInterval` and `ServerAliveCountMax`.
const CONNECT: Duration = Duration::from_secs(15);
const ALIVE: Duration = Duration::from_secs(8);
const ALIVE_UNANSWERED: usize = 2;

/// How long a login may take: as long as the server gives it, and its refusal.
const LOGIN: Duration = Duration::from_secs(25);

/// Descriptors of a thread that are no session's.
const OTHER_FILES: usize = 200;

/// The first bastion's address.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// How far which bastions go: so many of them, the first ones.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    pub log_in: usize,
    /// Of those.
    pub listen: usize,
}

/// What one bastion needs.
pub struct Bastion {
    pub key: PrivateKey,
    pub server: SocketAddr,
    pub port: u16,
}

/// The orders as the threads read them: a thread with descriptors of its own can be told nothing by another one, whose wake
/// would go to a descriptor that is there something else, or nothing.
#[derive(Default)]
struct Given {
    log_in: AtomicUsize,
    listen: AtomicUsize,
    ended: AtomicBool,
}

impl Given {
    fn read(&self) -> Orders {
        Orders {
            log_in: self.log_in.load(Ordering::Relaxed),
            listen: self.listen.load(Ordering::Relaxed),
        }
    }
}

/// How often they are read.
const LOOK: Duration = Duration::from_millis(10);

/// All of them. They leave when this is dropped.
pub struct Bastions {
    bastions: Arc<[Kept]>,
    began: Instant,
    logins: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    orders: Arc<Given>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

struct Kept {
    key: Arc<PrivateKey>,
    server: SocketAddr,
    address: Ipv4Addr,
    port: u16,
    /// Since when it is up, in microseconds after the beginning, or [`NEVER`].
    up: AtomicU64,
    /// How often it has come up.
    times_up: AtomicUsize,
}

const NEVER: u64 = 0;

impl Bastions {
    /// They wait for orders.
    pub fn start(bastions: Vec<Bastion>) -> anyhow::Result<Self> {
        let addresses = u32::from(FIRST_ADDRESS)..;
        let kept = addresses.zip(bastions).map(|(address, bastion)| Kept {
            key: Arc::new(bastion.key),
            server: bastion.server,
            address: address.into(),
            port: bastion.port,
            up: AtomicU64::new(NEVER),
            times_up: AtomicUsize::new(0),
        });
        let mut all = Bastions {
            bastions: kept.collect(),
            began: Instant::now(),
            logins: Arc::default(),
            failed: Arc::default(),
            orders: Arc::default(),
            threads: Vec::new(),
        };
        let threads = threads(all.number());
        for thread in 0..threads {
            let crowd = Crowd {
                bastions: Arc::clone(&all.bastions),
                began: all.began,
                logins: Arc::clone(&all.logins),
                failed: Arc::clone(&all.failed),
                orders: Arc::clone(&all.orders),
            };
            let own = (thread..all.number()).step_by(threads);
            all.threads.push(thread::spawn(move || crowd.run(own)));
        }
        Ok(all)
    }

    pub fn obey(&self, orders: Orders) {
        self.orders.log_in.store(orders.log_in, Ordering::Relaxed);
        self.orders.listen.store(orders.listen, Ordering::Relaxed);
    }

    pub fn number(&self) -> usize {
        self.bastions.len()
    }

    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.bastions.iter().map(|bastion| bastion.port)
    }

    /// How many attempts have failed until now.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// How many logins there have been until now.
    pub fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }

    /// Of each in turn, how often it has come up, and whether it is up.
    pub fn seen(&self) -> impl Iterator<Item = (usize, bool)> {
        self.bastions.iter().map(|bastion| {
            let is_up = bastion.up.load(Ordering::Relaxed) != NEVER;
            (bastion.times_up.load(Ordering::Relaxed), is_up)
        })
    }

    /// Waits until there have been so many logins, whatever has become of them: a session without a port does not last.
    pub fn wait_for_logins(&self, number: usize, limit: Duration) -> anyhow::Result<()> {
        self.wait(number, limit, || self.logins())
            .context("to log in")
    }

    pub fn wait_until_up(&self, number: usize, limit: Duration) -> anyhow::Result<()> {
        let up = || self.seen().filter(|(_, is_up)| *is_up).count();
        self.wait(number, limit, up).context("to be up")
    }

    /// Waits until all are up, each since this moment or later. Returns how many seconds after it each was.
    pub fn wait_until_up_since(&self, since: Instant, limit: Duration) -> anyhow::Result<Figures> {
        let since = micros(since.duration_since(self.began));
        let is_up = |bastion: &&Kept| bastion.up.load(Ordering::Relaxed) >= since;
        let up = || self.bastions.iter().filter(is_up).count();
        self.wait(self.number(), limit, up)
            .context("to be up again")?;
        let times = self.bastions.iter().map(|bastion| {
            let up = bastion.up.load(Ordering::Relaxed).saturating_sub(since);
            up as f64 / 1e6
        });
        Ok(Figures(times.collect()))
    }

    fn wait(
        &self,
        number: usize,
        limit: Duration,
        count: impl Fn() -> usize,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            ensure!(
                self.threads.iter().all(|thread| !thread.is_finished()),
                "the bastions have ended"
            );
            let there = count();
            if there >= number {
                return Ok(());
            }
            let failed = self.failed();
            ensure!(
                Instant::now() < deadline,
                "{there} of {number} are there after {limit:?}; {failed} attempts failed"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Bastions {
    fn drop(&mut self) {
        self.orders.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("bastions: {error:#}"),
                Err(_) => eprintln!("bastions: a thread panicked"),
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// One for each processor, and more where one may not have as many descriptors as it has sessions.
fn threads(bastions: usize) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let each = files_of_a_process().saturating_sub(OTHER_FILES).max(1);
    processors.max(bastions.div_ceil(each))
}

/// How many descriptors a process may have, and a thread that has its own.
pub fn files_of_a_process() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit
        .and_then(|limit| limit.try_into().ok())
        .unwrap_or(usize::MAX)
}

/// What one thread has of all.
struct Crowd {
    bastions: Arc<[Kept]>,
    began: Instant,
    logins: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    orders: Arc<Given>,
}

impl Crowd {
    fn run(self, own: impl Iterator<Item = usize>) -> anyhow::Result<()> {
        // The limit of descriptors is one of each table of them, so that there can be more sessions than it allows.
        // SAFETY: whatever this thread opens is used and closed by it, and by threads that it starts, which share what it
        // has; of the others it has only what was open before, and nothing here wakes it from outside.
        unsafe { unshare_unsafe(UnshareFlags::FILES) }.context("no descriptors of one's own")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let crowd = Arc::new(self);
        runtime.block_on(async {
            let (sender, orders) = watch::channel(Orders::default());
            for number in own {
                let (crowd, orders) = (Arc::clone(&crowd), orders.clone());
                tokio::spawn(async move { crowd.be(number, orders).await });
            }
            while !crowd.orders.ended.load(Ordering::Relaxed) {
                sender.send_if_modified(|orders| {
                    let given = crowd.orders.read();
                    let changed = *orders != given;
                    *orders = given;
                    changed
                });
                sleep(LOOK).await;
            }
        });
        Ok(())
    }

    /// Is the bastion with this number.
    async fn be(&self, number: usize, mut orders: watch::Receiver<Orders>) {
        let bastion = &self.bastions[number];
        loop {
            let log_in = |orders: &Orders| number < orders.log_in;
            if orders.wait_for(log_in).await.is_err() {
                return;
            }
            match timeout(LOGIN, bastion.log_in()).await {
                Ok(Ok(session)) => {
                    self.logins.fetch_add(1, Ordering::Relaxed);
                    self.serve(number, session, &mut orders).await;
                    bastion.up.store(NEVER, Ordering::Relaxed);
                }
                Ok(Err(_)) | Err(_) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Listens when it is told to, until the session ends or it is told to leave.
    async fn serve(
        &self,
        number: usize,
        mut session: Handle<Database>,
        orders: &mut watch::Receiver<Orders>,
    ) {
        let bastion = &self.bastions[number];
        tokio::select! {
            // Its end is what is waited for, whatever the reason.
            _ = &mut session => return,
            told = orders.wait_for(|orders| number < orders.listen || number >= orders.log_in) => {
                if !told.is_ok_and(|orders| number < orders.listen) {
                    return;
                }
            }
        }
        let listen = session.tcpip_forward("127.0.0.1", u32::from(bastion.port));
        if !matches!(timeout(LOGIN, listen).await, Ok(Ok(_))) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let up = micros(self.began.elapsed());
        bastion.times_up.fetch_add(1, Ordering::Relaxed);
        bastion.up.store(up, Ordering::Relaxed);
        tokio::select! {
            _ = &mut session => {}
            _ = orders.wait_for(|orders| number >= orders.log_in) => {}
        }
    }
}

impl Kept {
    async fn log_in(&self) -> anyhow::Result<Handle<Database>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.address, 0).into())?;
        let stream = timeout(CONNECT, socket.connect(self.server)).await??;
        stream.set_nodelay(true)?;
        let config = Arc::new(client::Config {
            keepalive_interval: Some(ALIVE),
            keepalive_max: ALIVE_UNANSWERED,
            ..client::Config::default()
        });
        let mut session = client::connect_stream(config, stream, Database).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        let login = session.authenticate_publickey("tunnel", key).await?;
        ensure!(login.success(), "the key was refused");
        Ok(session)
    }
}

/// What is behind each bastion.
struct Database;

impl client::Handler for Database {
    type Error = russh::Error;

    /// It is our own server on loopback.
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        // Its reader sees what it misses.
        tokio::spawn(answer(channel));
        Ok(())
    }
}

async fn answer(mut channel: Channel<Msg>) -> Result<(), russh::Error> {
    let mut question = Vec::new();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => question.extend_from_slice(&data),
            ChannelMsg::Eof => break,
            _ => continue,
        }
        while let Some(answer) = queries::answer(&mut question) {
            channel.data(answer).await?;
        }
    }
    channel.close().await
}
