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
/// How much a path's TCP connections have under way at most, and where that is so.
const PATH_WINDOWS: [(usize, &str); 2] = [
    (6 << 20, "Linux's default maximum"),
    (32 << 20, "hosts tuned for long paths"),
];
/// How long each candidate is measured in each turn.
const MEASURED: Duration = Duration::from_secs(2);
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
        _ if arguments.iter().any(|a| a == "--bench") => {
            let sections: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(&sections[..sections.len() - 1])
        }
        _ => Ok(()),
    }
}

/// The whole bench, or the sections that are named.
fn run(sections: &[&str]) -> anyhow::Result<()> {
    let wanted = |section| sections.is_empty() || sections.contains(&section);
    let bastion = Bastion::prepare()?;
    if wanted("idle") {
        println!("Idle memory of the server, per tunnel (proportional set size)");
        idle::measure(&bastion)?;
        note(
            "aim: at most 40 KiB. Half of it are the session's state and its two message queues in russh",
        );
    }
    if wanted("loopback") {
        println!("\nQuery results from the database, one connection, loopback");
        throughput(&bastion, None)?;
        note(
            "aim: at least sshd's with the same cipher. The processors bound all of it: every byte",
        );
        note("passes through four processes here, two of which encrypt");
    }
    if wanted("path") {
        for (window, whose) in PATH_WINDOWS {
            println!(
                "\nThe same over a path of 100 ms, TCP window of {} MiB ({whose})",
                window >> 20
            );
            throughput(&bastion, Some(window))?;
            note(
                "aim: 10 x sshd and 0.9 x direct. sshd is bounded by its window of 2 MiB, ours by",
            );
            note(
                "TCP's window, its own of 32 MiB (2.7 Gbit/s), or the processors, whichever is least",
            );
        }
    }
    if wanted("connections") {
        println!("\nNew connections to PostgreSQL (pgbench -C -S), loopback");
        pgbench::measure(&bastion)?;
        note("aim: 0.9. sshd before 10.1 sets no TCP_NODELAY on a connection without a session");
    }
    Ok(())
}

/// One way to the source.
struct Candidate {
    name: &'static str,
    port: u16,
    rates: Vec<f64>,
    /// Kept alive; ended in this order.
    _parts: Option<(Tunnel, Server)>,
}

impl Candidate {
    fn median(&mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates[self.rates.len() / 2]
    }
}

/// Measures what one connection carries, over loopback or over a path with this TCP window.
fn throughput(bastion: &Bastion, path_window: Option<usize>) -> anyhow::Result<()> {
    let line_to = |port| {
        path_window
            .map(|window| DelayLine::start(port, ONE_WAY, window))
            .transpose()
    };
    let source = Source::start()?;
    let line = line_to(source.port)?;
    let mut candidates = vec![Candidate {
        name: "direct",
        port: line.as_ref().map_or(source.port, |line| line.port),
        rates: Vec::new(),
        _parts: None,
    }];
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
        let line = line_to(server.port)?;
        let entrance = line.as_ref().map_or(server.port, |line| line.port);
        let tunnel =
            Tunnel::open(bastion, &server, 0, entrance, source.port, cipher).context(name)?;
        candidates.push(Candidate {
            name,
            port: server.forward_port(0),
            rates: Vec::new(),
            _parts: Some((tunnel, server)),
        });
    }

    // A long path needs some round trips until every window has grown.
    let warm_up = path_window.map_or(Duration::from_millis(300), |_| ONE_WAY * 40);
    for _ in 0..TURNS {
        for candidate in &mut candidates {
            let rate =
                source::read_for(candidate.port, warm_up, MEASURED).context(candidate.name)?;
            candidate.rates.push(rate);
        }
    }
    let base = candidates[0].median();
    for candidate in &mut candidates {
        let rate = candidate.median();
        row(candidate.name, &mbits(rate), rate / base, "of direct");
    }
    Ok(())
}

fn mbits(bytes_per_second: f64) -> String {
    format!("{:.0} Mbit/s", bytes_per_second * 8.0 / 1e6)
}

/// What a table should show, and what bounds it.
fn note(text: &str) {
    println!("    {text}");
}

/// One line of the table.
fn row(name: &str, figure: &str, ratio: f64, of_what: &str) {
    println!("  {name:<34} {figure:>14}   {ratio:>6.2} {of_what}");
}
