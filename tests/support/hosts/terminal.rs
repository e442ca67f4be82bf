//! Somebody in front of a host.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::time::Duration;

use crate::support::process::{Finished, Running};

/// A program at a terminal, and the hands of its user.
pub struct Terminal {
    program: Running,
    keyboard: ChildStdin,
}

impl Terminal {
    /// Starts a command that makes itself a terminal and passes on what it reads.
    pub fn start(command: &mut Command, logs: &Path, name: &str) -> Self {
        let (program, keyboard) = Running::start_with_input(command, logs, name);
        Terminal { program, keyboard }
    }

    /// What happens on the screen.
    pub fn program(&self) -> &Running {
        &self.program
    }

    /// Types this, and then Enter.
    pub fn enter(&mut self, line: &str) {
        self.press(&format!("{line}\r"));
    }

    /// Presses Ctrl-C: the terminal interrupts all that runs in its foreground.
    pub fn press_ctrl_c(&mut self) {
        self.press("\x03");
    }

    /// Waits until the program ends.
    #[track_caller]
    pub fn wait(self, limit: Duration) -> Finished {
        // The keyboard stays plugged in until then: its end would be another key.
        self.program.wait(limit)
    }

    fn press(&mut self, keys: &str) {
        let pressed = self.keyboard.write_all(keys.as_bytes());
        pressed.expect("the terminal listens");
    }
}
