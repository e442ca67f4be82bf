//! What the person sees: a screen that moves, plain lines without a terminal, or one JSON object for
//! each event on standard output. One file each; [`Ui`] is what the rest of the program talks to.
//!
//! Only what was asked for goes to standard output; everything that accompanies a run goes to
//! standard error. A terminal that was closed must not end a run, so failures to write are ignored.

mod event;
mod json;
mod live;
mod plain;
mod style;
mod terminal;
pub mod text;

use std::io::Write;
use std::path::Path;

pub use event::{Event, Outcome, PlannedStep, StepProgress};
pub use live::Live;
pub use style::Style;

use super::failure::{Exit, OneLine, advice_of};
use super::host::as_callable;

/// One way to show a run.
trait Screen {
    fn show(&self, event: &Event);
}

pub struct Ui {
    screen: Box<dyn Screen>,
    own_name: String,
}

impl Ui {
    /// Lines, or JSON: for whoever is no person at a terminal.
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let style = Style {
            is_terminal: false,
            has_colors: !no_color,
            signs: text::UNICODE,
        };
        Self::with_style(style, json, quiet)
    }

    /// Chooses by what was asked for and by what the screen can do.
    pub fn with_style(style: Style, json: bool, quiet: bool) -> Self {
        console::set_colors_enabled(style.has_colors);
        console::set_colors_enabled_stderr(style.has_colors);
        let screen: Box<dyn Screen> = if json {
            Box::new(json::Json)
        } else if style.is_terminal && !quiet {
            Box::new(terminal::Terminal::new(style.signs))
        } else {
            Box::new(plain::Plain {
                quiet,
                signs: style.signs,
            })
        };
        Ui {
            screen,
            own_name: "holistics-tunnel".to_owned(),
        }
    }

    /// The same, where the program is called so.
    pub fn called(self, own_name: String) -> Self {
        Ui { own_name, ..self }
    }

    pub fn show(&self, event: &Event) {
        self.screen.show(event);
    }

    /// A remark that accompanies the run.
    pub fn note(&self, text: &str) {
        self.show(&Event::Note { text });
    }

    /// What the running step is about to do, where it takes more than a moment.
    pub fn progress(&self, text: &str) {
        self.show(&Event::Progress { text });
    }

    /// The end of a run that did what it was asked for.
    pub fn finished(&self, summary: &[String], result: serde_json::Value) {
        self.show(&Event::Finished { summary, result });
    }

    /// The end of a run that did not; with its log, if there is one.
    pub fn failed(&self, error: &anyhow::Error, exit: Exit, log: Option<&Path>) {
        let next = advice_of(error).map(|advice| as_callable(advice, &self.own_name));
        self.show(&Event::Failed {
            error: &OneLine(error).to_string(),
            next: next.as_deref(),
            exit,
            log,
        });
    }
}

/// How the end of a run that failed is headed.
fn title(exit: Exit) -> &'static str {
    match exit {
        Exit::Interrupted => "stopped",
        _ => "error",
    }
}

/// Writes what was asked for to standard output.
pub fn print(text: &str) {
    // A reader that has seen enough is no failure.
    let _ = try_print(text);
}

/// The same for what has no end of its own.
pub fn try_print(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{text}")
}

fn write_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
