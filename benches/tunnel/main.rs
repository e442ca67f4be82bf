//! How fast a tunnel is, and what it costs the server: `scripts/bench` runs this.
//!
//! Everything is a ratio within one run, with the candidates taking turns, so that a busy machine
//! blurs the figures and does not turn them. Nothing here passes or fails.

mod delay_line;
mod idle;
mod pgbench;
mod serve;
mod source;
mod ssh;

use std::time::Duration;

use anyhow::Context;

use crate::delay_line::DelayLine;
use crate::source::Source;
use crate::ssh::{Bastion, Server, Tunnel};

/// Half of the round trip on the long path.
const ONE_WAY: Duration = Duration::from_millis(50);
/// How often the candidates take turns; the median counts.
const TURNS: usize = 3;

const AES_128_GCM: &str = "aes128-gcm@openssh.com";
const AES_256_GCM: &str = "aes256-gcm@openssh.com";
const CHACHA20: &str = "chacha20-poly1305@openssh.com";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(serve::ARGUMENT) => serve::run(&arguments[1..]),
        // What `cargo bench` passes and `cargo test` does not.
        _ if arguments.iter().any(|a| a == "--bench") => run(),
        _ => Ok(()),
    }
}

fn run() -> anyhow::Result<()> {
    let bastion = Bastion::prepare()?;
    println!("Idle memory of the server, per tunnel (proportional set size)");
    idle::measure(&bastion)?;

    println!("\nQuery results from the database, one connection, loopback");
    throughput(&bastion, Duration::ZERO, Duration::from_secs(2))?;

    println!("\nThe same over a path of 100 ms");
    throughput(&bastion, ONE_WAY, Duration::from_secs(4))?;

    println!("\nNew connections to PostgreSQL (pgbench -C -S), loopback");
    pgbench::measure(&bastion)
}

/// One way to the source.
struct Candidate {
    name: String,
    port: u16,
    rates: Vec<f64>,
    /// Kept alive.
    _parts: (Option<Server>, Option<DelayLine>, Option<Tunnel>),
}

impl Candidate {
    fn median(&mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates[self.rates.len() / 2]
    }
}

fn throughput(bastion: &Bastion, one_way: Duration, each: Duration) -> anyhow::Result<()> {
    let source = Source::start()?;
    let mut candidates = vec![direct(&source, one_way)?];
    for (name, stock, cipher) in [
        ("ours, aes128-gcm", false, AES_128_GCM),
        ("ours, aes256-gcm", false, AES_256_GCM),
        ("ours, chacha20 (ssh's default)", false, CHACHA20),
        ("sshd, aes128-gcm", true, AES_128_GCM),
        ("sshd, chacha20 (the default)", true, CHACHA20),
    ] {
        let server = if stock {
            Server::stock(bastion)?
        } else {
            Server::ours(bastion)?
        };
        let line = (!one_way.is_zero())
            .then(|| DelayLine::start(server.port, one_way))
            .transpose()?;
        let entrance = line.as_ref().map_or(server.port, |line| line.port);
        let tunnel = Tunnel::open(bastion, &server, 0, entrance, source.port, cipher)
            .with_context(|| name.to_owned())?;
        candidates.push(Candidate {
            name: name.to_owned(),
            port: server.forward_port(0),
            rates: Vec::new(),
            _parts: (Some(server), line, Some(tunnel)),
        });
    }

    for _ in 0..TURNS {
        for candidate in &mut candidates {
            let rate = source::read_for(candidate.port, each, one_way * 40)
                .with_context(|| candidate.name.clone())?;
            candidate.rates.push(rate);
        }
    }
    let base = candidates[0].median();
    for candidate in &mut candidates {
        let rate = candidate.median();
        row(&candidate.name, &mbits(rate), rate / base, "of direct");
    }
    Ok(())
}

fn direct(source: &Source, one_way: Duration) -> anyhow::Result<Candidate> {
    let line = (!one_way.is_zero())
        .then(|| DelayLine::start(source.port, one_way))
        .transpose()?;
    Ok(Candidate {
        name: "direct".to_owned(),
        port: line.as_ref().map_or(source.port, |line| line.port),
        rates: Vec::new(),
        _parts: (None, line, None),
    })
}

fn mbits(bytes_per_second: f64) -> String {
    format!("{:.0} Mbit/s", bytes_per_second * 8.0 / 1e6)
}

/// One line of the table.
fn row(name: &str, figure: &str, ratio: f64, of_what: &str) {
    println!("  {name:<34} {figure:>14}   {ratio:>6.2} {of_what}");
}
