//! `doctor`: shows the checks as they are made, and at the end the first thing to do.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::tunnels::Meant;
use super::{others, tunnels};
use crate::bastion::cli::Doctor;
use crate::bastion::control_plane::Given;
use crate::bastion::doctor::{self, Check, Outcome, Target, Watcher, report};
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Authority, Host, own_name};
use crate::bastion::ui;

/// The report that goes to standard output.
const STANDARD_OUTPUT: &str = "-";
const SPINNER_TICK: Duration = Duration::from_millis(100);

pub(super) fn run(host: &dyn Host, command: &Doctor, quiet: bool) -> anyhow::Result<Exit> {
    let to_output = command.report.as_deref() == Some(Path::new(STANDARD_OUTPUT));
    ensure!(
        !(to_output && command.json),
        Failure::usage(
            "--json and --report - both want standard output",
            "give --report a file",
        )
    );
    let installed = tunnels::installed(host);
    let receipt = installed.as_ref().ok().and_then(Option::as_ref);
    let receipt = receipt.map(|(receipt, _)| receipt);
    let others = others::tunnels(host, receipt)?;
    let asked = if installed.is_err() && others.is_empty() {
        Meant::default()
    } else {
        tunnels::meant_of_all(host, receipt, others, &command.which)?
    };
    others::refuse_sudo(host, asked.others.iter())?;
    let target = Target::new(
        host,
        host.privilege(),
        installed,
        asked.own,
        asked.others,
        Given::read(host, command.authority.file())?,
    );
    let screen = Screen::new(host, command.json || to_output, quiet);
    let checks = doctor::examine(host, &screen, &target);
    // An interrupted check leaves its spinner.
    screen.clear();
    let checks = checks?;
    if command.json {
        ui::print(&serde_json::to_string_pretty(&document(&checks))?);
    } else if !to_output {
        screen.verdict(&checks, command.report.is_none().then(|| own_name(host)));
    }
    if let Some(file) = &command.report {
        let text = report::render(host, &target, &checks);
        if to_output {
            ui::print(text.trim_end());
        } else {
            let whole = std::path::absolute(file).context("the report's path")?;
            host.write(&whole, text.as_bytes(), 0o600, Authority::User)
                .with_context(|| format!("the report {} cannot be written", file.display()))?;
            screen.say(&format!(
                "The report is in {}; read it before you send it.",
                file.display()
            ));
        }
    }
    Ok(match failures(&checks).next() {
        None => Exit::Done,
        Some(_) => Exit::Failed,
    })
}

fn failures(checks: &[Check]) -> impl Iterator<Item = &Check> {
    checks.iter().filter(|check| check.outcome == Outcome::Fail)
}

fn document(checks: &[Check]) -> serde_json::Value {
    json!({
        "ok": failures(checks).next().is_none(),
        "first": failures(checks).next().map(|check| json!({
            "name": check.name, "tunnel": check.tunnel, "remedy": check.remedy,
        })),
        "checks": checks,
    })
}

/// The signs before the lines.
struct Signs {
    pass: &'static str,
    fail: &'static str,
    skip: &'static str,
    remedy: &'static str,
}

const UNICODE: Signs = Signs {
    pass: "✓",
    fail: "✗",
    skip: "–",
    remedy: "→",
};
const ASCII: Signs = Signs {
    pass: "+",
    fail: "x",
    skip: "-",
    remedy: "->",
};

/// Whether the terminal's characters are Unicode, by the variable that counts most.
fn signs(host: &dyn Host) -> &'static Signs {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| host.env(name).filter(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_ascii_lowercase();
    if locale.contains("utf-8") || locale.contains("utf8") {
        &UNICODE
    } else {
        &ASCII
    }
}

/// What the person sees.
struct Screen {
    /// Nothing but the document is shown.
    silent: bool,
    /// Only failures are shown.
    quiet: bool,
    signs: &'static Signs,
    /// Whether there is a terminal on which to say what is waited for.
    is_watched: bool,
    /// The check's that is under way, if it may take more than a moment.
    spinner: RefCell<Option<ProgressBar>>,
    subject: RefCell<String>,
    shown: Cell<usize>,
}

impl Screen {
    fn new(host: &dyn Host, silent: bool, quiet: bool) -> Self {
        Screen {
            silent,
            quiet,
            signs: signs(host),
            is_watched: std::io::stderr().is_terminal() && !quiet,
            spinner: RefCell::default(),
            subject: RefCell::default(),
            shown: Cell::default(),
        }
    }

    fn clear(&self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    /// What it all comes to; and how to ask for help, where the program's name is given for that.
    fn verdict(&self, checks: &[Check], own_name: Option<String>) {
        let skipped = checks
            .iter()
            .filter(|check| check.outcome == Outcome::Skip)
            .count();
        let failed: Vec<&Check> = failures(checks).collect();
        let Some(first) = failed.first() else {
            if !self.quiet {
                let all = checks.len() - skipped;
                ui::print(&format!(
                    "\nNothing is wrong: {all} checks passed, {skipped} were skipped."
                ));
            }
            return;
        };
        let count = match failed.len() {
            1 => "1 check failed.".to_owned(),
            count => format!("{count} checks failed."),
        };
        let remedy = first.remedy.as_deref().unwrap_or(&first.detail);
        ui::print(&format!("\n{} First: {remedy}", style(count).bold()));
        if let Some(own_name) = own_name.filter(|_| !self.quiet) {
            ui::print(&format!(
                "If that does not help, `{own_name} doctor --report FILE` writes what support needs, without secrets."
            ));
        }
    }

    /// A remark that is no result.
    fn say(&self, text: &str) {
        if !self.quiet {
            // A terminal that was closed must not end the run.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

impl Watcher for Screen {
    fn begins(&self, waits_for: &str) {
        if self.is_watched && !waits_for.is_empty() {
            self.spinner.replace(Some(spinner(waits_for)));
        }
    }

    fn ends(&self, check: &Check) {
        self.clear();
        if self.silent || (self.quiet && check.outcome != Outcome::Fail) {
            return;
        }
        if *self.subject.borrow() != check.subject {
            self.subject.replace(check.subject.clone());
            let gap = if self.shown.get() == 0 { "" } else { "\n" };
            ui::print(&format!("{gap}{}", style(&check.subject).bold()));
        }
        self.shown.set(self.shown.get() + 1);
        let sign = match check.outcome {
            Outcome::Pass => style(self.signs.pass).green(),
            Outcome::Fail => style(self.signs.fail).red(),
            Outcome::Skip => style(self.signs.skip).dim(),
        };
        ui::print(&format!("  {sign} {:<18} {}", check.name, check.detail));
        if let Some(remedy) = &check.remedy {
            ui::print(&format!("      {} {remedy}", self.signs.remedy));
        }
    }
}

fn spinner(waits_for: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(format!("looking at {waits_for}"));
    bar.enable_steady_tick(SPINNER_TICK);
    bar
}
