//! The screen of a terminal: what runs turns and counts, what is done stays as a line.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use console::{Term, measure_text_width, style};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::event::{Event, PlannedStep, StepProgress};
use super::text::{Signs, wrap};
use super::{Screen, print, title, write_line};
use crate::bastion::failure::Exit;
use crate::bastion::receipt::StepName;

const TICK: Duration = Duration::from_millis(100);
/// Text that is wider than this is hard to read.
const WIDEST: usize = 100;
/// A terminal that claims less does not know its width.
const NARROWEST: usize = 20;
const USUAL: usize = 80;
/// From this width on, what a step came to stands beside its name.
const WIDE_ENOUGH_FOR_COLUMNS: usize = 60;

pub(super) struct Terminal {
    signs: Signs,
    /// The spinner of the running step.
    bar: RefCell<Option<ProgressBar>>,
}

impl Terminal {
    pub fn new(signs: Signs) -> Self {
        Terminal {
            signs,
            bar: RefCell::default(),
        }
    }

    /// Writes lines above the spinner.
    fn say(&self, text: &str, indent: usize) {
        let write = || {
            for line in wrap(text, width(), indent) {
                write_line(&line);
            }
        };
        match self.bar.borrow().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn spin(&self, style: ProgressStyle, message: String) {
        self.clear();
        let bar = ProgressBar::new_spinner();
        bar.set_style(style.tick_strings(self.signs.spinner));
        bar.set_message(message);
        bar.enable_steady_tick(TICK);
        self.bar.replace(Some(bar));
    }

    fn clear(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn rule(&self) -> String {
        self.signs.rule.repeat(width().min(72))
    }
}

impl Screen for Terminal {
    fn show(&self, event: &Event) {
        match event {
            Event::Note { text } => self.say(text, 0),
            Event::Command {
                introduction,
                commands,
            } => self.command_to_run(introduction, commands),
            Event::Plan {
                introduction,
                steps,
                with_commands,
            } => self.plan(introduction, steps, *with_commands),
            Event::Proofs(proofs) => {
                for line in proofs.lines(self.signs.done) {
                    self.say(&line, 7);
                }
            }
            Event::Step { name, state } => self.step(*name, state),
            Event::Progress { text } => self.progress(text),
            Event::Download { what, bytes, total } => self.download(what, *bytes, *total),
            Event::Waiting {
                at_most,
                display_name,
                ..
            } => self.return_to_browser(display_name, *at_most),
            Event::CommandsToKnow(commands) => commands_to_know(commands),
            Event::Finished { summary, .. } => {
                for line in *summary {
                    let indent = line.len() - line.trim_start().len();
                    self.say(line, indent + 2);
                }
            }
            Event::Failed {
                error,
                next,
                exit,
                log,
            } => self.failed(error, *next, *exit, *log),
            Event::Trace { command, outcome } => {
                let line = format!("+ {command} {} {outcome}", self.signs.arrow);
                let write = || write_line(&line);
                match self.bar.borrow().as_ref() {
                    Some(bar) => bar.suspend(write),
                    None => write(),
                }
            }
        }
    }
}

impl Terminal {
    fn command_to_run(&self, introduction: &str, commands: &[String]) {
        // The spinner would be drawn into it, since the command goes to standard output.
        self.clear();
        self.say(introduction, 0);
        for command in commands {
            print(&format!("\n  {command}"));
        }
        self.say("", 0);
    }

    fn plan(&self, introduction: &str, steps: &[PlannedStep], with_commands: bool) {
        let title = concat!("holistics-tunnel ", env!("CARGO_PKG_VERSION"));
        self.say(&style(title).for_stderr().bold().to_string(), 0);
        self.say("", 0);
        self.say(introduction, 0);
        self.say("", 0);
        for (number, step) in steps.iter().enumerate() {
            self.say(&format!("{:>3}. {}", number + 1, step.summary), 5);
            for command in step.commands.iter().filter(|_| with_commands) {
                // Never broken, so that it can be copied.
                write_line(&format!("       {}", style(command).for_stderr().dim()));
            }
        }
        self.say("", 0);
    }

    fn progress(&self, text: &str) {
        match self.bar.borrow().as_ref() {
            Some(bar) => bar.set_message(text.to_owned()),
            None => write_line(text),
        }
    }

    fn download(&self, what: &str, done: u64, total: u64) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            if bar.length() != Some(total) {
                let style = template("{spinner} {msg} {wide_bar} {bytes}/{total_bytes}");
                let style = style.progress_chars(self.signs.bar);
                bar.set_style(style.tick_strings(self.signs.spinner));
                bar.set_length(total);
                bar.set_message(what.to_owned());
            }
            bar.set_position(done);
            if done >= total {
                let style = template("{spinner} {wide_msg} {elapsed}");
                bar.set_style(style.tick_strings(self.signs.spinner));
            }
        }
    }

    fn step(&self, name: StepName, state: &StepProgress) {
        let (sign, detail, seconds) = match state {
            StepProgress::Started { summary } => {
                let style = template("{spinner} {wide_msg} {elapsed}");
                return self.spin(style, format!("{name:<17} {summary}"));
            }
            StepProgress::Done { detail, seconds } => {
                (style(self.signs.done).green(), *detail, seconds)
            }
            StepProgress::Unchanged { detail, seconds } => {
                (style(self.signs.unchanged).dim(), *detail, seconds)
            }
            StepProgress::Failed { seconds } => (style(self.signs.failed).red(), "failed", seconds),
        };
        self.clear();
        let sign = sign.for_stderr();
        if width() >= WIDE_ENOUGH_FOR_COLUMNS {
            let line = Columns(
                format!("{sign} {name:<17} "),
                format!("{detail} ({seconds:.1} s)"),
            );
            self.say(&line.joined(width()), 0);
        } else {
            self.say(&format!("{sign} {name} ({seconds:.1} s)"), 2);
            self.say(&format!("  {detail}"), 2);
        }
    }

    fn return_to_browser(&self, display_name: &str, wait: Duration) {
        self.clear();
        let Signs { arrow, .. } = self.signs;
        let rule = style(self.rule()).for_stderr().cyan().to_string();
        let title = style(format!("{arrow} Return to your browser."));
        write_line("");
        write_line(&rule);
        write_line(&format!("  {}", title.for_stderr().cyan().bold()));
        write_line("");
        self.say(
            &format!(
                "  The tunnel is up. Enter the database's name and login, test the connection, and save \
                 {display_name:?}."
            ),
            2,
        );
        self.say("  Ctrl-C stops here; the same command goes on later.", 2);
        write_line(&rule);
        let deadline = Instant::now() + wait;
        let left = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Writing to a line of text does not fail.
            let _ = out.write_str(&clock(left));
        };
        let style = template("{spinner} {left} left {wide_msg}").with_key("left", left);
        self.spin(style, format!("to save {display_name:?}"));
    }

    fn failed(&self, error: &str, next: Option<&str>, exit: Exit, log: Option<&Path>) {
        self.clear();
        let title = style(title(exit)).for_stderr().red().bold();
        self.say(&format!("{title}: {error}"), 2);
        if let Some(next) = next {
            let title = style("next").for_stderr().bold();
            self.say(&format!("{title}: {next}"), 2);
        }
        if let Some(log) = log {
            let title = style("log").for_stderr().bold();
            self.say(&format!("{title}: {}", log.display()), 2);
        }
    }
}

fn commands_to_know(commands: &[(&str, String)]) {
    let columns = |(purpose, command): &(&str, String)| format!("  {purpose:<18} {command}");
    let fit = |command| measure_text_width(&columns(command)) <= width();
    let are_columns = commands.iter().all(fit);
    for command in commands {
        // Never broken, so that it can be copied.
        if are_columns {
            write_line(&columns(command));
        } else {
            write_line(&format!("  {}", command.0));
            write_line(&format!("    {}", command.1));
        }
    }
}

/// A text beside what stands in the columns before it.
struct Columns(String, String);

impl Columns {
    fn joined(&self, width: usize) -> String {
        let Columns(before, text) = self;
        let taken = console::measure_text_width(before);
        let lines = wrap(text, width.saturating_sub(taken), 0);
        let mut joined = before.clone();
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                // Writing to a string does not fail.
                let _ = write!(joined, "\n{}", " ".repeat(taken));
            }
            joined.push_str(line);
        }
        joined
    }
}

/// The terminal's width as it is now; it may change at any time.
fn width() -> usize {
    let columns = Term::stderr()
        .size_checked()
        .map_or(0, |(_, columns)| columns);
    match usize::from(columns) {
        unknown if unknown < NARROWEST => USUAL,
        known => known.min(WIDEST),
    }
}

/// A template of ours; one that does not parse would be shown as the default, and a test sees that.
fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// `29:59`, or `1:59:59`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_shown_as_a_clock() {
        assert_eq!(clock(Duration::from_secs(1799)), "29:59");
        assert_eq!(clock(Duration::from_secs(7325)), "2:02:05");
        assert_eq!(clock(Duration::ZERO), "00:00");
    }

    #[test]
    fn every_template_parses() {
        for text in [
            "{spinner} {wide_msg} {elapsed}",
            "{spinner} {msg} {wide_bar} {bytes}/{total_bytes}",
            "{spinner} {left} left {wide_msg}",
        ] {
            assert!(ProgressStyle::with_template(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_a_step_came_to_stays_in_its_column() {
        let columns = Columns("+ key ".to_owned(), "one two three".to_owned());
        assert_eq!(columns.joined(14), "+ key one two\n      three");
    }
}
