//! Thousands of tunnels at the server's own program: what they cost while they are idle, how soon all are back after a
//! restart, and how 1,000 of them fare that are busy at once.
//!
//! Unlike the other sections this one can fail: where a bastion does not come back, or an event of a session is not in the
//! store. The figures themselves pass no judgement.

mod bastions;
mod queries;
mod servers;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use self::bastions::{Bastions, Orders};
use self::servers::Servers;
use crate::Options;
use crate::figures::Figures;
use crate::report::{Cell, Report, kib, mb, millis, number, two};

/// How many tunnels there are, unless `--tunnels` says it.
pub const TUNNELS: [usize; 3] = [1_000, 5_000, 20_000];

/// How many are busy at once, if there are as many.
const BUSY: usize = 1_000;

/// How many the cost of a login is measured with: a session without a port is closed after a minute.
const SAMPLE: usize = 1_000;

/// For how long the server is looked at while nothing happens.
const REST: Duration = Duration::from_secs(30);

/// How long all may take to be up, and the server to write down that they are.
const ALL_UP: Duration = Duration::from_secs(600);
const WRITTEN: Duration = Duration::from_secs(120);

/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(200);

pub fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let numbers = match options.tunnels.as_slice() {
        [] => &TUNNELS[..],
        numbers => numbers,
    };
    let mut found = Vec::new();
    for &tunnels in numbers {
        println!("\n{tunnels} tunnels");
        found.push(with(tunnels, options).with_context(|| format!("{tunnels} tunnels"))?);
    }
    print(numbers, &found, report);
    Ok(())
}

/// What was found with one number of tunnels: the name of each figure, and the figure.
type Found = Vec<(&'static str, Cell)>;

fn with(tunnels: usize, options: &Options) -> anyhow::Result<Found> {
    let mut found = Found::new();
    let (mut servers, bastions) = servers::start(tunnels)?;
    found.push(("servers", number(servers.number() as f64, 0)));
    come(&servers, &bastions, &mut found).context("the first time")?;
    rest(&servers, tunnels, &mut found)?;
    busy(&servers, &bastions, options, &mut found).context("busy")?;
    come_again(&mut servers, &bastions, &mut found).context("after a restart")?;
    bastions.obey(Orders::default());
    all_is_written(&servers, &bastions).context("after all have left")?;
    Ok(found)
}

/// All connect for the first time: a part of them logs in, then it asks for its ports, and then all the others come.
fn come(servers: &Servers, bastions: &Bastions, found: &mut Found) -> anyhow::Result<()> {
    let all = bastions.number();
    let sample = SAMPLE.min(all / 2).max(1);
    let before = servers.processor()?;
    bastions.obey(Orders {
        log_in: sample,
        listen: 0,
    });
    bastions.wait_for_logins(sample, ALL_UP)?;
    let login = (servers.processor()? - before) / bastions.logins() as f64;
    let before = servers.processor()?;
    bastions.obey(Orders {
        log_in: sample,
        listen: sample,
    });
    bastions.wait_until_up(sample, ALL_UP)?;
    all_is_written(servers, bastions)?;
    let port = (servers.processor()? - before) / sample as f64;
    let (memory, files) = (servers.memory()?, servers.files()?);
    let begun = Instant::now();
    bastions.obey(Orders {
        log_in: all,
        listen: all,
    });
    bastions.wait_until_up(all, ALL_UP)?;
    let took = begun.elapsed();
    all_is_written(servers, bastions)?;
    let more = (all - sample) as f64;
    let grown = servers.memory()? - memory;
    found.push(("memory of a tunnel, KiB", kib(grown / more)));
    let grown = servers.files()? - files;
    found.push(("descriptors of a tunnel", two(grown as f64 / more)));
    found.push(("processor of a login, ms", two(login * 1e3)));
    found.push(("of a port and its event, ms", two(port * 1e3)));
    let took = number(took.as_secs_f64(), 1);
    found.push(("first time: the last up, s", took));
    Ok(())
}

/// Nothing happens but signs of life.
fn rest(servers: &Servers, tunnels: usize, found: &mut Found) -> anyhow::Result<()> {
    let (before, begun) = (servers.processor()?, Instant::now());
    std::thread::sleep(REST);
    let used = (servers.processor()? - before) / begun.elapsed().as_secs_f64();
    found.push(("at rest: processor, %", two(used * 100.0)));
    let each = used / tunnels as f64 * 1e6;
    found.push(("at rest: of a tunnel, us/s", two(each)));
    Ok(())
}

/// A thousand queries at once, each through a tunnel of its own; and connections that do nothing else.
fn busy(
    servers: &Servers,
    bastions: &Bastions,
    options: &Options,
    found: &mut Found,
) -> anyhow::Result<()> {
    let ports: Vec<_> = bastions.ports().take(BUSY).collect();
    let (mut rate, mut bytes) = (Figures::default(), Figures::default());
    let (mut median, mut worst) = (Figures::default(), Figures::default());
    let mut short = Figures::default();
    for _ in 0..options.turns {
        let done = queries::all_at_once(&ports)?;
        let took = done.took.as_secs_f64();
        rate.push(ports.len() as f64 / took);
        bytes.push(done.bytes as f64 / took);
        median.push(done.each.median());
        worst.push(done.each.most());
        let before = servers.processor()?;
        queries::short(&ports)?;
        short.push((servers.processor()? - before) / ports.len() as f64);
    }
    found.push(("busy at once: queries per s", number(rate.median(), 0)));
    found.push(("worst turn", number(rate.least(), 0)));
    found.push(("MB per s", mb(bytes.median())));
    found.push(("a query, median ms", millis(median.median())));
    found.push(("the slowest of all, ms", millis(worst.most())));
    let short = short.median() * 1e3;
    found.push(("processor of a connection, ms", two(short)));
    Ok(())
}

/// The servers are restarted, as `systemctl restart` does it, and all return at once.
fn come_again(servers: &mut Servers, bastions: &Bastions, found: &mut Found) -> anyhow::Result<()> {
    let failed = bastions.failed();
    let begun = Instant::now();
    servers.restart()?;
    let back = Instant::now();
    let times = bastions.wait_until_up_since(begun, ALL_UP)?;
    let written = Instant::now();
    all_is_written(servers, bastions)?;
    let written = written.elapsed();
    let used = servers.processor()? / bastions.number() as f64;
    let away = back.duration_since(begun);
    // From when the servers are there: what their own restart takes is a figure of its own.
    let after = |part: f64| (times.percentile(part) - away.as_secs_f64()).max(0.0);
    let (median, last) = (after(0.5), after(1.0));
    let one = |value: f64| number(value, 1);
    found.push(("restart: servers away, s", one(away.as_secs_f64())));
    found.push(("then up: median, s", one(median)));
    found.push(("99 %, s", one(after(0.99))));
    found.push(("the last, s", one(last)));
    found.push(("the last ÷ median", two(last / median)));
    found.push((
        "attempts that failed",
        number((bastions.failed() - failed) as f64, 0),
    ));
    found.push(("processor of a return, ms", two(used * 1e3)));
    found.push(("all written after, s", one(written.as_secs_f64())));
    Ok(())
}

/// Waits until every coming up that a bastion has seen is in the store, and every end of what has ended.
fn all_is_written(servers: &Servers, bastions: &Bastions) -> anyhow::Result<()> {
    let deadline = Instant::now() + WRITTEN;
    loop {
        let lacking = servers.lacking_events(bastions.seen())?;
        if lacking == 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the store lacks an event of {lacking} tunnels"
        );
        std::thread::sleep(LOOK);
    }
}

fn print(numbers: &[usize], found: &[Found], report: &mut Report) {
    let columns: Vec<_> = numbers.iter().map(usize::to_string).collect();
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let mut table = report.table(
        "Tunnels of one SSH session each, all from one process, loopback",
        &["every bastion is up again, and no event is lost"],
        &columns,
    );
    let Some(first) = found.first() else { return };
    for (row, (name, _)) in first.iter().enumerate() {
        let cells: Vec<_> = found.iter().map(|found| found[row].1.clone()).collect();
        table.row(name, &cells);
    }
}
