//! One table of the same work done by ours and by what is used in its place: stock sshd, autossh's documented line to it,
//! and rathole.

mod candidates;

use std::time::Duration;

use anyhow::Context;

use self::candidates::Candidate;
use crate::figures::Figures;
use crate::idle;
use crate::pgbench::Postgres;
use crate::report::{Cell, Report, kib, mbits, none, number, two, words};
use crate::source::{Direction, quarters};
use crate::ssh::{Bastion, Route, Server, Software};
use crate::{Options, place, rathole};

/// How many quarters of a second bulk lasts, after the one that warms it up.
const QUARTERS: usize = 8;
const WARM_UP: Duration = Duration::from_millis(250);

/// How the clients connect: one after another, and many at once.
const CLIENTS: [(&str, &str, &str); 2] = [
    ("connections per s, one at a time", "1", "1"),
    ("connections per s, 16 at once", "16", "2"),
];

pub fn measure(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let source = Route::Loopback.source()?;
    let postgres = Postgres::start(bastion.dir.path())?;
    let mut candidates = vec![
        Candidate::ours(bastion, source.port, postgres.port())?,
        Candidate::sshd(bastion, source.port, postgres.port())?,
        Candidate::autossh(bastion, source.port)?,
        Candidate::rathole(bastion, source.port, postgres.port())?,
    ];
    let mut rows = Vec::new();
    for (name, direction) in [
        ("bulk from the database, Mbit/s", Direction::FromDatabase),
        ("bulk to the database, Mbit/s", Direction::ToDatabase),
    ] {
        rows.push(Row::of(name, &mut candidates, options, |candidate| {
            let Some(entrance) = candidate.bytes else {
                return Ok(None);
            };
            let passed = quarters(entrance, &source, direction, WARM_UP, QUARTERS)?;
            Ok(Some(passed.mean()))
        })?);
        rows.last_mut().expect("it was just added").as_text = mbits;
    }
    for (name, clients, threads) in CLIENTS {
        rows.push(Row::of(name, &mut candidates, options, |candidate| {
            let Some(port) = candidate.postgres else {
                return Ok(None);
            };
            let rate = postgres.connections_per_second(port, clients, threads)?;
            Ok(Some(rate))
        })?);
    }
    let mut memory = Row::new("idle tunnel: server's memory, KiB", candidates.len());
    (memory.as_text, memory.less_is_better) = (kib, true);
    for _ in 0..options.turns {
        for (candidate, figures) in candidates.iter().zip(&mut memory.figures) {
            figures.0.extend(idle_memory(candidate.name, bastion)?);
        }
    }
    rows.push(memory);
    let processes = [
        processes("its processes at the server", &candidates, |candidate| {
            candidate.processes_at_the_server()
        })?,
        processes("its processes at the bastion", &candidates, |candidate| {
            candidate.processes_at_the_bastion()
        })?,
    ];
    for candidate in &candidates {
        candidate.wait_until_it_is_settled();
    }
    let server = restarts(
        "server killed, started: next row, s",
        &mut candidates,
        options,
        Candidate::seconds_after_the_servers_death,
    )?;
    let client = restarts(
        "ssh or client killed: next row, s",
        &mut candidates,
        options,
        Candidate::seconds_after_the_clients_death,
    )?;
    rows.extend([server, client]);
    print(&candidates, &rows, &processes, report);
    Ok(())
}

/// What the candidates are compared by.
struct Row {
    name: &'static str,
    /// Of each candidate; none, if it is not asked.
    figures: Vec<Figures>,
    /// Whether it was tried in vain.
    never: Vec<bool>,
    as_text: fn(f64) -> Cell,
    less_is_better: bool,
}

impl Row {
    fn new(name: &'static str, candidates: usize) -> Self {
        Row {
            name,
            figures: vec![Figures::default(); candidates],
            never: vec![false; candidates],
            as_text: |value| number(value, 0),
            less_is_better: false,
        }
    }

    /// The candidates take turns.
    fn of(
        name: &'static str,
        candidates: &mut [Candidate],
        options: &Options,
        measure: impl Fn(&Candidate) -> anyhow::Result<Option<f64>>,
    ) -> anyhow::Result<Self> {
        let mut row = Row::new(name, candidates.len());
        for _ in 0..options.turns {
            for (candidate, figures) in candidates.iter().zip(&mut row.figures) {
                let value = measure(candidate).with_context(|| candidate.name.to_owned())?;
                figures.0.extend(value);
            }
        }
        Ok(row)
    }

    fn cells(&self, of: impl Fn(&Figures) -> Cell) -> Vec<Cell> {
        let figures = self.figures.iter().zip(&self.never);
        figures
            .map(|(figures, never)| match (figures.0.is_empty(), never) {
                (_, true) => words("never"),
                (true, false) => none(),
                (false, false) => of(figures),
            })
            .collect()
    }
}

/// Something dies in turns; where nothing comes back there are no more turns.
fn restarts(
    name: &'static str,
    candidates: &mut [Candidate],
    options: &Options,
    kill: fn(&mut Candidate) -> anyhow::Result<Option<f64>>,
) -> anyhow::Result<Row> {
    let mut row = Row::new(name, candidates.len());
    (row.as_text, row.less_is_better) = (two, true);
    for _ in 0..options.turns {
        for (place, candidate) in candidates.iter_mut().enumerate() {
            if !candidate.comes_back || row.never[place] {
                continue;
            }
            match kill(candidate).with_context(|| candidate.name.to_owned())? {
                Some(seconds) => row.figures[place].push(seconds),
                None => {
                    row.never[place] = true;
                    candidate.start_the_client_again()?;
                }
            }
        }
    }
    Ok(row)
}

/// The memory of one idle tunnel in its server; nothing for autossh, whose server is sshd.
fn idle_memory(candidate: &str, bastion: &Bastion) -> anyhow::Result<Option<f64>> {
    let software = match candidate {
        candidates::OURS => Software::Ours,
        candidates::SSHD => Software::Stock,
        rathole::PROGRAM => Software::Rathole,
        _ => return Ok(None),
    };
    let server = Server::start(bastion, software)?;
    idle::per_real_tunnel(bastion, &server).map(Some)
}

type Counts = (&'static str, Vec<Cell>);

fn processes(
    name: &'static str,
    candidates: &[Candidate],
    count: impl Fn(&Candidate) -> anyhow::Result<Option<f64>>,
) -> anyhow::Result<Counts> {
    let counts = candidates
        .iter()
        .map(|candidate| Ok(count(candidate)?.map_or_else(none, |count| number(count, 0))));
    Ok((name, counts.collect::<anyhow::Result<_>>()?))
}

fn print(candidates: &[Candidate], rows: &[Row], processes: &[Counts], report: &mut Report) {
    let names: Vec<_> = candidates.iter().map(|candidate| candidate.name).collect();
    let place = if place::is_root() {
        "loopback of its own"
    } else {
        "loopback"
    };
    let title = format!("The same work, medians of all turns, {place}");
    let mut table = report.table(&title, &[], &names);
    for row in rows {
        table.row(row.name, &row.cells(|own| (row.as_text)(own.median())));
        let worst = |own: &Figures| {
            if row.less_is_better {
                own.most()
            } else {
                own.least()
            }
        };
        table.row(
            "  the worst turn",
            &row.cells(|own| (row.as_text)(worst(own))),
        );
        let ours = &row.figures[0];
        table.row(
            "  as a multiple of ours",
            &row.cells(|own| two(own.over(ours).median())),
        );
    }
    for (name, cells) in processes {
        table.row(name, cells);
    }
}
