//! The end of a command before its time: it and all that it started, whoever they belong to.
//!
//! A command is the leader of a process group. What it started is in that group, or is found by its
//! parent: sudo may give a command a terminal, and with it a session and a group of its own. Names are
//! not asked for, and a number counts only together with the time at which its process began.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};

/// How long what is asked to end has time to put its things in order.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// How long the kernel may take for what cannot refuse.
const KILL_GRACE: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A process, told from a later one with the same number by the time at which it began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    pid: i32,
    began: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    identity: Identity,
    parent: i32,
    group: i32,
    /// Where the system tells: the group of a command is in the session of this process.
    session: Option<i32>,
    /// Over, and waiting for its parent to take notice.
    is_over: bool,
}

/// How processes that belong to somebody else are sent a signal.
pub type SendAsRoot<'a> = &'a dyn Fn(Signal, &[i32]);

/// A command's processes.
pub struct Family {
    leader: i32,
    session: Option<i32>,
    known: BTreeSet<Identity>,
}

impl Family {
    /// The command that leads this process group.
    pub fn of(leader: u32) -> Self {
        Family {
            // The system's process numbers are positive and of this type.
            leader: leader as i32,
            session: getsid(None).ok().map(Pid::as_raw),
            known: BTreeSet::new(),
        }
    }

    /// Ends them: asks them, and after a while does not ask any more. Returns whether nothing is left.
    pub fn end(&mut self, send_as_root: SendAsRoot) -> bool {
        for (signal, grace) in [(Signal::SIGTERM, TERM_GRACE), (Signal::SIGKILL, KILL_GRACE)] {
            let mut sent = BTreeSet::new();
            // From the moment at which they are told: a password may have been asked for before.
            let mut deadline = None;
            loop {
                let left = self.left();
                if left.is_empty() {
                    return true;
                }
                let new: Vec<i32> = left.difference(&sent).copied().collect();
                if !new.is_empty() {
                    send(signal, &new, send_as_root);
                    sent.extend(new);
                }
                if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + grace) {
                    break;
                }
                std::thread::sleep(LOOK_INTERVAL);
            }
        }
        self.left().is_empty()
    }

    /// Waits for their own end; returns whether it came.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.left().is_empty() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        true
    }

    /// Who is left, as `kill` takes them: a negative number stands for a group.
    pub fn left(&mut self) -> BTreeSet<i32> {
        let all = processes();
        // What a process started stays known when that process ends before it.
        loop {
            let children: Vec<Identity> = all
                .iter()
                .filter(|process| !self.known.contains(&process.identity))
                .filter(|process| self.is_ours(process, &all))
                .map(|process| process.identity.clone())
                .collect();
            if children.is_empty() {
                break;
            }
            self.known.extend(children);
        }
        let mut left: BTreeSet<i32> = all
            .iter()
            .filter(|process| !process.is_over && self.known.contains(&process.identity))
            .map(|process| process.identity.pid)
            .collect();
        let is_seen = all.iter().any(|process| process.group == self.leader);
        // Where a host hides others' processes, the group is all there is to go by.
        if !is_seen && kill(Pid::from_raw(-self.leader), None) != Err(Errno::ESRCH) {
            left.insert(-self.leader);
        }
        left
    }

    /// A group of that number in another session is a later one.
    fn is_in_group(&self, process: &Process) -> bool {
        process.group == self.leader
            && (process.session.is_none() || process.session == self.session)
    }

    fn is_ours(&self, process: &Process, all: &[Process]) -> bool {
        self.is_in_group(process)
            || all.iter().any(|parent| {
                parent.identity.pid == process.parent && self.known.contains(&parent.identity)
            })
    }
}

fn send(signal: Signal, to: &[i32], send_as_root: SendAsRoot) {
    let of_others: Vec<i32> = to
        .iter()
        .copied()
        // One that has ended meanwhile needs no signal.
        .filter(|&pid| kill(Pid::from_raw(pid), signal) == Err(Errno::EPERM))
        .collect();
    if !of_others.is_empty() {
        send_as_root(signal, &of_others);
    }
}

/// The processes that this user may see.
#[cfg(target_os = "linux")]
fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| from_stat(&std::fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect()
}

/// A line of `/proc/PID/stat`; the second field, a name in parentheses, may hold anything.
#[cfg(any(target_os = "linux", test))]
fn from_stat(stat: &str) -> Option<Process> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Process {
        identity: Identity {
            pid: pid.parse().ok()?,
            began: (*fields.get(19)?).to_owned(),
        },
        parent: fields[1].parse().ok()?,
        group: fields[2].parse().ok()?,
        session: fields[3].parse().ok(),
        is_over: matches!(fields[0], "Z" | "X"),
    })
}

#[cfg(not(target_os = "linux"))]
fn processes() -> Vec<Process> {
    let listed = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,pgid=,stat=,lstart="])
        .env("LC_ALL", "C")
        .output();
    let said = listed.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said)
        .lines()
        .filter_map(from_ps)
        .collect()
}

/// A line of `ps -o pid=,ppid=,pgid=,stat=,lstart=`.
#[cfg(any(not(target_os = "linux"), test))]
fn from_ps(line: &str) -> Option<Process> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some(Process {
        identity: Identity {
            pid: fields.first()?.parse().ok()?,
            began: fields.get(4..)?.join(" "),
        },
        parent: fields[1].parse().ok()?,
        group: fields[2].parse().ok()?,
        session: None,
        is_over: fields[3].starts_with('Z'),
    })
}

/// The arguments of `kill` for this signal.
pub fn arguments(signal: Signal, to: &[i32]) -> Vec<String> {
    let name = signal.as_str().trim_start_matches("SIG");
    let mut words = vec![format!("-{name}"), "--".to_owned()];
    words.extend(to.iter().map(i32::to_string));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    const NOBODY: SendAsRoot = &|_, _| panic!("they are our own");

    /// A line of shell in a group of its own that says when it has begun.
    fn begin(line: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", line])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"begun\n");
        child
    }

    #[test]
    fn a_command_ends_with_its_children_and_those_whose_parent_is_gone() {
        // One has a session of its own, as sudo gives it; one has no parent any more.
        let mut child = begin("setsid sleep 60 & (sleep 60 &); echo begun; sleep 60; :");
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut family = Family::of(child.id());
        // The shell and three sleeps, which begin one after another.
        while family.left().len() < 4 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            family = Family::of(child.id());
        }
        assert_eq!(family.left().len(), 4);
        let begun = Instant::now();
        assert!(family.end(NOBODY));
        assert!(begun.elapsed() < TERM_GRACE, "they have ended when asked");
        assert!(family.left().is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn whoever_is_not_ended_is_told_as_left_and_waited_for() {
        let mut child = begin("echo begun; sleep 0.5; :");
        let mut family = Family::of(child.id());
        assert!(family.left().contains(&(child.id() as i32)));
        assert!(!family.wait(Duration::from_millis(50)));
        assert!(family.wait(Duration::from_secs(30)));
        child.wait().unwrap();
    }

    #[test]
    fn processes_are_read_from_both_tables() {
        let stat = "7 (a) b (c) S 3 7 5 0 -1 1 2 3 4 5 6 7 8 9 20 0 1 0 4711 9 9";
        let process = from_stat(stat).unwrap();
        let identity = |began: &str| Identity {
            pid: 7,
            began: began.to_owned(),
        };
        assert_eq!(process.identity, identity("4711"));
        assert_eq!(
            (process.parent, process.group, process.session),
            (3, 7, Some(5))
        );
        assert!(!process.is_over);

        let process = from_ps("  7  3 7 Z+   Wed Nov 25 07:46:53 2026").unwrap();
        assert_eq!(process.identity, identity("Wed Nov 25 07:46:53 2026"));
        assert!(process.is_over);
        assert_eq!((process.parent, process.group), (3, 7));
    }
}
