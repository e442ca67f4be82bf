//! `logs`: what ssh and autossh have said about the tunnels, and what the service manager has noted.
//!
//! Every service manager has ssh and autossh write into the same file of the user's own, so this
//! reads the same everywhere and needs no rights.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::tunnels;
use crate::bastion::cli::Logs;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Receipt;
use crate::bastion::service;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui;

/// How often `--follow` looks for new lines.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(host: &dyn Host, command: &Logs) -> anyhow::Result<Exit> {
    let Some((receipt, layout)) = tunnels::installed(host)? else {
        return Err(tunnels::none().into());
    };
    let ids = tunnels::meant(host, Some(&receipt), &command.which)?;
    let printer = Printer {
        json: command.json,
        names: ids.len() > 1,
    };
    let mut said_something = false;
    for id in &ids {
        said_something |= print_journal(host, &receipt, *id, command.lines, printer)?;
    }
    let mut files = LogFiles::of(&layout, &ids);
    for (id, line) in files.last_lines(host, command.lines)? {
        printer.line(id, "ssh", &line);
        said_something = true;
    }
    if command.follow {
        return follow(host, files, printer);
    }
    if !said_something && !command.json {
        return Err(nothing_said(&layout, &ids).into());
    }
    Ok(Exit::Done)
}

/// What the service manager has noted, where it keeps notes and lets this user read them.
fn print_journal(
    host: &dyn Host,
    receipt: &Receipt,
    id: TunnelName,
    lines: usize,
    printer: Printer,
) -> anyhow::Result<bool> {
    let Some(init) = receipt.init else {
        return Ok(false);
    };
    let Some(journal) = service::manager(init)?.journal(host, id, lines) else {
        return Ok(false);
    };
    let output = host.run(&journal)?;
    if !output.success() {
        return Ok(false);
    }
    for line in output.stdout.lines() {
        printer.line(id, "service", line);
    }
    Ok(!output.stdout.trim().is_empty())
}

fn follow(host: &dyn Host, mut files: LogFiles, printer: Printer) -> anyhow::Result<Exit> {
    loop {
        // Ctrl-C is how this ends.
        if host.sleep(FOLLOW_PAUSE).is_err() {
            return Ok(Exit::Done);
        }
        for (id, line) in files.new_lines(host)? {
            printer.line(id, "ssh", &line);
        }
    }
}

fn nothing_said(layout: &Layout, ids: &[TunnelName]) -> Failure {
    let files: Vec<String> = ids
        .iter()
        .map(|id| layout.tunnel_log(*id).display().to_string())
        .collect();
    Failure::new(
        "nothing was logged yet",
        format!(
            "the logs are {}; `holistics-tunnel status` shows whether the tunnels run",
            files.join(", ")
        ),
    )
}

/// How a line is shown.
#[derive(Clone, Copy)]
struct Printer {
    json: bool,
    /// Whether a line says whose it is.
    names: bool,
}

impl Printer {
    fn line(self, id: TunnelName, source: &str, line: &str) {
        if self.json {
            ui::print(&json!({"tunnel": id.number(), "source": source, "line": line}).to_string());
        } else if self.names {
            ui::print(&format!("tunnel {id}: {line}"));
        } else {
            ui::print(line);
        }
    }
}

/// The tunnels' logs, and how far each was read.
struct LogFiles {
    files: BTreeMap<TunnelName, LogFile>,
}

struct LogFile {
    path: PathBuf,
    read: usize,
}

impl LogFiles {
    fn of(layout: &Layout, ids: &[TunnelName]) -> Self {
        let file = |id: &TunnelName| LogFile {
            path: layout.tunnel_log(*id),
            read: 0,
        };
        LogFiles {
            files: ids.iter().map(|id| (*id, file(id))).collect(),
        }
    }

    /// The last lines of each.
    fn last_lines(
        &mut self,
        host: &dyn Host,
        count: usize,
    ) -> anyhow::Result<Vec<(TunnelName, String)>> {
        let mut last = Vec::new();
        for (id, file) in &mut self.files {
            let lines = file.lines(host)?;
            let skipped = lines.len().saturating_sub(count);
            last.extend(lines.into_iter().skip(skipped).map(|line| (*id, line)));
        }
        Ok(last)
    }

    /// What was written since.
    fn new_lines(&mut self, host: &dyn Host) -> anyhow::Result<Vec<(TunnelName, String)>> {
        self.last_lines(host, usize::MAX)
    }
}

impl LogFile {
    /// The whole lines that were not read yet. A file that has become shorter was begun anew.
    fn lines(&mut self, host: &dyn Host) -> anyhow::Result<Vec<String>> {
        let content = host.read_if_present(&self.path)?.unwrap_or_default();
        if content.len() < self.read {
            self.read = 0;
        }
        let new = &content[self.read..];
        let end = new
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.read += end;
        Ok(String::from_utf8_lossy(&new[..end])
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bastion::host::Authority;
    use crate::bastion::host::scripted::ScriptedHost;

    fn write(host: &ScriptedHost, content: &str) {
        host.write(
            Path::new("/log"),
            content.as_bytes(),
            0o600,
            Authority::User,
        )
        .unwrap();
    }

    #[test]
    fn a_line_is_shown_once_it_is_whole_and_only_once() {
        let host = ScriptedHost::new();
        let mut file = LogFile {
            path: "/log".into(),
            read: 0,
        };
        assert!(file.lines(&host).unwrap().is_empty());
        write(&host, "one\ntw");
        assert_eq!(file.lines(&host).unwrap(), ["one"]);
        write(&host, "one\ntwo\n");
        assert_eq!(file.lines(&host).unwrap(), ["two"]);
        assert!(file.lines(&host).unwrap().is_empty());
        write(&host, "new\n");
        assert_eq!(file.lines(&host).unwrap(), ["new"]);
    }
}
