//! Runs commands, and ends those that are cut short before anything else goes on.

use std::cell::RefCell;
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
/// How many may be begun before they are run.
const AHEAD: usize = 32;
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
    /// What was begun and is yet to be run.
    begun: RefCell<Vec<Begun>>,
}

/// What was begun and not run is over before this program is.
impl Drop for Runner {
    fn drop(&mut self) {
        for begun in self.begun.take() {
            // Nobody needs to know any more how it ended.
            let _ = self.wait(begun);
        }
    }
}

/// A command that was started.
struct Begun {
    command: Command,
    at: Instant,
    handle: Result<duct::Handle, CommandError>,
}

impl Runner {
    pub fn new(root: Root, interrupts: Arc<Interrupts>) -> Self {
        Runner {
            root,
            interrupts,
            begun: RefCell::default(),
        }
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Starts commands that are run later: each of them is waited for then. What was begun already is not begun twice.
    pub fn begin(&self, commands: &[Command]) {
        let mut begun = self.begun.borrow_mut();
        for command in commands {
            if begun.len() < AHEAD && begun.iter().all(|begun| begun.command != *command) {
                begun.push(self.start(command));
            }
        }
    }

    /// Waits for the end of those of these that were begun and not run.
    pub fn end_begun(&self, commands: &[Command]) -> Result<(), CommandError> {
        let left = commands.iter().filter_map(|command| self.begun(command));
        // All of them, whatever comes of the first.
        let ends: Vec<_> = left.map(|begun| self.wait(begun)).collect();
        let mut failures = ends.into_iter().filter_map(Result::err);
        let stop = failures.find(CommandError::stops_the_run);
        stop.map_or(Ok(()), Err)
    }

    fn begun(&self, command: &Command) -> Option<Begun> {
        let mut begun = self.begun.borrow_mut();
        let place = begun.iter().position(|begun| begun.command == *command)?;
        Some(begun.remove(place))
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
            let begun = some
                .iter()
                .map(|command| self.begun(command).unwrap_or_else(|| self.start(command)))
                .collect::<Vec<_>>();
            for (command, begun) in some.iter().zip(begun) {
                let at = begun.at;
                ended(command, self.wait(begun), at.elapsed());
            }
        }
    }

    fn wait(&self, begun: Begun) -> Result<Output, CommandError> {
        let (command, handle) = (&begun.command, &begun.handle?);
        let deadline = begun.at + command.timeout;
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

    fn start(&self, command: &Command) -> Begun {
        Begun {
            command: command.clone(),
            at: Instant::now(),
            handle: self.spawn(command),
        }
    }

    fn spawn(&self, command: &Command) -> Result<duct::Handle, CommandError> {
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
        self.spawn(command).is_ok_and(|handle| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::User;

    fn runner() -> Runner {
        Runner::new(Root::find(&User::default()), Arc::default())
    }

    fn shell(line: &str) -> Command {
        Command::new("sh").args(["-c", line])
    }

    #[test]
    fn a_command_that_was_begun_runs_once_and_beside_what_is_run_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let [begun, waited_for] = ["begun", "over"].map(|name| folder.path().join(name));
        let [there, over] = [&begun, &waited_for].map(|path| path.display().to_string());
        // It comes to its end only once the other one has.
        let slow = shell(&format!(
            "echo x >> {there}; until [ -e {over} ]; do sleep 0.01; done; cat {there}"
        ));
        let other = shell(&format!(
            "until [ -e {there} ]; do sleep 0.01; done; touch {over}"
        ));
        let runner = runner();
        // Also by two who need it.
        runner.begin(&[slow.clone(), slow.clone()]);
        let mut said = Vec::new();
        for command in [other, slow] {
            runner.run(&[command], |_, result, _| said.push(result.unwrap().stdout));
        }
        assert_eq!(said, ["", "x\n"]);
    }

    #[test]
    fn nothing_that_was_begun_runs_on_once_it_is_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let end = folder.path().join("end");
        let command = shell(&format!("sleep 0.2; touch {}", end.display()));
        let runner = runner();
        runner.begin(std::slice::from_ref(&command));
        runner.end_begun(&[command]).unwrap();
        assert!(end.exists());
    }
}
