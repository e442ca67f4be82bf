//! What the person sees: lines on a terminal, plain lines without one, or one JSON object for each
//! event on standard output.
//!
//! Only what was asked for goes to standard output; everything that accompanies a run goes to
//! standard error. A terminal that was closed must not end a run, so failures to write are ignored.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::failure::{Exit, OneLine, advice_of};
use super::steps::{Outcome, Step, StepName};

const SPINNER_TICK: Duration = Duration::from_millis(100);

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Terminal,
    Plain,
    Json,
}

/// What the person sees.
pub struct Ui {
    mode: Mode,
    quiet: bool,
    /// The running step's, for what it reports in between.
    spinner: RefCell<Option<ProgressBar>>,
}

/// A step that is being shown as running.
pub struct RunningStep {
    name: StepName,
    begun: Instant,
    spinner: Option<ProgressBar>,
}

impl Ui {
    /// Chooses by what was asked for and by whether there is a terminal.
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        if no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            console::set_colors_enabled(false);
            console::set_colors_enabled_stderr(false);
        }
        let mode = if json {
            Mode::Json
        } else if std::io::stderr().is_terminal() {
            Mode::Terminal
        } else {
            Mode::Plain
        };
        Ui {
            mode,
            quiet,
            spinner: RefCell::default(),
        }
    }

    /// Whether events are shown as JSON.
    pub fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// A remark that accompanies the run.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Json => event(json!({"event": "note", "text": text})),
            _ => self.say(text),
        }
    }

    /// What the person has to run from now on. It is part of what was asked for, so it goes to
    /// standard output, and `--quiet` does not leave it out.
    pub fn command_to_run(&self, introduction: &str, commands: &[String]) {
        if self.is_json() {
            event(json!({"event": "command", "commands": commands}));
            return;
        }
        self.say(introduction);
        for command in commands {
            print(&format!("\n  {command}"));
        }
        self.say("");
    }

    /// The plan, before the question whether to go on; with every command where that is all that
    /// was asked for.
    pub fn plan(&self, introduction: &str, steps: &[Box<dyn Step>], with_commands: bool) {
        if self.is_json() {
            event(json!({"event": "plan", "steps": plan_json(steps)}));
            return;
        }
        self.say(introduction);
        for (number, step) in steps.iter().enumerate() {
            self.say(&format!("  {}. {}", number + 1, step.summary()));
            for command in step.commands().iter().filter(|_| with_commands) {
                self.say(&format!("       {command}"));
            }
        }
    }

    /// A step begins.
    pub fn step_begins(&self, step: &dyn Step) -> RunningStep {
        let name = step.name();
        if self.is_json() {
            event(json!({"event": "step", "name": name, "state": "started"}));
        }
        // The wait has words of its own, which a spinner would overwrite.
        let spinner = (self.mode == Mode::Terminal && !self.quiet && name != StepName::WaitForSave)
            .then(|| spinner(&step.summary()));
        self.spinner.replace(spinner.clone());
        RunningStep {
            name,
            begun: Instant::now(),
            spinner,
        }
    }

    /// What the running step is about to do, where it takes more than a moment.
    pub fn progress(&self, text: &str) {
        match (self.mode, self.spinner.borrow().as_ref()) {
            (Mode::Json, _) => event(json!({"event": "progress", "text": text})),
            (_, Some(spinner)) => spinner.set_message(text.to_owned()),
            (_, None) => self.say(&format!("  {text}")),
        }
    }

    /// A step came to its end.
    pub fn step_ends(&self, running: RunningStep, outcome: &Outcome) {
        let seconds = running.begun.elapsed().as_secs_f64();
        clear(running.spinner);
        let (state, sign, detail) = match outcome {
            Outcome::Changed(detail) => ("done", style("✓").green(), detail),
            Outcome::AlreadyPresent(detail) => ("unchanged", style("=").dim(), detail),
        };
        let name = running.name.as_str();
        match self.mode {
            Mode::Json => event(json!({
                "event": "step", "name": name, "state": state, "detail": detail, "seconds": seconds,
            })),
            _ => self.say(&format!(
                "{} {name:<17} {detail} ({seconds:.1} s)",
                sign.for_stderr()
            )),
        }
    }

    /// A step failed. The error itself is shown at the end of the run.
    pub fn step_fails(&self, running: RunningStep) {
        let seconds = running.begun.elapsed().as_secs_f64();
        clear(running.spinner);
        let name = running.name.as_str();
        match self.mode {
            Mode::Json => event(json!({
                "event": "step", "name": name, "state": "failed", "seconds": seconds,
            })),
            _ => self.say(&format!(
                "{} {name:<17} failed ({seconds:.1} s)",
                style("✗").red().for_stderr()
            )),
        }
    }

    /// The moment at which the person has to act somewhere else.
    pub fn return_to_browser(&self, display_name: &str, wait: Duration) {
        let minutes = wait.as_secs().div_ceil(60);
        if self.is_json() {
            event(json!({"event": "waiting", "for": "save", "seconds": wait.as_secs()}));
            return;
        }
        self.say("");
        self.say(&format!(
            "{}",
            style("Return to your browser.").bold().for_stderr()
        ));
        self.say(&format!(
            "The tunnel is up. Enter the database's name and login, test the connection, and save \
             {display_name:?}."
        ));
        self.say(&format!(
            "Waiting for that, at most {minutes} min. Ctrl-C stops here; the same command goes on later."
        ));
        self.say("");
    }

    /// The end of a run that did what it was asked for.
    pub fn finished(&self, summary: &[String], data: serde_json::Value) {
        if self.is_json() {
            event(json!({"event": "finished", "result": data}));
            return;
        }
        for line in summary {
            self.say(line);
        }
    }

    /// The end of a run that did not.
    pub fn failed(&self, error: &anyhow::Error, exit: Exit) {
        let message = OneLine(error).to_string();
        let advice = advice_of(error);
        if self.is_json() {
            event(
                json!({"event": "failed", "error": message, "next": advice, "exit": exit as i32}),
            );
            return;
        }
        let title = if exit == Exit::Interrupted {
            "stopped"
        } else {
            "error"
        };
        write_line(&format!(
            "{}: {message}",
            style(title).red().bold().for_stderr()
        ));
        if let Some(advice) = advice {
            write_line(&format!("{}: {advice}", style("next").bold().for_stderr()));
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet && self.mode != Mode::Json {
            write_line(text);
        }
    }
}

/// A plan's steps as `plan --json` shows them.
pub fn plan_json(steps: &[Box<dyn Step>]) -> serde_json::Value {
    steps
        .iter()
        .map(|step| {
            json!({
                "name": step.name(),
                "summary": step.summary(),
                "commands": step.commands(),
            })
        })
        .collect()
}

/// Writes what was asked for to standard output.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn event(value: serde_json::Value) {
    print(&value.to_string());
}

fn write_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(SPINNER_TICK);
    bar
}

fn clear(spinner: Option<ProgressBar>) {
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
}
