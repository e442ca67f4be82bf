//! What bastions, their queries and the health check notice of strangers: eight that exchange keys
//! again and again, as expensively as is offered, and many that connect and say nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::figures::Figures;
use crate::report::{Report, millis, none, number, two};
use crate::source::{Request, ask};
use crate::ssh::{Bastion, Process, Route, Server, Software, Tunnel, text_in, wait_for};
use crate::stranger::{exchange_keys, from};
use crate::{AES_128_GCM, Options};

const EXCHANGING: u8 = 8;
const SILENT: usize = 300;
const LOGINS: u16 = 10;
/// A login that takes longer has failed.
const LOGIN: Duration = Duration::from_secs(10);
/// How long a bastion waits before it starts an ssh that was refused anew.
const AGAIN: Duration = Duration::from_millis(500);
/// How long strangers are there before something is measured.
const BEFOREHAND: Duration = Duration::from_secs(3);
/// How long the health check is asked.
const HEALTH: Duration = Duration::from_secs(10);

pub fn measure(bastion: &Bastion, _: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut table = report.table(
        &format!(
            "A bastion's login and a query's round trip among {EXCHANGING} strangers who exchange keys and {SILENT} who are silent"
        ),
        &["each login within 2 s; one that takes longer than 10 s has failed"],
        &[
            "login s", "worst", "failed", "echo p50", "p99 ms", "worst ms", "keys/s",
        ],
    );
    for software in Software::all() {
        let server = Server::start(bastion, software)?;
        let source = Route::Loopback.source()?;
        let (route, to) = (Route::Loopback, source.port);
        // Nobody was there yet when it came.
        let _tunnel = Tunnel::open(bastion, &server, route, 0, to, AES_128_GCM)?;
        for (crowd, first_number) in [(false, 1), (true, 100)] {
            let strangers = crowd.then(|| Strangers::come(server.port));
            if crowd {
                thread::sleep(BEFOREHAND);
            }
            let (logins, failed, echoes) = bastion_among(bastion, &server, to, first_number)?;
            let who = if crowd { "strangers" } else { "alone" };
            table.row(
                &format!("{}, {who}", software.name()),
                &[
                    two(logins.median()),
                    two(logins.most()),
                    number(f64::from(failed), 0),
                    millis(echoes.median()),
                    millis(echoes.percentile(0.99)),
                    millis(echoes.most()),
                    strangers.map_or(none(), |strangers| number(strangers.leave(), 0)),
                ],
            );
        }
    }

    let mut table = report.table(
        "GET /healthz of the whole server meanwhile, a new connection each",
        &["p99 below 100 ms"],
        &["p50 ms", "p99 ms", "worst ms", "keys/s"],
    );
    let server = WholeServer::start(bastion)?;
    for crowd in [false, true] {
        let strangers = crowd.then(|| Strangers::come(server.ssh.port()));
        if crowd {
            thread::sleep(BEFOREHAND);
        }
        let times = server.healthz()?;
        table.row(
            if crowd { "strangers" } else { "alone" },
            &[
                millis(times.median()),
                millis(times.percentile(0.99)),
                millis(times.most()),
                strangers.map_or(none(), |strangers| number(strangers.leave(), 0)),
            ],
        );
    }
    Ok(())
}

/// The strangers, until they leave.
struct Strangers {
    since: Instant,
    gone: Arc<AtomicBool>,
    exchanges: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Strangers {
    fn come(port: u16) -> Self {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let gone = Arc::new(AtomicBool::new(false));
        let exchanges = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        for number in 1..=EXCHANGING {
            let (gone, exchanges) = (Arc::clone(&gone), Arc::clone(&exchanges));
            threads.push(thread::spawn(move || {
                // Each from an address of its own: a limit per address does not stop them.
                let address = Ipv4Addr::new(127, 0, 1, number);
                while !gone.load(Ordering::Relaxed) {
                    match exchange_keys(address, server) {
                        Ok(()) => {
                            exchanges.fetch_add(1, Ordering::Relaxed);
                        }
                        // Refused: they come again, as fast as a socket is made on a real path.
                        Err(_) => thread::sleep(Duration::from_millis(10)),
                    }
                }
            }));
        }
        let until = Arc::clone(&gone);
        threads.push(thread::spawn(move || be_silent(server, &until)));
        Strangers {
            since: Instant::now(),
            gone,
            exchanges,
            threads,
        }
    }

    /// How many key exchanges per second they got.
    fn leave(self) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64();
        self.gone.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        self.exchanges.load(Ordering::Relaxed) as f64 / seconds
    }
}

/// Holds silent connections, and makes a new one for each that the server ends.
fn be_silent(server: SocketAddr, gone: &AtomicBool) {
    let mut sockets: Vec<TcpStream> = Vec::new();
    while !gone.load(Ordering::Relaxed) {
        sockets.retain_mut(|socket| {
            loop {
                match socket.read(&mut [0; 1024]) {
                    Ok(1..) => {}
                    Ok(0) => return false,
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        });
        for _ in sockets.len()..SILENT {
            if let Ok(socket) = from(Ipv4Addr::new(127, 0, 2, 1), server)
                && socket.set_nonblocking(true).is_ok()
            {
                sockets.push(socket);
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Ten logins, and meanwhile the round trips of small queries through the tunnel with number 0.
fn bastion_among(
    bastion: &Bastion,
    server: &Server,
    to: u16,
    first_number: u16,
) -> anyhow::Result<(Figures, u16, Figures)> {
    let stop = AtomicBool::new(false);
    let entrance = server.entrance(0);
    thread::scope(|scope| {
        let echoes = scope.spawn(|| echo(entrance, &stop));
        let mut logins = Figures::default();
        let mut failed = 0;
        for number in (first_number..).take(usize::from(LOGINS)) {
            let started = Instant::now();
            // An error would leave the echo running for ever: it counts as a failed login.
            if !matches!(log_in(bastion, server, to, number), Ok(true)) {
                failed += 1;
            }
            logins.push(started.elapsed().as_secs_f64());
        }
        stop.store(true, Ordering::Relaxed);
        let echoes = echoes.join().expect("the thread cannot panic")?;
        Ok((logins, failed, echoes))
    })
}

/// Until the tunnel's port listens; an ssh that was refused is started anew, as on a bastion.
fn log_in(bastion: &Bastion, server: &Server, to: u16, number: u16) -> anyhow::Result<bool> {
    let end = Instant::now() + LOGIN;
    while Instant::now() < end {
        let mut tunnel = Tunnel::start(bastion, server, Route::Loopback, number, to, AES_128_GCM)?;
        while Instant::now() < end && tunnel.process.0.try_wait()?.is_none() {
            if wait_for(server.forward_port(number), AGAIN).is_ok() {
                return Ok(true);
            }
        }
        thread::sleep(AGAIN.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(false)
}

/// Round trips of a few bytes, a hundred per second.
fn echo(address: SocketAddr, stop: &AtomicBool) -> anyhow::Result<Figures> {
    let mut connection = ask(address, Request::Echo)?;
    let mut times = Figures::default();
    let mut bytes = [7; 32];
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        connection.write_all(&bytes)?;
        connection.read_exact(&mut bytes)?;
        times.push(started.elapsed().as_secs_f64());
        thread::sleep(Duration::from_millis(10));
    }
    Ok(times)
}

/// The vendor's whole program, with its web side.
struct WholeServer {
    web: SocketAddr,
    ssh: SocketAddr,
    _process: Process,
}

impl WholeServer {
    fn start(bastion: &Bastion) -> anyhow::Result<Self> {
        let free = || -> anyhow::Result<SocketAddr> {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            Ok(listener.local_addr()?)
        };
        let (web, ssh) = (free()?, free()?);
        let log = tempfile::tempfile()?;
        let child = Command::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"))
            .args(["serve", "--ports", "11000-11099", "--data-dir"])
            .arg(bastion.dir.path().join("whole"))
            .args(["--listen", &web.to_string()])
            .args(["--ssh-listen", &ssh.to_string()])
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .spawn()?;
        let process = Process(child);
        for address in [web, ssh] {
            if let Err(error) = wait_for(address.port(), crate::ssh::START) {
                anyhow::bail!("the whole server: {error}: {}", text_in(log)?);
            }
        }
        Ok(WholeServer {
            web,
            ssh,
            _process: process,
        })
    }

    /// How long the health check takes, fifty times per second.
    fn healthz(&self) -> anyhow::Result<Figures> {
        let end = Instant::now() + HEALTH;
        let mut times = Figures::default();
        while Instant::now() < end {
            let started = Instant::now();
            let mut connection = TcpStream::connect(self.web)?;
            connection.set_read_timeout(Some(Duration::from_secs(30)))?;
            let host = self.web;
            let request =
                format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            connection.write_all(request.as_bytes())?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "unhealthy: {answer}");
            times.push(started.elapsed().as_secs_f64());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(times)
    }
}
