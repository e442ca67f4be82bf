//! Questions on the terminal.
//!
//! They go to the terminal itself: standard input may be the pipe through which a script came. Each is
//! asked on a thread of its own, since a signal does not end the wait for a key; the terminal is put
//! back as it was, however a question ends.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use console::Term;
use dialoguer::{Confirm, Input, Password, Select};
use nix::sys::termios::{self, SetArg, Termios};

use super::interrupts::aside;
use crate::bastion::failure::Interrupted;

/// How long the signal of a terminal that was closed may take after its last read has failed.
const HANGUP_GRACE: Duration = Duration::from_millis(250);

/// The terminal of this process.
pub struct Terminal<'a> {
    device: File,
    former: Option<Termios>,
    /// Whether the run was interrupted while a question waits for its answer.
    interrupted: &'a dyn Fn() -> Result<(), Interrupted>,
}

impl<'a> Terminal<'a> {
    /// The terminal, if this process has one and what it says can be seen there.
    pub fn open(interrupted: &'a dyn Fn() -> Result<(), Interrupted>) -> Option<Self> {
        let device = device()?;
        let former = termios::tcgetattr(device.as_fd()).ok();
        Some(Terminal {
            device,
            former,
            interrupted,
        })
    }

    pub fn yes_or_no(&self, question: &str, default: bool) -> anyhow::Result<bool> {
        let question = question.to_owned();
        let answer = self.ask(move |term| {
            Confirm::new()
                .with_prompt(question)
                .default(default)
                .show_default(true)
                .interact_on_opt(term)
        })?;
        Ok(answer.unwrap_or(false))
    }

    /// A line of text; a secret one is not shown.
    pub fn line(&self, question: &str, secret: bool) -> anyhow::Result<String> {
        let question = question.to_owned();
        self.ask(move |term| {
            if secret {
                Password::new().with_prompt(question).interact_on(term)
            } else {
                Input::new().with_prompt(question).interact_text_on(term)
            }
        })
    }

    /// One of several, by its place; nothing if the person wants none.
    pub fn choice(&self, question: &str, choices: &[String]) -> anyhow::Result<Option<usize>> {
        let (question, choices) = (question.to_owned(), choices.to_vec());
        self.ask(move |term| {
            Select::new()
                .with_prompt(question)
                .items(choices)
                .default(0)
                .interact_on_opt(term)
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Term) -> dialoguer::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let answer = aside(move || question(&Term::stderr()), self.interrupted);
        self.restore();
        let answer = answer?.context("the question ended without an answer")?;
        if answer.is_err() {
            // Ctrl-C, or a terminal that was closed, is an error here and a signal at about the same time.
            std::thread::sleep(HANGUP_GRACE);
        }
        (self.interrupted)()?;
        match answer {
            Err(dialoguer::Error::IO(error)) if error.kind() == io::ErrorKind::Interrupted => {
                Err(Interrupted.into())
            }
            answer => answer.context("the terminal cannot be read"),
        }
    }

    /// The terminal as it was before the question.
    fn restore(&self) {
        if let Some(former) = &self.former {
            // A terminal that is gone needs no care.
            let _ = termios::tcsetattr(self.device.as_fd(), SetArg::TCSADRAIN, former);
        }
        let _ = Term::stderr().show_cursor();
    }
}

fn device() -> Option<File> {
    let mut options = File::options();
    io::stderr()
        .is_terminal()
        .then(|| options.read(true).write(true).open("/dev/tty").ok())?
}

/// Says something right before a question that another program asks there.
pub fn say(text: &str) {
    if let Some(mut device) = device() {
        // Who cannot read it sees the question all the same.
        let _ = writeln!(device, "{text}");
    }
}

/// Whether a question can be asked.
pub fn is_there() -> bool {
    device().is_some()
}
