//! The bastion as a machine: its power, its sleep, its memory, its disk.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::faults::measure::{Aim, Fault};
use crate::faults::world::last;
use crate::support::process;

#[test]
#[ignore = "takes a minute"]
fn a_bastion_whose_power_was_cut_is_up_within_seconds_of_its_start() {
    Fault::of_one("bastion without power for 5 s", Aim::Takeover).happens(|world| {
        world.cut_power();
        let end = last(Duration::from_secs(5));
        world.boot();
        end
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_bastion_that_slept_for_a_minute_is_up_within_seconds() {
    Fault::of_one("bastion asleep for 60 s", Aim::Seen).happens(|world| {
        let asleep = world.processes();
        let signal_all = |signal| asleep.iter().for_each(|one| process::signal(one, signal));
        signal_all(Signal::STOP);
        let end = last(Duration::from_secs(60));
        signal_all(Signal::CONT);
        end
    });
}

#[test]
#[ignore = "takes a minute"]
fn a_tunnel_that_the_kernel_ended_for_want_of_memory_is_back_within_seconds() {
    let name = "bastion out of memory, ssh ended by the kernel";
    Fault::of_one(name, Aim::Seen).happens(|world| {
        let group = MemoryGroup::new();
        let victims = world.processes();
        for process in victims.iter().filter(|process| process.name == "ssh") {
            let score = format!("/proc/{}/oom_score_adj", process.pid);
            std::fs::write(score, "1000").expect("root may choose the victim");
            group.take(process.pid as u32);
        }
        group.eat_until_the_kernel_ends_somebody();
        let is_alive = |pid| PathBuf::from(format!("/proc/{pid}/cmdline")).exists();
        assert!(
            victims.iter().any(|process| !is_alive(process.pid)),
            "the kernel has ended no ssh"
        );
        Instant::now()
    });
}

#[test]
#[ignore = "takes a minute"]
fn a_tunnel_is_back_within_seconds_while_its_log_has_no_room() {
    let mut is_full = false;
    Fault::of_one("bastion's disk full, ssh killed", Aim::Seen).happens(|world| {
        if !is_full {
            world.ours.logs.fill();
            is_full = true;
        }
        world.kill_ssh();
        Instant::now()
    });
}

/// Processes that may have 48 MiB together. What is left of it at the end is empty.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    const MOST: &str = "50331648";

    fn new() -> Self {
        let name = format!("holistics-tunnel-faults-{}", std::process::id());
        let (first, second) = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup");
        let of_version_1 = PathBuf::from(first).exists();
        let folder = PathBuf::from(if of_version_1 { first } else { second }).join(name);
        std::fs::create_dir_all(&folder).expect("root may make a group");
        let limits: &[(&str, &str)] = if of_version_1 {
            &[("memory.limit_in_bytes", Self::MOST)]
        } else {
            &[("memory.max", Self::MOST), ("memory.swap.max", "0")]
        };
        for (file, value) in limits {
            std::fs::write(folder.join(file), value).expect("its limit");
        }
        MemoryGroup(folder)
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it takes a process");
    }

    /// Somebody in it wants more and more, until he is ended himself; whoever scores higher goes first.
    fn eat_until_the_kernel_ends_somebody(&self) {
        let mut eater = Command::new("sh");
        eater.args(["-c", r#"echo $$ >"$0/cgroup.procs"; exec tail /dev/zero"#]);
        let ended = eater.arg(&self.0).status().expect("sh");
        assert!(!ended.success(), "the kernel has ended nobody");
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It is kept while somebody is in it, who is not if all went well.
        let _ = std::fs::remove_dir(&self.0);
    }
}
