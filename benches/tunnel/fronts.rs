//! What it costs that another node holds the tunnel: the same connections to the node that holds it, and to one
//! that passes them on.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::figures::Figures;
use crate::processes::cpu_of_family;
use crate::report::{Report, mbits, none, number, two};
use crate::source::{Direction, Request, Source, ask, quarters};
use crate::ssh::{Bastion, Node, Route, START, Server, Tunnel};
use crate::{AES_128_GCM, Options};

/// How many quarters of a second of bulk are counted, after one second.
const QUARTERS: usize = 8;

/// How long new connections are made for.
const CONNECTING: Duration = Duration::from_secs(3);

/// How many threads make them.
const CLIENTS: [usize; 2] = [1, 16];

pub fn measure(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let source = Route::Loopback.source()?;
    let [holder, front] = Node::two(bastion)?;
    let (holder, front) = (
        Server::start_node(bastion, &holder, &front)?,
        Server::start_node(bastion, &front, &holder)?,
    );
    let (route, to) = (Route::Loopback, source.port);
    let _tunnel = Tunnel::open(bastion, &holder, route, 0, to, AES_128_GCM)?;
    let candidates = [
        ("direct", route.direct(source.port)),
        ("the node that holds it", holder.entrance(0)),
        ("another node", front.entrance(0)),
    ];
    for (_, address) in &candidates {
        reach(*address)?;
    }
    bulk(&candidates, [&holder, &front], &source, options, report)?;
    connections(&candidates, options, report)
}

/// Waits until bytes pass.
fn reach(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    while answer(address).is_err() {
        ensure!(Instant::now() < deadline, "nothing passes to {address}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn answer(address: SocketAddr) -> anyhow::Result<()> {
    let mut connection: TcpStream = ask(address, Request::AnswerAndClose)?;
    connection.read_exact(&mut [0])?;
    Ok(())
}

fn bulk(
    candidates: &[(&str, SocketAddr); 3],
    nodes: [&Server; 2],
    source: &Source,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (way, direction) in [
        ("from the database", Direction::FromDatabase),
        ("to the database", Direction::ToDatabase),
    ] {
        let mut rates = vec![Figures::default(); candidates.len()];
        let mut costs = vec![Figures::default(); candidates.len()];
        for _ in 0..options.turns {
            for (at, (name, address)) in candidates.iter().enumerate() {
                let used = || -> anyhow::Result<f64> {
                    let mut all = 0.0;
                    for node in nodes {
                        all += cpu_of_family(node.process.id())?.all();
                    }
                    Ok(all)
                };
                let before = used()?;
                let warm_up = Duration::from_secs(1);
                let passed = quarters(*address, source, direction, warm_up, QUARTERS);
                let passed = passed.with_context(|| (*name).to_owned())?;
                rates[at].push(passed.mean());
                // The warming up costs, too.
                let measured = 1.5 * passed.bytes / 1e9;
                costs[at].push((used()? - before) / measured);
            }
        }
        let mut table = report.table(
            &format!("Bulk {way} on one connection, aes128-gcm, loopback"),
            &["another node: at least half the rate of the node that holds the tunnel"],
            &["Mbit/s", "x direct", "x holder", "worst", "cpu s/GB"],
        );
        for (at, (name, _)) in candidates.iter().enumerate() {
            let direct = rates[at].over(&rates[0]);
            let holder = rates[at].over(&rates[1]);
            let (holder, worst) = match at {
                2 => (two(holder.median()), two(holder.least())),
                _ => (none(), none()),
            };
            let cost = match at {
                0 => none(),
                _ => two(costs[at].median()),
            };
            let rate = mbits(rates[at].median());
            table.row(name, &[rate, two(direct.median()), holder, worst, cost]);
        }
    }
    Ok(())
}

fn connections(
    candidates: &[(&str, SocketAddr); 3],
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    for clients in CLIENTS {
        let mut rates = vec![Figures::default(); candidates.len()];
        for _ in 0..options.turns {
            for (rates, (name, address)) in rates.iter_mut().zip(candidates) {
                let rate = connections_per_second(*address, clients);
                rates.push(rate.with_context(|| (*name).to_owned())?);
            }
        }
        let mut table = report.table(
            &format!("New connections, each with one answer, by {clients} at once, loopback"),
            &["another node: at least half the rate of the node that holds the tunnel"],
            &["per s", "x direct", "x holder", "worst"],
        );
        for (at, (name, _)) in candidates.iter().enumerate() {
            let holder = rates[at].over(&rates[1]);
            let (holder, worst) = match at {
                2 => (two(holder.median()), two(holder.least())),
                _ => (none(), none()),
            };
            let direct = two(rates[at].over(&rates[0]).median());
            let rate = number(rates[at].median(), 0);
            table.row(name, &[rate, direct, holder, worst]);
        }
    }
    Ok(())
}

fn connections_per_second(address: SocketAddr, clients: usize) -> anyhow::Result<f64> {
    let (is_over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    while !is_over.load(Ordering::Relaxed) {
                        answer(address)?;
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        thread::sleep(CONNECTING);
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(made.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
    })
}
