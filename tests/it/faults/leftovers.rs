//! What a fault leaves over: memory, descriptors and processes of the server and of the bastion.

use std::fmt;
use std::time::{Duration, Instant};

use crate::faults::world::World;

/// How long what is over may take to be gone. A client that vanished is found by the kernel's probes: after a minute
/// and a few of them.
const LIMIT: Duration = Duration::from_secs(240);

/// What moves though nothing happens: readers come and go. Memory in MiB; a program that has done more than before keeps
/// some of it.
const DESCRIPTORS: i64 = 6;
const MEMORY: i64 = 24;

/// What is there at a moment.
#[derive(Clone, Copy)]
pub struct Had {
    memory: i64,
    server: i64,
    bastion: i64,
    processes: i64,
}

/// How much more there is than before.
#[derive(Clone, Copy)]
pub struct LeftOver(Had);

impl Had {
    /// At this moment.
    pub fn now(world: &World) -> Self {
        let bastion = world.ours.service.processes();
        let bastion: Vec<_> = bastion.iter().map(|one| one.pid as u32).collect();
        let server = world.server.pid();
        let memory: i64 = bastion.iter().chain([&server]).copied().map(memory).sum();
        Had {
            memory: memory / 1024,
            server: descriptors(server),
            bastion: bastion.iter().copied().map(descriptors).sum(),
            processes: bastion.len() as i64,
        }
    }

    /// What is left over when it is as it was, or when the time is over.
    pub fn wait_until_as_before(&self, world: &World) -> LeftOver {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = self.until_now(world);
            if left.is_nothing() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn until_now(&self, world: &World) -> LeftOver {
        let now = Had::now(world);
        LeftOver(Had {
            memory: now.memory - self.memory,
            server: now.server - self.server,
            bastion: now.bastion - self.bastion,
            processes: now.processes - self.processes,
        })
    }
}

impl LeftOver {
    /// In MiB.
    pub fn memory(&self) -> i64 {
        self.0.memory
    }

    /// Whether that is nothing but what moves anyway.
    pub fn is_nothing(&self) -> bool {
        let left = self.0;
        let are_few = |descriptors| descriptors <= DESCRIPTORS;
        left.memory <= MEMORY
            && are_few(left.server)
            && are_few(left.bastion)
            && left.processes == 0
    }
}

impl fmt::Display for LeftOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Had {
            memory,
            server,
            bastion,
            processes,
        } = self.0;
        if self.is_nothing() {
            return write!(f, "nothing ({memory:+} MiB)");
        }
        write!(
            f,
            "{memory:+} MiB, {server:+} descriptors of the server, {bastion:+} of the bastion, {processes:+} processes"
        )
    }
}

/// None, where the process has ended meanwhile.
fn descriptors(pid: u32) -> i64 {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    open.map_or(0, |open| open.count() as i64)
}

/// In KiB.
fn memory(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
