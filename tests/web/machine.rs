//! A machine on which a person sets a tunnel up by hand: OpenSSH, a shell, and what the page says.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

use crate::support::bastion::PATH;
use crate::support::process::{self, Finished, Running};
use crate::support::workspace::Workspace;

pub struct Machine {
    workspace: Workspace,
    runs: Cell<u32>,
}

impl Machine {
    pub fn new() -> Self {
        let workspace = Workspace::new();
        workspace.folder("home");
        Machine {
            workspace,
            runs: Cell::new(0),
        }
    }

    /// Types lines at a shell.
    pub fn types(&self, lines: &str) -> Finished {
        process::run(
            &mut self.shell(lines),
            self.workspace.path(),
            &self.next_run(),
        )
    }

    /// Types a line whose program stays.
    pub fn starts(&self, line: &str) -> Running {
        // A signal is for the program and not for a shell before it.
        let mut shell = self.shell(&format!("exec {line}"));
        Running::start(&mut shell, self.workspace.path(), &self.next_run())
    }

    /// A file of the machine.
    pub fn reads(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.file(name));
        text.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.workspace.path().join("home").join(name)
    }

    /// ssh takes the home folder from the list of users, where the tests' own user has another one.
    fn shell(&self, lines: &str) -> Command {
        let home = self.file("");
        let folder = self.file(".holistics");
        let lines = lines.replace("~/.holistics", folder.to_str().expect("a path in UTF-8"));
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &lines]).current_dir(&home);
        shell.env_clear().env("PATH", PATH).env("HOME", &home);
        shell
    }

    fn next_run(&self) -> String {
        self.runs.set(self.runs.get() + 1);
        format!("typed-{}", self.runs.get())
    }
}
