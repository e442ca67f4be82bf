//! Bulk over loopback: how fast a session is from its first moment on, and what it costs.

use std::time::Duration;

use anyhow::Context;

use crate::figures::Figures;
use crate::processes::{Cpu, cpu_of_family, peak_memory};
use crate::report::{Cell, Report, mb, mbits, none, number, two};
use crate::source::{Direction, Source, quarters};
use crate::ssh::{Bastion, Route, Server, Software, Tunnel};
use crate::{AES_128_GCM, AES_256_GCM, CHACHA20, Options};

/// How many quarters of a second each turn lasts.
const QUARTERS: usize = 8;

pub fn measure(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let source = Route::Loopback.source()?;
    let servers = Software::all()
        .into_iter()
        .map(|software| Server::start(bastion, software))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let runs = [
        ("aes128-gcm", AES_128_GCM, Direction::FromDatabase),
        ("aes256-gcm", AES_256_GCM, Direction::FromDatabase),
        ("chacha20", CHACHA20, Direction::FromDatabase),
        ("aes128-gcm, to it", AES_128_GCM, Direction::ToDatabase),
    ];
    let mut found = Vec::new();
    // A session and its port end a moment after its ssh: each gets a number of its own.
    let mut number = 0;
    for (name, cipher, direction) in runs {
        let mut sums = vec![Sum::default(); servers.len()];
        for _ in 0..options.turns {
            for (sum, server) in sums.iter_mut().zip(&servers) {
                number += 1;
                let name = server.software.name();
                turn(bastion, server, number, &source, cipher, direction, sum).context(name)?;
            }
        }
        found.push((name, sums));
    }
    print(&servers, &found, report);
    Ok(())
}

/// What all turns of one candidate gave.
#[derive(Clone, Default)]
struct Sum {
    rate: Figures,
    /// Bytes per second, quarter by quarter.
    quarters: Vec<Figures>,
    server_user: Figures,
    server_system: Figures,
    server: Figures,
    ssh: Figures,
    ssh_memory: Figures,
}

/// One fresh session.
fn turn(
    bastion: &Bastion,
    server: &Server,
    number: u16,
    source: &Source,
    cipher: &str,
    direction: Direction,
    sum: &mut Sum,
) -> anyhow::Result<()> {
    let tunnel = Tunnel::open(
        bastion,
        server,
        Route::Loopback,
        number,
        source.port,
        cipher,
    )?;
    let used = || -> anyhow::Result<(Cpu, Cpu)> {
        Ok((
            cpu_of_family(server.process.id())?,
            cpu_of_family(tunnel.process.id())?,
        ))
    };
    let before = used()?;
    let passed = quarters(
        server.entrance(number),
        source,
        direction,
        Duration::ZERO,
        QUARTERS,
    )?;
    let after = used()?;
    let gigabytes = passed.bytes / 1e9;
    let serving = after.0.since(before.0);
    sum.rate.push(passed.mean());
    sum.quarters.resize(QUARTERS, Figures::default());
    for (figures, rate) in sum.quarters.iter_mut().zip(&passed.rates) {
        figures.push(*rate);
    }
    sum.server_user.push(serving.user / gigabytes);
    sum.server_system.push(serving.system / gigabytes);
    sum.server.push(serving.all() / gigabytes);
    sum.ssh.push(after.1.since(before.1).all() / gigabytes);
    sum.ssh_memory.push(peak_memory(tunnel.process.id())?);
    Ok(())
}

fn print(servers: &[Server], found: &[(&str, Vec<Sum>)], report: &mut Report) {
    let of = |server: &Server, name: &str| format!("{}, {name}", server.software.name());
    let mut table = report.table(
        "Bulk over loopback, one connection on a fresh session, from its first moment on",
        &["at least sshd's rate with the same cipher in every quarter (the median of its turns)"],
        &["Mbit/s", "x sshd", "worst turn", "worst quarter", "which"],
    );
    for (name, sums) in found {
        let sshd = &sums[sums.len() - 1];
        for (server, sum) in servers.iter().zip(sums) {
            let mut cells = vec![mbits(sum.rate.median())];
            if server.software == Software::Stock {
                cells.extend([none(), none(), none(), none()]);
            } else {
                let ratio = sum.rate.over(&sshd.rate);
                let quarters = ratios(sum, sshd);
                let worst = (1..).zip(&quarters).min_by(|a, b| a.1.total_cmp(b.1));
                let (which, worst) = worst.unwrap_or((0, &f64::NAN));
                cells.extend([two(ratio.median()), two(ratio.least())]);
                cells.extend([two(*worst), number(f64::from(which), 0)]);
            }
            table.row(&of(server, name), &cells);
        }
    }

    let mut table = report.table(
        "The same, quarter by quarter, as a multiple of sshd's rate",
        &["at least 1.00 everywhere"],
        &["1", "2", "3", "4", "5", "6", "7", "8"],
    );
    for (name, sums) in found {
        let sshd = &sums[sums.len() - 1];
        for (server, sum) in servers.iter().zip(sums) {
            if server.software != Software::Stock {
                let cells: Vec<Cell> = ratios(sum, sshd).into_iter().map(two).collect();
                table.row(&of(server, name), &cells);
            }
        }
    }

    let mut table = report.table(
        "The same: seconds on a processor per GB, and the most memory that the bastion's ssh had",
        &[
            "the server at most sshd's; ssh at most 1.3 x that with sshd",
            "ssh's memory at most 20 MB",
        ],
        &[
            "user", "system", "server", "x sshd", "worst", "ssh", "x sshd's", "ssh MB",
        ],
    );
    for (name, sums) in found {
        let sshd = &sums[sums.len() - 1];
        for (server, sum) in servers.iter().zip(sums) {
            let ratio = sum.server.over(&sshd.server);
            let ssh = sum.ssh.over(&sshd.ssh);
            let [ratio, worst, ssh] = match server.software {
                Software::Stock => [none(), none(), none()],
                _ => [two(ratio.median()), two(ratio.most()), two(ssh.median())],
            };
            table.row(
                &of(server, name),
                &[
                    two(sum.server_user.median()),
                    two(sum.server_system.median()),
                    two(sum.server.median()),
                    ratio,
                    worst,
                    two(sum.ssh.median()),
                    ssh,
                    mb(sum.ssh_memory.most()),
                ],
            );
        }
    }
}

/// Quarter by quarter, the median of the turns.
fn ratios(sum: &Sum, sshd: &Sum) -> Vec<f64> {
    let both = sum.quarters.iter().zip(&sshd.quarters);
    both.map(|(ours, theirs)| ours.over(theirs).median())
        .collect()
}
