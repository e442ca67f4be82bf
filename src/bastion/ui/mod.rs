//! What the person sees: a screen that moves, plain lines without a terminal, or one JSON object for
//! each event on standard output. One file each; [`Ui`] is what the rest of the program talks to.
//!
//! Only what was asked for goes to standard output; everything that accompanies a run goes to
//! standard error. A terminal that was closed must not end a run, so failures to write are ignored.

mod json;
mod live;
mod look;
mod plain;
mod step;
mod terminal;
pub mod text;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

pub use live::Live;
pub use look::Look;
pub use step::{Outcome, PlannedStep};

use super::failure::{Exit, OneLine, advice_of};
use super::host::as_callable;
use super::receipt::StepName;

/// One way to show a run.
trait Screen {
    /// A remark that accompanies the run.
    fn note(&self, text: &str);
    /// What the person has to run from now on, on standard output.
    fn command_to_run(&self, introduction: &str, commands: &[String]) {
        self.note(introduction);
        for command in commands {
            print(&format!("\n  {command}"));
        }
        self.note("");
    }
    /// What is about to be done.
    fn plan(&self, introduction: &str, steps: &[PlannedStep], with_commands: bool);
    /// A step begins.
    fn step_begins(&self, name: StepName, summary: &str);
    /// What the running step is about to do.
    fn progress(&self, text: &str);
    /// How far a download of the running step has come, in bytes.
    fn download(&self, what: &str, done: u64, total: u64);
    /// A step came to its end, or failed where there is no outcome.
    fn step_ends(&self, name: StepName, outcome: Option<&Outcome>, took: Duration);
    /// The person has to act somewhere else.
    fn return_to_browser(&self, display_name: &str, wait: Duration);
    /// Commands that are good to know from now on, each with what it is for.
    fn commands_to_know(&self, commands: &[(&str, String)]);
    /// The end of a run that did what it was asked for.
    fn finished(&self, summary: &[String], data: serde_json::Value);
    /// The end of a run that did not.
    fn failed(&self, end: &BadEnd);
    /// A command ran.
    fn trace(&self, command: &str, outcome: &str);
}

/// How a run ended that did not do what it was asked for.
struct BadEnd<'a> {
    message: &'a str,
    advice: Option<String>,
    log: Option<&'a Path>,
    exit: Exit,
}

impl BadEnd<'_> {
    fn title(&self) -> &'static str {
        if self.exit == Exit::Interrupted {
            "stopped"
        } else {
            "error"
        }
    }
}

/// What the person sees.
pub struct Ui {
    screen: Box<dyn Screen>,
    is_json: bool,
    own_name: String,
}

/// A step that is being shown as running.
pub struct RunningStep {
    name: StepName,
    begun: Instant,
}

impl Ui {
    /// Lines, or JSON: for whoever is no person at a terminal.
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let look = Look {
            is_terminal: false,
            has_colors: !no_color,
            signs: text::UNICODE,
        };
        Self::with_look(look, json, quiet)
    }

    /// Chooses by what was asked for and by what the screen can do.
    pub fn with_look(look: Look, json: bool, quiet: bool) -> Self {
        console::set_colors_enabled(look.has_colors);
        console::set_colors_enabled_stderr(look.has_colors);
        let screen: Box<dyn Screen> = if json {
            Box::new(json::Json)
        } else if look.is_terminal && !quiet {
            Box::new(terminal::Terminal::new(look.signs))
        } else {
            Box::new(plain::Plain {
                quiet,
                signs: look.signs,
            })
        };
        Ui {
            screen,
            is_json: json,
            own_name: "holistics-tunnel".to_owned(),
        }
    }

    /// The same, where the program is called so.
    pub fn called(self, own_name: String) -> Self {
        Ui { own_name, ..self }
    }

    /// Whether events are shown as JSON.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// A remark that accompanies the run.
    pub fn note(&self, text: &str) {
        self.screen.note(text);
    }

    /// What the person has to run from now on. It is part of what was asked for, so it goes to
    /// standard output, and `--quiet` does not leave it out.
    pub fn command_to_run(&self, introduction: &str, commands: &[String]) {
        self.screen.command_to_run(introduction, commands);
    }

    /// The plan, before the question whether to go on; with every command where that is all that
    /// was asked for.
    pub fn plan(&self, introduction: &str, steps: &[PlannedStep], with_commands: bool) {
        self.screen.plan(introduction, steps, with_commands);
    }

    /// A step begins.
    pub fn step_begins(&self, name: StepName, summary: &str) -> RunningStep {
        self.screen.step_begins(name, summary);
        RunningStep {
            name,
            begun: Instant::now(),
        }
    }

    /// What the running step is about to do, where it takes more than a moment.
    pub fn progress(&self, text: &str) {
        self.screen.progress(text);
    }

    /// How far a download of the running step has come, in bytes.
    pub fn download(&self, what: &str, done: u64, total: u64) {
        self.screen.download(what, done, total);
    }

    /// A step came to its end.
    pub fn step_ends(&self, running: RunningStep, outcome: &Outcome) {
        let took = running.begun.elapsed();
        self.screen.step_ends(running.name, Some(outcome), took);
    }

    /// A step failed. The error itself is shown at the end of the run.
    pub fn step_fails(&self, running: RunningStep) {
        let took = running.begun.elapsed();
        self.screen.step_ends(running.name, None, took);
    }

    /// The moment at which the person has to act somewhere else.
    pub fn return_to_browser(&self, display_name: &str, wait: Duration) {
        self.screen.return_to_browser(display_name, wait);
    }

    /// Commands that are good to know from now on, each with what it is for.
    pub fn commands_to_know(&self, commands: &[(&str, String)]) {
        self.screen.commands_to_know(commands);
    }

    /// The end of a run that did what it was asked for.
    pub fn finished(&self, summary: &[String], data: serde_json::Value) {
        self.screen.finished(summary, data);
    }

    /// The end of a run that did not; with its log, if there is one.
    pub fn failed(&self, error: &anyhow::Error, exit: Exit, log: Option<&Path>) {
        self.screen.failed(&BadEnd {
            message: &OneLine(error).to_string(),
            advice: advice_of(error).map(|advice| as_callable(advice, &self.own_name)),
            log,
            exit,
        });
    }

    /// A command ran, and ended like this.
    pub fn trace(&self, command: &str, outcome: &str) {
        self.screen.trace(command, outcome);
    }
}

/// Writes what was asked for to standard output.
pub fn print(text: &str) {
    // A reader that has seen enough is no failure.
    let _ = try_print(text);
}

/// The same for what has no end of its own.
///
/// # Errors
/// Nobody reads any more.
pub fn try_print(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{text}")
}

fn write_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
