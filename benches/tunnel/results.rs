//! How long a query's result takes over the long path, on a new connection through a tunnel that
//! has been idle; and what that costs the bastion.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::figures::Figures;
use crate::path::{Path, TcpBuffers};
use crate::processes::{cpu_of_family, peak_memory};
use crate::report::{Cell, Report, mb, none, two};
use crate::source::fetch;
use crate::ssh::{Bastion, Route, Server, Software, Tunnel};
use crate::{AES_128_GCM, Options};

const MB: u64 = 1_000_000;
const SIZES: [u64; 4] = [MB, 10 * MB, 50 * MB, 200 * MB];
/// How long a tunnel has been idle before each result.
const IDLE: Duration = Duration::from_secs(3);

pub fn measure(
    bastion: &Bastion,
    path: &Path,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    times(bastion, path, options, report)?;
    cost(bastion, path, options, report)
}

/// One way to the database.
struct Candidate {
    name: &'static str,
    address: SocketAddr,
    last_used: Instant,
    /// After the idle time, and right after another result.
    idle: [Figures; SIZES.len()],
    warm: [Figures; SIZES.len()],
}

impl Candidate {
    fn new(name: &'static str, address: SocketAddr) -> Self {
        Candidate {
            name,
            address,
            last_used: Instant::now(),
            idle: Default::default(),
            warm: Default::default(),
        }
    }

    /// One result of this size after the idle time, and one more right after it.
    fn turn(&mut self, size: usize) -> anyhow::Result<()> {
        let idle_until = self.last_used + IDLE;
        thread::sleep(idle_until.saturating_duration_since(Instant::now()));
        self.idle[size].push(fetch(self.address, SIZES[size])?);
        self.warm[size].push(fetch(self.address, SIZES[size])?);
        self.last_used = Instant::now();
        Ok(())
    }
}

fn times(
    bastion: &Bastion,
    path: &Path,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    path.set_buffers(TcpBuffers::Large)?;
    let route = Route::Long(path);
    let source = route.source()?;
    let mut candidates = vec![Candidate::new("direct", route.direct(source.port))];
    let mut parts = Vec::new();
    for software in Software::all() {
        let server = Server::start(bastion, software)?;
        let tunnel = Tunnel::open(bastion, &server, route, 0, source.port, AES_128_GCM)?;
        candidates.push(Candidate::new(software.name(), server.entrance(0)));
        // Ended in this order.
        parts.push((tunnel, server));
    }
    for _ in 0..options.turns {
        for size in 0..SIZES.len() {
            for candidate in &mut candidates {
                candidate.turn(size).context(candidate.name)?;
            }
        }
    }
    let title = |when| {
        format!(
            "Seconds to the last byte of a result over {} ms, {when}; {}",
            options.one_way.as_millis() * 2,
            TcpBuffers::Large.name()
        )
    };
    let columns = [
        "1 MB",
        "worst 1",
        "10 MB",
        "worst 10",
        "50 MB",
        "worst 50",
        "200 MB",
        "worst 200",
    ];
    let idle = title("new connection, tunnel idle for 3 s");
    let aim = ["at most 0.36 / 0.5 / 0.8 / 1.5 s"];
    let mut table = report.table(&idle, &aim, &columns);
    for candidate in &candidates {
        table.row(candidate.name, &cells(&candidate.idle));
    }
    let warm = title("new connection right after such a result");
    let mut table = report.table(&warm, &aim, &columns);
    for candidate in &candidates {
        table.row(candidate.name, &cells(&candidate.warm));
    }
    Ok(())
}

fn cells(sizes: &[Figures]) -> Vec<Cell> {
    let both = |figures: &Figures| [two(figures.median()), two(figures.most())];
    sizes.iter().flat_map(both).collect()
}

/// How many results of 50 MB a session carries.
const RESULTS: u64 = 3;

#[derive(Clone, Default)]
struct Cost {
    seconds: Figures,
    cpu: Figures,
    memory: Figures,
}

/// With the kernel's own buffers, in which far less is under way than a large window would allow.
fn cost(
    bastion: &Bastion,
    path: &Path,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    path.set_buffers(TcpBuffers::Default)?;
    let route = Route::Long(path);
    let source = route.source()?;
    let servers = Software::all()
        .into_iter()
        .map(|software| Server::start(bastion, software))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut costs = vec![Cost::default(); servers.len()];
    for number in (0..).take(options.turns) {
        for (cost, server) in costs.iter_mut().zip(&servers) {
            let tunnel = Tunnel::open(bastion, server, route, number, source.port, AES_128_GCM)?;
            let ssh = tunnel.process.id();
            let before = cpu_of_family(ssh)?;
            for _ in 0..RESULTS {
                let seconds =
                    fetch(server.entrance(number), 50 * MB).context(server.software.name())?;
                cost.seconds.push(seconds);
            }
            let gigabytes = (RESULTS * 50 * MB) as f64 / 1e9;
            cost.cpu
                .push(cpu_of_family(ssh)?.since(before).all() / gigabytes);
            cost.memory.push(peak_memory(ssh)?);
        }
    }
    let mut table = report.table(
        &format!(
            "{RESULTS} results of 50 MB over {} ms on a fresh session, and what they cost ssh; {}",
            options.one_way.as_millis() * 2,
            TcpBuffers::Default.name()
        ),
        &["ssh's seconds on a processor per GB at most 1.3 x those with sshd, its memory at most 20 MB"],
        &["s each", "worst", "ssh s/GB", "x sshd", "worst ratio", "ssh MB"],
    );
    let sshd = &costs[costs.len() - 1];
    for (server, cost) in servers.iter().zip(&costs) {
        let ratio = cost.cpu.over(&sshd.cpu);
        let [median, worst] = match server.software {
            Software::Stock => [none(), none()],
            _ => [two(ratio.median()), two(ratio.most())],
        };
        table.row(
            server.software.name(),
            &[
                two(cost.seconds.median()),
                two(cost.seconds.most()),
                two(cost.cpu.median()),
                median,
                worst,
                mb(cost.memory.most()),
            ],
        );
    }
    Ok(())
}
