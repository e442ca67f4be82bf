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
mod load;
mod loopback;
mod others;
mod path;
mod pgbench;
mod place;
mod processes;
mod rathole;
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

const SECTIONS: [&str; 12] = [
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
    "load",
    "table",
];

/// How often the candidates take turns, unless it is said.
const TURNS: usize = 5;

/// What the command line asks for.
struct Options {
    sections: Vec<String>,
    /// How often the candidates take turns; the median counts.
    turns: usize,
    /// How many short connections there are.
    connections: usize,
    /// Half of the round trip on the long path.
    one_way: Duration,
    /// How many tunnels there are under load, one number after another.
    tunnels: Vec<usize>,
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Options {
            sections: Vec::new(),
            turns: TURNS,
            connections: 50_000,
            one_way: Duration::from_millis(50),
            tunnels: Vec::new(),
            json: None,
            markdown: None,
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
                "--tunnels" => options.tunnels.push(value()?.parse()?),
                "--markdown" => options.markdown = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                section if SECTIONS.contains(&section) => options.sections.push(section.into()),
                other => bail!("there is no {other:?}; the sections are: {SECTIONS:?}"),
            }
        }
        Ok(options)
    }

    /// How it was called, but for where the figures go.
    fn command(&self) -> String {
        let mut words = vec!["scripts/bench".to_owned()];
        words.extend(self.sections.iter().cloned());
        let tunnels = self.tunnels.iter();
        words.extend(tunnels.map(|tunnels| format!("--tunnels {tunnels}")));
        if self.turns != TURNS {
            words.push(format!("--turns {}", self.turns));
        }
        words.join(" ")
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
    let command = options.command();
    let (json, markdown) = (options.json.clone(), options.markdown.clone());
    let mut report = Report::new(json, markdown, command);
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
    // Made once, for the sections that need it.
    let mut path = None;
    for section in SECTIONS {
        if options.wants(section) {
            report.begin(section);
            measure(section, bastion, &mut path, options, report).context(section)?;
            report.save()?;
        }
    }
    Ok(())
}

fn measure(
    section: &str,
    bastion: &Bastion,
    path: &mut Option<Path>,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    match section {
        "idle" => idle::measure(bastion, options, report),
        "loopback" => loopback::measure(bastion, options, report),
        "path" | "results" if !place::is_root() => {
            println!("\nThe section {section:?} needs root: it makes a long path of two network");
            println!("namespaces and the devices between them.");
            Ok(())
        }
        "path" | "results" => {
            let path = match path {
                Some(path) => path,
                None => path.insert(Path::new(options.one_way)?),
            };
            match section {
                "path" => sustained::measure(bastion, path, options, report)?,
                _ => results::measure(bastion, path, options, report)?,
            }
            path.set_buffers(TcpBuffers::Default)
        }
        "connections" => pgbench::measure(bastion, options, report),
        "fronts" => fronts::measure(bastion, options, report),
        "short" => short::measure(bastion, options, report),
        "strangers" => strangers::measure(bastion, options, report),
        "lists" => lists::measure(options, report),
        "store" => store::measure(bastion, options, report),
        "load" => load::measure(options, report),
        "table" => others::measure(bastion, options, report),
        _ => unreachable!("there is no {section:?}"),
    }
}
