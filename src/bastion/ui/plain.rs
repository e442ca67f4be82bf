//! Lines without a terminal, for a log, a pipe, or a terminal that cannot move its cursor.

use super::event::{Event, StepProgress};
use super::text::Signs;
use super::{Screen, print, title, write_line};

pub(super) struct Plain {
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
    fn show(&self, event: &Event) {
        match event {
            Event::Note { text } => self.say(text),
            Event::Command {
                introduction,
                commands,
            } => {
                self.say(introduction);
                for command in *commands {
                    print(&format!("\n  {command}"));
                }
                self.say("");
            }
            Event::Plan {
                introduction,
                steps,
                with_commands,
            } => {
                self.say(introduction);
                for (number, step) in steps.iter().enumerate() {
                    self.say(&format!("  {}. {}", number + 1, step.summary));
                    for command in step.commands.iter().filter(|_| *with_commands) {
                        self.say(&format!("       {command}"));
                    }
                }
            }
            Event::Proofs(proofs) => {
                for line in proofs.lines(self.signs.done) {
                    self.say(&line);
                }
            }
            Event::Download { .. } => {}
            Event::Step { name, state } => {
                let (sign, detail, seconds) = match state {
                    StepProgress::Started { .. } => return,
                    StepProgress::Done { detail, seconds } => (self.signs.done, *detail, seconds),
                    StepProgress::Unchanged { detail, seconds } => {
                        (self.signs.unchanged, *detail, seconds)
                    }
                    StepProgress::Failed { seconds } => (self.signs.failed, "failed", seconds),
                };
                self.say(&format!("{sign} {name:<17} {detail} ({seconds:.1} s)"));
            }
            Event::Progress { text } => self.say(&format!("  {text}")),
            Event::Waiting {
                at_most,
                display_name,
                ..
            } => {
                let minutes = at_most.as_secs().div_ceil(60);
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
            Event::CommandsToKnow(commands) => {
                for (purpose, command) in *commands {
                    self.say(&format!("  {purpose:<18} {command}"));
                }
            }
            Event::Finished { summary, .. } => {
                for line in *summary {
                    self.say(line);
                }
            }
            Event::Failed {
                error,
                next,
                exit,
                log,
            } => {
                write_line(&format!("{}: {error}", title(*exit)));
                if let Some(next) = next {
                    write_line(&format!("next: {next}"));
                }
                if let Some(log) = log {
                    write_line(&format!("log: {}", log.display()));
                }
            }
            Event::Trace { command, outcome } => {
                write_line(&format!("+ {command} {} {outcome}", self.signs.arrow));
            }
        }
    }
}
