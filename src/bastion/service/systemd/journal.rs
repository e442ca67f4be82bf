//! What systemd's journal tells of a unit that did not start.

use std::time::Duration;

use anyhow::Result;

use crate::bastion::host::{Command, Host};

/// How many of the journal's last lines an error holds, and among how many they are looked for.
const JOURNAL_LINES: usize = 5;
const JOURNAL_LINES_READ: usize = 12;
const JOURNAL_TRIES: u32 = 10;
const JOURNAL_PAUSE: Duration = Duration::from_millis(200);
/// What lines hold that tell no reason.
const COMES_AND_GOES: [&str; 4] = ["Starting ", "Started ", "Stopped ", "Scheduled "];

/// The last lines about a unit, with their times.
pub(super) fn of_unit(host: &dyn Host, unit: &str, lines: usize) -> Option<Command> {
    host.which("journalctl")?;
    let journalctl = lines_about(host, ("UNIT", "_SYSTEMD_UNIT"), unit, lines);
    Some(journalctl.args(["--output", "short-iso"]))
}

/// The messages alone, and of one start of the unit where it is known: those of an earlier one have their own reason.
pub(super) fn of_start(host: &dyn Host, unit: &str, start: &str) -> Option<Command> {
    host.which("journalctl")?;
    let (fields, about) = match start {
        "" => (("UNIT", "_SYSTEMD_UNIT"), unit),
        _ => (("INVOCATION_ID", "_SYSTEMD_INVOCATION_ID"), start),
    };
    let journalctl = lines_about(host, fields, about, JOURNAL_LINES_READ);
    Some(journalctl.args(["--output", "cat"]))
}

/// Lines whose sender names this in the first field, or in whose second field the journal has put it.
///
/// The process that says which step of a start failed is gone before the journal can see whose it was, where a host is
/// busy: what it says itself counts, from root and from this user. `--unit` would pass over it.
fn lines_about(host: &dyn Host, (said, seen): (&str, &str), about: &str, lines: usize) -> Command {
    let (said, user) = (
        format!("{said}={about}"),
        format!("_UID={}", host.user().uid),
    );
    Command::new("journalctl")
        .args(["--no-pager", "--quiet", "--lines", &lines.to_string()])
        .args([&said, "_UID=0", "+", &said, &user])
        .args(["+", &format!("{seen}={about}")])
}

/// What to wait for in the lines about a program that ended so.
pub(super) fn waited_for(status: i32) -> fn(&str) -> bool {
    match status {
        // systemd's own, which it tells in two lines by two processes.
        200..=254 => |line| line.contains(" step "),
        // A shell's, beside systemd's line about its end.
        126 | 127 => |line| is_reason(line) && !line.contains(".service: "),
        _ => is_reason,
    }
}

/// The journal's last lines. Users may see none but their own, so root is asked then, if that takes no question.
/// They may come a moment after what they are about: until one is such a line, they are waited for.
pub(super) fn last_lines(
    host: &dyn Host,
    journal: Command,
    is_waited_for: fn(&str) -> bool,
) -> Result<Vec<String>> {
    let words = host.privilege().start(&journal, |_| None).words;
    let by_root = words
        .split_first()
        .map(|(program, arguments)| Command::new(program).args(arguments));
    let mut last = Vec::new();
    for _ in 0..JOURNAL_TRIES {
        for command in std::iter::once(&journal).chain(&by_root) {
            let said = host.run(command)?.stdout;
            let lines: Vec<String> = said.lines().map(str::to_owned).collect();
            if lines.iter().any(|line| is_waited_for(line)) {
                return Ok(lines);
            }
            if lines.len() > last.len() {
                last = lines;
            }
        }
        host.sleep(JOURNAL_PAUSE)?;
    }
    Ok(last)
}

fn is_reason(line: &str) -> bool {
    !COMES_AND_GOES.iter().any(|begin| line.contains(begin))
}

/// The last lines that tell why, each once: what a unit does before its program fails as that does.
pub(super) fn reasons_among(lines: &[String], unit: &str) -> Vec<String> {
    let prefix = format!("{unit}: ");
    let mut told: Vec<String> = Vec::new();
    for line in lines.iter().rev() {
        let line = line.replace(&prefix, "");
        if is_reason(&line) && !told.contains(&line) && told.len() < JOURNAL_LINES {
            told.insert(0, line);
        }
    }
    told
}
