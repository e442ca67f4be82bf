//! What systemd's journal tells of a unit that did not start.

use std::time::Duration;

use anyhow::Result;

use crate::bastion::host::{Command, Host};

/// How many of the journal's last lines an error holds, and among how many they are looked for.
const JOURNAL_LINES: usize = 5;
pub(super) const JOURNAL_LINES_READ: usize = 12;
const JOURNAL_TRIES: u32 = 4;
const JOURNAL_PAUSE: Duration = Duration::from_millis(200);
/// What lines hold that tell no reason.
const COMES_AND_GOES: [&str; 4] = ["Starting ", "Started ", "Stopped ", "Scheduled "];

pub(super) fn journal_of(host: &dyn Host, unit: &str, lines: usize) -> Option<Command> {
    host.which("journalctl")?;
    let journalctl = Command::new("journalctl")
        .args(["--unit", unit])
        .args(["--lines", &lines.to_string()])
        .args(["--no-pager", "--quiet", "--output", "short-iso"]);
    Some(journalctl)
}

/// The messages alone, and of one start of the unit: those of an earlier one have their own reason.
pub(super) fn of_start(journal: Command, start: &str) -> Command {
    let journal = journal.args(["--output", "cat"]);
    match start {
        "" => journal,
        _ => journal.args([
            &format!("INVOCATION_ID={start}"),
            "+",
            &format!("_SYSTEMD_INVOCATION_ID={start}"),
        ]),
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

pub(super) fn is_reason(line: &str) -> bool {
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
