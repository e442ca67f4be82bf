//! `logs`: what ssh and autossh have said about the tunnels, and what the service manager has noted.
//!
//! Every service manager has ssh and autossh write into the same file of the user's own, so this
//! reads the same everywhere and needs no rights. root reads the logs of everybody.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use super::{others, tunnels};
use crate::bastion::cli::Logs;
use crate::bastion::facts::{self, Init};
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{FileEnd, Host};
use crate::bastion::service;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui;

/// How often `--follow` looks for new lines.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

/// A log is begun anew at 1 MiB; of one that is larger, the end is shown.
const LARGEST_LOG: u64 = 4 * 1024 * 1024;

pub(super) fn run(host: &dyn Host, command: &Logs) -> anyhow::Result<Exit> {
    let tunnels = meant(host, command)?;
    let printer = Printer {
        json: command.json,
        names: tunnels.len() > 1,
    };
    let mut said_something = false;
    for tunnel in &tunnels {
        said_something |= print_journal(host, tunnel, command.lines, printer)?;
    }
    let mut files: Vec<LogFile> = tunnels.into_iter().map(LogFile::new).collect();
    for file in &mut files {
        said_something |= file.print_new(host, command.lines, printer)?;
    }
    if command.follow {
        return follow(host, files, printer);
    }
    if !said_something && !command.json {
        return Err(nothing_said(&files).into());
    }
    Ok(Exit::Done)
}

/// A tunnel, and where its log is.
struct Tunnel {
    name: TunnelName,
    /// Who else owns it.
    user: Option<String>,
    init: Option<Init>,
    home: PathBuf,
    log: PathBuf,
}

fn meant(host: &dyn Host, command: &Logs) -> anyhow::Result<Vec<Tunnel>> {
    let installed = tunnels::installed(host)?;
    let receipt = installed.as_ref().map(|(receipt, _)| receipt);
    let others = others::tunnels(host, receipt)?;
    ensure!(installed.is_some() || !others.is_empty(), tunnels::none());
    let meant = tunnels::meant_of_all(host, receipt, others, &command.which)?;
    let mut tunnels = Vec::new();
    if let Some((receipt, layout)) = &installed {
        tunnels.extend(meant.own.iter().map(|name| Tunnel {
            name: *name,
            user: None,
            init: receipt.init,
            home: host.user().home.clone(),
            log: layout.tunnel_log(*name),
        }));
    }
    tunnels.extend(meant.others.into_iter().map(|tunnel| Tunnel {
        name: tunnel.name,
        home: tunnel.home().to_owned(),
        user: Some(tunnel.user),
        init: Some(facts::init_of(host)),
        log: tunnel.log,
    }));
    Ok(tunnels)
}

/// What the service manager has noted, where it keeps notes and lets this user read them.
fn print_journal(
    host: &dyn Host,
    tunnel: &Tunnel,
    lines: usize,
    printer: Printer,
) -> anyhow::Result<bool> {
    let Some(init) = tunnel.init else {
        return Ok(false);
    };
    let Some(journal) = service::manager(init)?.journal(host, tunnel.name, lines) else {
        return Ok(false);
    };
    let output = host.run(&journal)?;
    if !output.success() {
        return Ok(false);
    }
    for line in output.stdout.lines() {
        printer.line(tunnel, "service", line);
    }
    Ok(!output.stdout.trim().is_empty())
}

fn follow(host: &dyn Host, mut files: Vec<LogFile>, printer: Printer) -> anyhow::Result<Exit> {
    loop {
        // Ctrl-C is how this ends.
        if host.sleep(FOLLOW_PAUSE).is_err() {
            return Ok(Exit::Done);
        }
        for file in &mut files {
            file.print_new(host, usize::MAX, printer)?;
        }
    }
}

fn nothing_said(files: &[LogFile]) -> Failure {
    let files: Vec<String> = files
        .iter()
        .map(|file| file.tunnel.log.display().to_string())
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
    fn line(self, tunnel: &Tunnel, source: &str, line: &str) {
        let id = tunnel.name;
        if self.json {
            let mut line = json!({"tunnel": id.number(), "source": source, "line": line});
            if let Some(user) = &tunnel.user {
                line["user"] = json!(user);
            }
            return ui::print(&line.to_string());
        }
        // Servers and other users have their words in it, and do not move this terminal's cursor.
        let line: String = line
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        match &tunnel.user {
            Some(user) if self.names => ui::print(&format!("tunnel {id} of {user}: {line}")),
            None if self.names => ui::print(&format!("tunnel {id}: {line}")),
            _ => ui::print(&line),
        }
    }
}

/// A tunnel's log, and how far it was read.
struct LogFile {
    tunnel: Tunnel,
    read: u64,
    /// It was told that the file cannot be read, which is not said again.
    is_unreadable: bool,
}

impl LogFile {
    fn new(tunnel: Tunnel) -> Self {
        LogFile {
            tunnel,
            read: 0,
            is_unreadable: false,
        }
    }

    /// Prints the last lines that were not printed yet; returns whether there was one.
    fn print_new(
        &mut self,
        host: &dyn Host,
        count: usize,
        printer: Printer,
    ) -> anyhow::Result<bool> {
        let lines = match self.lines(host) {
            Ok(lines) => lines,
            // One user's file keeps nobody from reading the others'.
            Err(_) if self.is_unreadable => return Ok(true),
            Err(error) => {
                self.is_unreadable = true;
                vec![format!(
                    "{} cannot be read: {error}",
                    self.tunnel.log.display()
                )]
            }
        };
        let skipped = lines.len().saturating_sub(count);
        for line in &lines[skipped..] {
            printer.line(&self.tunnel, "ssh", line);
        }
        Ok(!lines.is_empty())
    }

    /// The whole lines that were not read yet. A file that has become shorter was begun anew.
    fn lines(&mut self, host: &dyn Host) -> io::Result<Vec<String>> {
        let end = match host.read_end(&self.tunnel.home, &self.tunnel.log, LARGEST_LOG) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => FileEnd::default(),
            end => end?,
        };
        if end.length < self.read {
            self.read = 0;
        }
        let begin = end.length - end.content.len() as u64;
        let known = self
            .read
            .saturating_sub(begin)
            .min(end.content.len() as u64);
        let new = &end.content[known as usize..];
        let whole = new
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.read = begin + known + whole as u64;
        Ok(String::from_utf8_lossy(&new[..whole])
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
        let mut file = LogFile::new(Tunnel {
            name: "bi.example.com-7".parse().unwrap(),
            user: None,
            init: None,
            home: "/".into(),
            log: "/log".into(),
        });
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
