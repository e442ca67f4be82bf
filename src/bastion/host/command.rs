//! A command as data: what to run, with what rights and for how long. Running it is the host's job.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Authority, Privilege};

/// How long a command may take unless it says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program, looked up on the host's PATH.
    pub program: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub authority: Authority,
    /// After this time it is ended and counts as failed.
    pub timeout: Duration,
    /// Whether an interrupt waits for its end. True for what leaves a host half-changed when it is
    /// cut short, such as a package manager.
    pub atomic: bool,
    /// Whether it fetches something, and needs the proxies of this program's environment.
    pub downloads: bool,
    /// Whether all that it says stands in the run's log, whatever its status.
    pub logged: bool,
    /// Whether it says the same whenever it is asked within a run, so that it is asked once.
    pub constant: bool,
    /// Where its output goes, in place of [`Output`]. For what leaves a process in the background
    /// that may keep its outputs open: the end of a pipe would come with that process's end.
    pub said_to: Option<PathBuf>,
}

impl Command {
    /// A command without arguments, run as the user.
    pub fn new(program: impl Into<String>) -> Self {
        Command {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            authority: Authority::User,
            timeout: DEFAULT_TIMEOUT,
            atomic: false,
            downloads: false,
            logged: false,
            constant: false,
            said_to: None,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn path(self, path: &Path) -> Self {
        self.arg(path.to_string_lossy())
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn with_authority(mut self, authority: Authority) -> Self {
        self.authority = authority;
        self
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Lets an interrupt wait for its end.
    #[must_use]
    pub fn atomic(mut self) -> Self {
        self.atomic = true;
        self
    }

    /// Gives it the proxies of this program's environment, whatever rights it has.
    #[must_use]
    pub fn downloads(mut self) -> Self {
        self.downloads = true;
        self
    }

    /// Has all that it says in the run's log.
    #[must_use]
    pub fn logged(mut self) -> Self {
        self.logged = true;
        self
    }

    /// Has it run once: it says the same for the whole run.
    #[must_use]
    pub fn constant(mut self) -> Self {
        self.constant = true;
        self
    }

    /// Sends its output to a file.
    #[must_use]
    pub fn said_to(mut self, file: &Path) -> Self {
        self.said_to = Some(file.to_owned());
        self
    }

    pub fn words(&self) -> Vec<&str> {
        std::iter::once(self.program.as_str())
            .chain(self.args.iter().map(String::as_str))
            .collect()
    }
}

/// As it is shown on most hosts; [`HostExt::shown`](super::HostExt::shown) knows this one.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Privilege::Sudo.shown(self, |_| None))
    }
}

/// What a command that ran left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 + the signal's number if a signal ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.status == 0
    }
}

/// A command that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("`{command}` could not be started: {cause}")]
    Start {
        command: String,
        cause: std::io::Error,
    },
    #[error("`{command}` did not end within {} s and was ended", timeout.as_secs())]
    Timeout { command: String, timeout: Duration },
    /// It was cut short, could not be ended, and did not end by itself. Nothing may be undone beneath it.
    #[error("`{command}` could not be ended and still runs (process {processes})")]
    StillRuns {
        command: String,
        /// The numbers of its processes.
        processes: String,
    },
    #[error("`{command}` ended with status {status}{}", tail(stderr, stdout))]
    Status {
        command: String,
        status: i32,
        stderr: String,
        stdout: String,
    },
    /// The run was interrupted while it ran; it was ended.
    #[error("interrupted")]
    Interrupted(#[from] crate::bastion::failure::Interrupted),
}

impl CommandError {
    /// Whether it goes for the run, and not only for this command: nothing else may be tried in its place.
    pub fn stops_the_run(&self) -> bool {
        matches!(
            self,
            CommandError::Interrupted(_) | CommandError::StillRuns { .. }
        )
    }
}

/// Whether an error comes from a command that still runs.
pub fn still_runs(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<CommandError>();
        matches!(cause, Some(CommandError::StillRuns { .. }))
    })
}

/// The end of what a failed command said: of its standard error, or else of its standard output.
fn tail(stderr: &str, stdout: &str) -> String {
    end_of(if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    })
}

/// The last lines of an output, below the line that names the command.
fn end_of(output: &str) -> String {
    below(&last_lines(output))
}

/// These lines, below the line that names the command.
pub fn below(lines: &[&str]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!(":\n    {}", lines.join("\n    "))
}

/// The last lines of an output that say something.
pub fn last_lines(output: &str) -> Vec<&str> {
    const LINES: usize = 6;
    let lines = output.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}
