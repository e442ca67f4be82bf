//! How fast a tunnel is, and what it costs both sides: `scripts/bench` runs this.
//!
//! Everything is compared within one run, with the candidates taking turns, so that a busy machine
//! blurs the figures and does not turn them. Nothing here passes or fails.

mod control_plane;
mod ending;
mod figures;
mod fronts;
mod idle;
mod lists;
mod loopback;
mod path;
mod pgbench;
mod place;
mod processes;
mod report;
mod results;
mod serve;
mod short;
mod source;
mod ssh;
mod store;
mod stranger;
mod strangers;
mod sustained;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::ending::Ending;
use crate::path::{Path, TcpBuffers};
use crate::report::Report;
use crate::ssh::Bastion;

const AES_128_GCM: &str = "aes128-gcm@openssh.com";
const AES_256_GCM: &str = "aes256-gcm@openssh.com";
const CHACHA20: &str = "chacha20-poly1305@openssh.com";

const SECTIONS: [&str; 10] = [
    "idle",
    "loopback",
    "path",
    "results",
    "connections",
    "fronts",
    "short",
    "strangers",
    "lists",
    "store",
];

/// What the command line asks for.
struct Options {
    sections: Vec<String>,
    /// How often the candidates take turns; the median counts.
    turns: usize,
    /// How many short connections there are.
    connections: usize,
    /// Half of the round trip on the long path.
    one_way: Duration,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Options {
            sections: Vec::new(),
            turns: 5,
            connections: 50_000,
            one_way: Duration::from_millis(50),
            json: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} what?"))
            };
            match argument.as_str() {
                "--turns" => options.turns = value()?.parse::<usize>()?.max(1),
                "--connections" => options.connections = value()?.parse()?,
                "--one-way-ms" => options.one_way = Duration::from_millis(value()?.parse()?),
                "--json" => options.json = Some(value()?.into()),
                section if SECTIONS.contains(&section) => options.sections.push(section.into()),
                other => bail!("there is no {other:?}; the sections are: {SECTIONS:?}"),
            }
        }
        Ok(options)
    }

    fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == serve::ARGUMENT)
    {
        return serve::run(&arguments[1..]);
    }
    // What `cargo bench` passes and `cargo test` does not.
    let all = arguments.len();
    arguments.retain(|argument| argument != "--bench");
    if arguments.len() == all {
        return Ok(());
    }
    let options = Options::parse(&arguments)?;
    let mut report = Report::new(options.json.clone());
    // Before any thread is there, so that all are in the same place.
    if place::is_root() {
        place::move_into_a_new_one()?;
        TcpBuffers::Default.set()?;
    }
    let ending = Ending::arranged()?;
    let bastion = Bastion::prepare()?;
    ending.remove_folder(bastion.dir.path().to_owned());
    run(&bastion, &options, &mut report)
}

fn run(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    if options.wants("idle") {
        idle::measure(bastion, options, report).context("idle")?;
        report.save()?;
    }
    if options.wants("loopback") {
        loopback::measure(bastion, options, report).context("loopback")?;
        report.save()?;
    }
    if options.wants("path") || options.wants("results") {
        if place::is_root() {
            let path = Path::new(options.one_way)?;
            if options.wants("path") {
                sustained::measure(bastion, &path, options, report).context("path")?;
                report.save()?;
            }
            if options.wants("results") {
                results::measure(bastion, &path, options, report).context("results")?;
                report.save()?;
            }
            path.set_buffers(TcpBuffers::Default)?;
        } else {
            println!("\nThe sections \"path\" and \"results\" need root: they make a long path of");
            println!("two network namespaces and the devices between them.");
        }
    }
    if options.wants("connections") {
        pgbench::measure(bastion, options, report).context("connections")?;
        report.save()?;
    }
    if options.wants("fronts") {
        fronts::measure(bastion, options, report).context("fronts")?;
        report.save()?;
    }
    if options.wants("short") {
        short::measure(bastion, options, report).context("short")?;
        report.save()?;
    }
    if options.wants("strangers") {
        strangers::measure(bastion, options, report).context("strangers")?;
        report.save()?;
    }
    if options.wants("lists") {
        lists::measure(options, report).context("lists")?;
        report.save()?;
    }
    if options.wants("store") {
        store::measure(bastion, options, report).context("store")?;
        report.save()?;
    }
    Ok(())
}
