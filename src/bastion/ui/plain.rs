//! Lines without a terminal, for a log, a pipe, or a terminal that cannot move its cursor.

use std::time::Duration;

use super::text::Signs;
use super::{BadEnd, Outcome, PlannedStep, Screen, write_line};
use crate::bastion::receipt::StepName;

/// Shows a run as plain lines.
pub(super) struct Plain {
    /// Whether only errors are shown.
    pub quiet: bool,
    pub signs: Signs,
}

impl Plain {
    fn say(&self, text: &str) {
        if !self.quiet {
            write_line(text);
        }
    }
}

impl Screen for Plain {
    fn note(&self, text: &str) {
        self.say(text);
    }

    fn plan(&self, introduction: &str, steps: &[PlannedStep], with_commands: bool) {
        self.say(introduction);
        for (number, step) in steps.iter().enumerate() {
            self.say(&format!("  {}. {}", number + 1, step.summary));
            for command in step.commands.iter().filter(|_| with_commands) {
                self.say(&format!("       {command}"));
            }
        }
    }

    fn step_begins(&self, _: StepName, _: &str) {}

    fn progress(&self, text: &str) {
        self.say(&format!("  {text}"));
    }

    fn download(&self, _: &str, _: u64, _: u64) {}

    fn step_ends(&self, name: StepName, outcome: Option<&Outcome>, took: Duration) {
        let (sign, detail) = match outcome {
            Some(Outcome::Changed(detail)) => (self.signs.done, detail.as_str()),
            Some(Outcome::AlreadyPresent(detail)) => (self.signs.unchanged, detail.as_str()),
            None => (self.signs.failed, "failed"),
        };
        self.say(&format!(
            "{sign} {:<17} {detail} ({:.1} s)",
            name.as_str(),
            took.as_secs_f64()
        ));
    }

    fn return_to_browser(&self, display_name: &str, wait: Duration) {
        let minutes = wait.as_secs().div_ceil(60);
        self.say("");
        self.say("Return to your browser.");
        self.say(&format!(
            "The tunnel is up. Enter the database's name and login, test the connection, and save \
             {display_name:?}."
        ));
        self.say(&format!(
            "Waiting for that, at most {minutes} min. Ctrl-C stops here; the same command goes on later."
        ));
        self.say("");
    }

    fn commands_to_know(&self, commands: &[(&str, String)]) {
        for (purpose, command) in commands {
            self.say(&format!("  {purpose:<18} {command}"));
        }
    }

    fn finished(&self, summary: &[String], _: serde_json::Value) {
        for line in summary {
            self.say(line);
        }
    }

    fn failed(&self, end: &BadEnd) {
        write_line(&format!("{}: {}", end.title(), end.message));
        if let Some(advice) = &end.advice {
            write_line(&format!("next: {advice}"));
        }
        if let Some(log) = end.log {
            write_line(&format!("log: {}", log.display()));
        }
    }

    fn trace(&self, command: &str, outcome: &str) {
        write_line(&format!("+ {command} {} {outcome}", self.signs.arrow));
    }
}
