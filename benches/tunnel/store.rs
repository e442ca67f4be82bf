//! What the control plane can write in a second, with its data in SQLite and in PostgreSQL on the same disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Options;
use crate::control_plane::{ControlPlane, Installation};
use crate::figures::Figures;
use crate::pgbench::Postgres;
use crate::report::{Report, none, number, two};
use crate::ssh::Bastion;

/// How many callers there are at the same time.
const CALLERS: [usize; 2] = [1, 16];
/// How many data sources each turn makes.
const SOURCES: usize = 200;
/// What each turn measures.
const WORK: [&str; 3] = ["created", "enrolled", "events"];

/// The rates of each kind of work.
type Rates = [Figures; WORK.len()];

pub fn measure(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let postgres = Postgres::start(bastion.dir.path())?;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let installations = [
        ("SQLite", Installation::new(&program)?),
        (
            "PostgreSQL",
            Installation::in_postgres(&program, postgres.new_database("control_plane")?)?,
        ),
    ];
    let mut servers = Vec::new();
    for (_, installation) in &installations {
        servers.push(installation.start(&["--ports", "20000-59999"])?);
    }
    let keys = AtomicUsize::new(1);
    for callers in CALLERS {
        let mut rates = [Rates::default(), Rates::default()];
        for _ in 0..options.turns {
            for (((_, installation), server), rates) in
                installations.iter().zip(&servers).zip(&mut rates)
            {
                turn(server, &installation.token, callers, &keys, rates)?;
            }
        }
        let mut table = report.table(
            &format!("What is kept: {callers} callers, {SOURCES} data sources a turn, loopback"),
            &[],
            &["per s", "worst", "x SQLite", "worst x"],
        );
        for (index, work) in WORK.iter().enumerate() {
            for (number_of, (name, _)) in installations.iter().enumerate() {
                let own = &rates[number_of][index];
                let ratio = own.over(&rates[0][index]);
                let ratios = match number_of {
                    0 => [none(), none()],
                    _ => [two(ratio.median()), two(ratio.least())],
                };
                let [median, worst] = ratios;
                let cells = [
                    number(own.median(), 0),
                    number(own.least(), 0),
                    median,
                    worst,
                ];
                table.row(&format!("{work}, {name}"), &cells);
            }
        }
    }
    Ok(())
}

/// Makes data sources, registers a bastion for each, and changes each, which is an event of its history.
fn turn(
    server: &ControlPlane,
    token: &str,
    callers: usize,
    keys: &AtomicUsize,
    rates: &mut Rates,
) -> anyhow::Result<()> {
    let [created, enrolled, events] = rates;
    let new = json!({ "display_name": "Sales", "database_type": "postgresql", "host": "db", "port": 5432 });
    let drafts = each(callers, vec![(); SOURCES], created, |()| {
        server.call("POST", "/data-sources", token, &new)
    })?;
    each(
        callers,
        drafts.iter().collect(),
        enrolled,
        |draft: &Value| {
            let token = draft["enrollment"]["token"].as_str().context("a token")?;
            let mut key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
            let number = keys.fetch_add(1, Ordering::Relaxed) as u64;
            key.extend(number.to_be_bytes().repeat(4));
            let registration = json!({
                "public_key": format!("ssh-ed25519 {}", STANDARD.encode(key)),
                "hostname": "bastion", "os": "Debian 12", "user": "ann",
            });
            server.call("PUT", "/enrollment/public-key", token, &registration)
        },
    )?;
    each(callers, drafts.iter().collect(), events, |draft: &Value| {
        let path = format!("/data-sources/{}", draft["id"]);
        server.call("PATCH", &path, token, &json!({ "host": "db2" }))
    })?;
    Ok(())
}

/// Does the work for each by so many callers, and notes how many a second.
fn each<T: Send + Clone, R: Send>(
    callers: usize,
    all: Vec<T>,
    rates: &mut Figures,
    work: impl Fn(T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let began = Instant::now();
    let work = &work;
    let parts: Vec<anyhow::Result<Vec<R>>> = thread::scope(|scope| {
        let threads: Vec<_> = all
            .chunks(all.len().div_ceil(callers))
            .map(|part| part.to_vec())
            .map(|part| scope.spawn(move || part.into_iter().map(work).collect()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a caller does not panic"))
            .collect()
    });
    let mut done = Vec::new();
    for part in parts {
        done.extend(part?);
    }
    rates.push(done.len() as f64 / began.elapsed().as_secs_f64());
    ensure!(done.len() == all.len(), "not all was done");
    Ok(done)
}
