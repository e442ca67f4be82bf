//! Programs, run to their end or in the background.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigHandler, SigSet};
use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// How long a program may take that has nothing to wait for.
pub const FOREGROUND_LIMIT: Duration = Duration::from_secs(60);

/// What a program left when it ended.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; a signal's number plus 128, as a shell has it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Both outputs.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The same, if it ended with this code.
    ///
    /// # Panics
    /// If it ended otherwise; with all it said.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "the exit code of\n{self}");
        self
    }

    /// The same, if its output, in any case of letters, holds every one of these.
    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Self {
        let output = self.output().to_lowercase();
        for word in words {
            let held = output.contains(&word.to_lowercase());
            assert!(held, "\"{word}\" is not in the output of\n{self}");
        }
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}) from\n{self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finished {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{command}\n--- exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---"
        )
    }
}

/// A program in the background. Dropped, it is killed.
pub struct Running {
    command: String,
    child: Mutex<Child>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Starts it, its outputs into `name.out` and `name.err` in `logs`.
    pub fn start(command: &mut Command, logs: &Path, name: &str) -> Self {
        Self::start_reading(Stdio::null(), command, logs, name)
    }

    /// The same for one that is told something meanwhile.
    pub fn start_with_input(command: &mut Command, logs: &Path, name: &str) -> (Self, ChildStdin) {
        let running = Self::start_reading(Stdio::piped(), command, logs, name);
        let input = running.child().stdin.take().expect("stdin is piped");
        (running, input)
    }

    fn start_reading(stdin: Stdio, command: &mut Command, logs: &Path, name: &str) -> Self {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        command
            .stdin(stdin)
            .stdout(File::create(&stdout).expect("a log file"))
            .stderr(File::create(&stderr).expect("a log file"));
        begin_as_after_a_login(command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Running {
            command: format!("{command:?}"),
            child: Mutex::new(child),
            stdout,
            stderr,
        }
    }

    /// What it has printed so far, on both outputs.
    pub fn output(&self) -> String {
        format!("{}{}", read(&self.stdout), read(&self.stderr))
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child());
        kill_process(pid, signal).expect("a signal to our own child");
    }

    /// Waits until `condition` holds, as something this program brings about.
    ///
    /// # Panics
    /// When the time is over, or if the program ends without it; with all it said.
    #[track_caller]
    pub fn wait_until(&self, what: &str, limit: Duration, condition: impl Fn() -> bool) {
        wait::until_true(
            what,
            limit,
            || self.output(),
            || {
                // In this order: what a program brings about may be its last act.
                let ended = !self.is_running();
                let holds = condition();
                assert!(holds || !ended, "ended before {what}:\n{}", self.output());
                holds
            },
        );
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str, limit: Duration) {
        let what = format!("{text:?} in the output of {}", self.command);
        self.wait_until(&what, limit, || self.output().contains(text));
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn wait(self, limit: Duration) -> Finished {
        let what = format!("the end of {}", self.command);
        let status = wait::until(&what, limit, || self.output(), || self.exit_status());
        Finished {
            command: self.command.clone(),
            code: shell_code(status),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        }
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("the state of a child")
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child().kill();
        let _ = self.child().wait();
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command, logs: &Path, name: &str) -> Finished {
    Running::start(command, logs, name).wait(FOREGROUND_LIMIT)
}

/// Signals that whoever starts the tests may ignore or hold back: a shell its background's SIGINT,
/// `nohup` SIGHUP. A shell script cannot even catch a signal that was ignored when it began.
const SIGNALS_OF_A_SESSION: [nix::sys::signal::Signal; 5] = [
    nix::sys::signal::SIGHUP,
    nix::sys::signal::SIGINT,
    nix::sys::signal::SIGQUIT,
    nix::sys::signal::SIGTERM,
    nix::sys::signal::SIGPIPE,
];

/// Lets a program begin as after a login, however the tests were started: in a session of its own, away
/// from a terminal at which nobody answers, with signals that end it.
pub fn begin_as_after_a_login(command: &mut Command) {
    let begin = || {
        rustix::process::setsid()?;
        for signal in SIGNALS_OF_A_SESSION {
            // SAFETY: no handler is put in place.
            unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
        }
        SigSet::all().thread_unblock()?;
        Ok(())
    };
    // SAFETY: these are system calls and nothing else, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(begin);
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

fn shell_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .expect("a code or a signal")
}

/// A process of this machine, as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The program's name, without its folder: `ssh`, `autossh`.
    pub name: String,
    /// Its arguments, joined by blanks.
    pub arguments: String,
}

/// The processes that have this path in their arguments or their environment.
pub fn naming(path: &Path) -> Vec<Process> {
    let path = path.to_str().expect("a path in UTF-8");
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid: &i32| pid != std::process::id() as i32)
        .filter_map(|pid| process_naming(pid, path))
        .collect()
}

fn process_naming(pid: i32, path: &str) -> Option<Process> {
    let arguments = proc_words(pid, "cmdline")?;
    let environment = proc_words(pid, "environ").unwrap_or_default();
    if !arguments.contains(path) && !environment.contains(path) {
        return None;
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Process {
        pid,
        name: name.trim().to_owned(),
        arguments,
    })
}

fn proc_words(pid: i32, file: &str) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// Where these processes wait for connections over a network, as the kernel's table has it.
pub fn listening(processes: &[Process]) -> Vec<String> {
    const LISTENS: &str = "0A";
    let table = |process: &Process, file: &str| {
        let table = std::fs::read_to_string(format!("/proc/{}/net/{file}", process.pid));
        table.unwrap_or_default()
    };
    let of_one = |process: &Process| -> Vec<String> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid));
        let open = open.into_iter().flatten().flatten();
        let sockets: Vec<String> = open
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.replace(']', "")))
            .collect();
        let lines = table(process, "tcp") + table(process, "tcp6").as_str();
        lines
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.get(3) == Some(&LISTENS))
            .filter(|words| {
                sockets
                    .iter()
                    .any(|socket| words.get(9) == Some(&&**socket))
            })
            .map(|words| format!("{} at {}", process.name, words[1]))
            .collect()
    };
    processes.iter().flat_map(of_one).collect()
}

/// Sends a process a signal; one that has ended already is no error.
pub fn signal(process: &Process, signal: Signal) {
    signal_pid(process.pid, signal);
}

/// The same by its number.
pub fn signal_pid(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process number is not zero");
    let _ = kill_process(pid, signal);
}

/// The numbers of a process's children, and of theirs.
pub fn descendants(pid: u32) -> Vec<i32> {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    let mut found = Vec::new();
    for child in children {
        found.push(child);
        found.extend(descendants(child as u32));
    }
    found
}

/// Kills the processes that have this path in their arguments or their environment.
pub fn kill_all_naming(path: &Path) {
    for process in naming(path) {
        signal(&process, Signal::KILL);
    }
}
