//! Runs commands, and ends those that are cut short before anything else goes on.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ending::{self, Family};
use super::interrupts::{CHECK_INTERVAL, Interrupts};
use super::privilege::Privilege;
use super::root::Root;
use super::{Authority, Command, CommandError, Output};
use crate::bastion::failure::Interrupted;

/// How long a command that cannot be ended may take to its own end.
const OWN_END_LIMIT: Duration = Duration::from_secs(120);
/// How many commands run at once, at most.
const SIDE_BY_SIDE: usize = 8;
/// How long root may take to send a signal.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// Why a command is cut short.
enum Reason {
    Interrupted(Interrupted),
    Timeout,
}

pub struct Runner {
    root: Root,
    interrupts: Arc<Interrupts>,
}

impl Runner {
    pub fn new(root: Root, interrupts: Arc<Interrupts>) -> Self {
        Runner { root, interrupts }
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Runs commands to their ends, some side by side, and tells how each ended and what it took. One that is
    /// cut short is over when that is told, and so is all that it started; where that cannot be brought about,
    /// the error says so.
    pub fn run(
        &self,
        commands: &[Command],
        mut ended: impl FnMut(&Command, Result<Output, CommandError>, Duration),
    ) {
        for some in commands.chunks(SIDE_BY_SIDE) {
            let started = some
                .iter()
                .map(|command| (command, Instant::now(), self.start(command)))
                .collect::<Vec<_>>();
            for (command, begun, handle) in started {
                let result = handle.and_then(|handle| self.wait(command, &handle, begun));
                ended(command, result, begun.elapsed());
            }
        }
    }

    fn wait(
        &self,
        command: &Command,
        handle: &duct::Handle,
        begun: Instant,
    ) -> Result<Output, CommandError> {
        let deadline = begun + command.timeout;
        loop {
            let next_look = deadline.min(Instant::now() + CHECK_INTERVAL);
            if let Some(output) = finished(command, handle, next_look)? {
                if !command.atomic && !output.success() {
                    // What stops all processes of a session stops the command as well, and then it is
                    // not the command that failed.
                    self.interrupts.check()?;
                }
                return Ok(output);
            }
            if !command.atomic
                && let Err(interrupted) = self.interrupts.check()
            {
                return Err(self.cut_short(command, handle, Reason::Interrupted(interrupted)));
            }
            if Instant::now() >= deadline {
                return Err(self.cut_short(command, handle, Reason::Timeout));
            }
        }
    }

    fn start(&self, command: &Command) -> Result<duct::Handle, CommandError> {
        let started = match command.authority {
            Authority::Root => self.root.start(command),
            Authority::User => Privilege::None.start(command, |_| None),
        };
        let words = started.words;
        let mut expression = duct::cmd(&words[0], &words[1..]).unchecked();
        expression = match started.input {
            nothing if nothing.is_empty() => expression.stdin_null(),
            input => expression.stdin_bytes(input),
        };
        expression = match &command.said_to {
            None => expression.stdout_capture().stderr_capture(),
            Some(file) => expression.stdout_null().stderr_path(file),
        };
        for (name, value) in &command.env {
            expression = expression.env(name, value);
        }
        if words[0] != command.program {
            // What sudo itself says is shown in this program's language.
            expression = expression.env("LC_ALL", "C");
        }
        expression
            // A group of its own: Ctrl-C on the terminal does not reach it, and all that it starts can be
            // ended with it.
            .before_spawn(|child| {
                child.process_group(0);
                Ok(())
            })
            .start()
            .map_err(|cause| start_error(command, cause))
    }

    fn cut_short(&self, command: &Command, handle: &duct::Handle, reason: Reason) -> CommandError {
        let send_as_root = |signal, to: &[i32]| self.send_as_root(signal, to);
        for &leader in &handle.pids() {
            let mut family = Family::of(leader);
            if !family.end(&send_as_root) && !family.wait(OWN_END_LIMIT) {
                let left: Vec<String> = family.left().iter().map(i32::to_string).collect();
                return CommandError::StillRuns {
                    command: self.shown(command),
                    processes: left.join(", "),
                };
            }
        }
        // Nothing is left to wait for but its status; a failure to get it changes nothing.
        let _ = handle.wait_deadline(Instant::now() + CHECK_INTERVAL);
        match reason {
            Reason::Interrupted(interrupted) => interrupted.into(),
            Reason::Timeout => CommandError::Timeout {
                command: self.shown(command),
                timeout: command.timeout,
            },
        }
    }

    fn shown(&self, command: &Command) -> String {
        self.root.privilege().shown(command, |_| None)
    }

    /// Whether it arrives is seen by who is left.
    fn send_as_root(&self, signal: Signal, to: &[i32]) {
        let kill = Command::new("kill")
            .args(ending::arguments(signal, to))
            .with_authority(Authority::Root);
        if !self.root.uses_sudo_or_doas() || self.succeeds(&kill) {
            return;
        }
        let mut questions = self.root.silent_questions().into_iter();
        if questions.any(|question| self.succeeds(&question)) {
            return;
        }
        // The password was forgotten while the command ran.
        if self.root.ask_for_password("Ending the command") {
            self.succeeds(&kill);
        }
    }

    /// For commands of a moment, within the ending of another one.
    fn succeeds(&self, command: &Command) -> bool {
        self.start(command).is_ok_and(|handle| {
            let ended = finished(command, &handle, Instant::now() + SIGNAL_LIMIT);
            matches!(ended, Ok(Some(output)) if output.success())
        })
    }
}

fn finished(
    command: &Command,
    handle: &duct::Handle,
    deadline: Instant,
) -> Result<Option<Output>, CommandError> {
    let output = handle
        .wait_deadline(deadline)
        .map_err(|cause| start_error(command, cause))?;
    Ok(output.map(|output| Output {
        status: exit_status(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }))
}

fn start_error(command: &Command, cause: std::io::Error) -> CommandError {
    CommandError::Start {
        command: command.to_string(),
        cause,
    }
}

fn exit_status(status: std::process::ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}
