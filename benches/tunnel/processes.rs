//! What a process has used, by the kernel's own account.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// The unit of processor times in /proc, the same on every Linux that Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds on a processor.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    pub fn all(self) -> f64 {
        self.user + self.system
    }

    pub fn since(self, before: Cpu) -> Cpu {
        Cpu {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }
}

/// A process and its descendants.
pub fn family(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&process) = family.get(next) {
        next += 1;
        // A thread's children are those that it started itself.
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children"));
            for child in children.unwrap_or_default().split_whitespace() {
                family.push(child.parse()?);
            }
        }
    }
    Ok(family)
}

/// What the programs of a process and its descendants are called.
pub fn names_in_family(root: u32) -> anyhow::Result<Vec<String>> {
    let names = family(root)?.into_iter().filter_map(name);
    Ok(names.collect())
}

fn name(process: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Kills a process and its descendants, the oldest first.
pub fn kill_family(root: u32) -> anyhow::Result<()> {
    family(root)?.into_iter().for_each(kill);
    Ok(())
}

/// Kills those of them whose programs are called so.
pub fn kill_those_named(root: u32, names: &[&str]) -> anyhow::Result<()> {
    let mut found = family(root)?;
    found.retain(|process| name(*process).is_some_and(|name| names.contains(&name.as_str())));
    ensure!(!found.is_empty(), "there is none of {names:?}");
    found.into_iter().for_each(kill);
    Ok(())
}

/// One that has ended meanwhile need not be killed.
fn kill(process: u32) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, Signal::KILL);
    }
}

/// What a process and its living descendants have used so far.
pub fn cpu_of_family(root: u32) -> anyhow::Result<Cpu> {
    let mut sum = Cpu::default();
    for process in family(root)? {
        // One that has ended meanwhile counts no more; sessions are measured while they live.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) {
            let cpu = cpu_in(&stat).context("an odd /proc/PID/stat")?;
            sum.user += cpu.user;
            sum.system += cpu.system;
        }
    }
    Ok(sum)
}

fn cpu_in(stat: &str) -> Option<Cpu> {
    // The program's name stands in brackets and may hold anything; the state follows it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Cpu {
        user: seconds()?,
        system: seconds()?,
    })
}

/// The most memory that a process has had at once, in bytes.
pub fn peak_memory(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    kib_after(&status, "VmHWM:").context("no VmHWM")
}

/// The proportional set size of a process and its descendants, in bytes, once they are at rest.
pub fn memory_of_family(root: u32) -> anyhow::Result<f64> {
    std::thread::sleep(Duration::from_secs(1));
    let mut bytes = 0.0;
    for process in family(root)? {
        // One that has ended meanwhile has no memory.
        if let Ok(rollup) = fs::read_to_string(format!("/proc/{process}/smaps_rollup")) {
            bytes += kib_after(&rollup, "Pss:").context("no Pss")?;
        }
    }
    Ok(bytes)
}

/// How many descriptors a process has open.
pub fn files(process: u32) -> anyhow::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

fn kib_after(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(label))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
