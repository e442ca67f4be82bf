//! macOS's launchd: one LaunchDaemon for each tunnel. There is no definition that they share, so
//! there is nothing to lock.
//!
//! The commands follow launchctl(1) of macOS 10.11 and newer; the tests run them on a host in
//! memory, since no macOS can be had where they run.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use askama::Template;

use super::installed::read_trusted;
use super::shared;
use super::{
    Action, AtBoot, ForeignScript, InstalledTunnel, MARKER, ServiceManager, ServiceState,
    ServiceTunnel, StartFailure,
};
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt, HostLock, Output};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::steps::PlannedCommand;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;

/// How often a bootstrap is tried while launchd is still taking the former daemon down, and the
/// pause between.
const BOOTSTRAP_ATTEMPTS: u32 = 10;
const BOOTSTRAP_PAUSE: Duration = Duration::from_secs(1);

pub struct Launchd;

#[derive(Template)]
#[template(path = "h_autossh.plist", escape = "html")]
struct Daemon<'a> {
    marker: &'a str,
    label: String,
    user: &'a str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    log: String,
}

/// How the labels begin, and the names of the definitions' files.
const LABEL: &str = "io.holistics.h_autossh.";

fn label(tunnel: TunnelName) -> String {
    format!("{LABEL}{}", tunnel.slug())
}

fn daemons_dir(layout: &Layout) -> PathBuf {
    layout.system("Library/LaunchDaemons")
}

fn target(tunnel: TunnelName) -> String {
    format!("system/{}", label(tunnel))
}

fn plist_path(layout: &Layout, tunnel: TunnelName) -> PathBuf {
    daemons_dir(layout).join(format!("{}.plist", label(tunnel)))
}

fn launchctl(action: &str) -> Command {
    Command::new("launchctl")
        .arg(action)
        .with_authority(Authority::Root)
}

fn bootstrap(layout: &Layout, tunnel: TunnelName) -> Command {
    launchctl("bootstrap")
        .arg("system")
        .path(&plist_path(layout, tunnel))
}

fn render(tunnel: &ServiceTunnel) -> Result<String> {
    let mut arguments = vec![tunnel.autossh.to_string_lossy().into_owned()];
    arguments.extend(tunnel.forward.autossh_arguments(&tunnel.log));
    let mut environment = tunnel.environment();
    // One attempt, and launchd's ThrottleInterval before the next one: autossh by itself begins with
    // a burst of them.
    environment.push(("AUTOSSH_MAXSTART", "1".to_owned()));
    let daemon = Daemon {
        marker: MARKER,
        label: label(tunnel.id),
        user: &tunnel.user,
        arguments,
        environment,
        log: tunnel.log.to_string_lossy().into_owned(),
    };
    daemon
        .render()
        .context("cannot render the daemon's definition")
}

/// Reads what `templates/h_autossh.plist` gives.
fn parse(name: TunnelName, content: &str) -> Option<InstalledTunnel> {
    let text = |line: &str| {
        let text = line.trim().strip_prefix("<string>")?;
        Some(unescaped(text.strip_suffix("</string>")?))
    };
    let after = |key: &str| {
        let key = format!("<key>{key}</key>");
        let mut lines = content.lines().skip_while(move |line| line.trim() != key);
        lines.next().map(|_| lines)
    };
    let user = text(after("UserName")?.next()?)?;
    let log = text(after("StandardErrorPath")?.next()?)?;
    let arguments: Vec<String> = after("ProgramArguments")?.skip(1).map_while(text).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    InstalledTunnel::from_arguments(name, &user, &log, &arguments)
}

/// What the template escaped.
fn unescaped(text: &str) -> String {
    let escapes = [
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#38;", "&"),
    ];
    escapes
        .iter()
        .fold(text.to_owned(), |text, (escape, c)| text.replace(escape, c))
}

/// Starts a daemon whose former instance launchd may still be taking down.
fn load(host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()> {
    host.expect(&launchctl("enable").arg(target(tunnel)))?;
    // It fails where nothing is loaded, which is as well.
    host.run(&launchctl("bootout").arg(target(tunnel)))?;
    let bootstrap = bootstrap(layout, tunnel);
    for attempt in 1.. {
        let output = host.run(&bootstrap)?;
        if output.success() {
            break;
        }
        if attempt == BOOTSTRAP_ATTEMPTS {
            return Err(CommandError::Status {
                command: bootstrap.to_string(),
                status: output.status,
                stderr: output.stderr,
                stdout: output.stdout,
            }
            .into());
        }
        host.sleep(BOOTSTRAP_PAUSE)?;
    }
    Ok(())
}

fn print(host: &dyn Host, tunnel: TunnelName) -> Result<Output> {
    let mut print = launchctl("print").arg(target(tunnel));
    // Asking needs no rights.
    print.authority = Authority::User;
    Ok(host.run(&print)?)
}

/// Why launchd could not start a daemon, by what `launchctl print` shows of it: a line such as
/// `last exit code = 78: EX_CONFIG`.
fn explain(said: &str) -> Option<StartFailure> {
    let lines = || said.lines().map(str::trim);
    let value = |name: &str| lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    if value("state") == Some("running") {
        return None;
    }
    let code = value("last exit code").unwrap_or_default();
    let number = code
        .split(':')
        .next()
        .and_then(|number| number.parse().ok());
    let next = match (number, value("program")) {
        // launchd's own, before it runs the program.
        (Some(78), Some(program)) => format!(
            "check whether {program} is there (`brew install autossh` brings it back) and whether the user and the folder \
             of its log are"
        ),
        (Some(78), None) => "check whether the daemon's program, user and log are there".to_owned(),
        (Some(126 | 127), _) => "install autossh again: `brew reinstall autossh`".to_owned(),
        _ if lines().any(|line| line.contains("OS_REASON_CODESIGNING")) => {
            "macOS refuses the program's signature: `brew reinstall autossh`".to_owned()
        }
        _ => return None,
    };
    let told = [
        "state",
        "last exit code",
        "last exit reason",
        "last terminating signal",
    ];
    let is_told = |line: &&str| {
        told.iter()
            .any(|name| line.starts_with(&format!("{name} = ")))
    };
    Some(StartFailure {
        what: format!("launchd could not start it (last exit code {code})"),
        lines: lines().filter(is_told).map(str::to_owned).collect(),
        next,
        may_be_mounts: false,
    })
}

impl ServiceManager for Launchd {
    /// macOS reads no init scripts.
    fn foreign(&self, _host: &dyn Host, _layout: &Layout) -> Result<Option<ForeignScript>> {
        Ok(None)
    }

    fn install_commands(&self, _layout: &Layout) -> Vec<PlannedCommand> {
        Vec::new()
    }

    fn add_commands(
        &self,
        layout: &Layout,
        tunnel: TunnelName,
        _at_boot: AtBoot,
    ) -> Vec<PlannedCommand> {
        vec![
            shared::write_command(layout, plist_path(layout, tunnel), 0o644),
            launchctl("enable").arg(target(tunnel)).into(),
            launchctl("bootout").arg(target(tunnel)).into(),
            bootstrap(layout, tunnel).into(),
        ]
    }

    fn uninstall_commands(&self, _layout: &Layout) -> Vec<PlannedCommand> {
        Vec::new()
    }

    fn remove_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PlannedCommand> {
        vec![
            launchctl("bootout").arg(target(tunnel)).into(),
            shared::rm_command(layout, plist_path(layout, tunnel)),
        ]
    }

    fn check(&self, _host: &dyn Host, _layout: &Layout) -> Result<()> {
        Ok(())
    }

    fn lock(&self, _host: &dyn Host, _ui: &Ui, _layout: &Layout) -> Result<HostLock> {
        Ok(HostLock::of_nothing())
    }

    fn install(&self, _work: &mut StepContext, _foreign: Option<&ForeignScript>) -> Result<bool> {
        Ok(false)
    }

    /// Daemons share nothing.
    fn ensure_shared(&self, _: &HostLock, _: &dyn Host, _: &Layout) -> Result<bool> {
        Ok(false)
    }

    fn write_files(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> Result<bool> {
        let path = plist_path(work.layout(), tunnel.id);
        work.write_file(&path, render(tunnel)?.as_bytes(), 0o644, Authority::Root)
    }

    fn start(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
        _is_changed: bool,
        _at_boot: AtBoot,
    ) -> Result<()> {
        load(host, layout, tunnel)
    }

    fn stop(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()> {
        if self.status(host, layout, tunnel)? != ServiceState::Unknown {
            host.expect(&launchctl("bootout").arg(target(tunnel)))?;
        }
        Ok(())
    }

    fn remove_files(
        &self,
        _: &HostLock,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<()> {
        host.remove_file(&plist_path(layout, tunnel), Authority::Root)
    }

    fn remove_unless_used(&self, _: &HostLock, _host: &dyn Host, _layout: &Layout) -> Result<bool> {
        Ok(false)
    }

    fn installed(&self, host: &dyn Host, layout: &Layout) -> std::io::Result<Vec<InstalledTunnel>> {
        let dir = daemons_dir(layout);
        let mut tunnels = Vec::new();
        for file in host.list(&dir)? {
            let name = file
                .strip_prefix(LABEL)
                .and_then(|name| name.strip_suffix(".plist"));
            let Some(name) = name.and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(content) = read_trusted(host, layout, &dir.join(&file))?
                && content.contains(MARKER)
            {
                tunnels.extend(parse(name, &content));
            }
        }
        Ok(tunnels)
    }

    fn tunnel_file(&self, layout: &Layout, tunnel: TunnelName) -> PathBuf {
        plist_path(layout, tunnel)
    }

    fn control(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnels: &[TunnelName],
        action: Action,
    ) -> Result<()> {
        for tunnel in tunnels {
            match action {
                Action::Start if self.status(host, layout, *tunnel)? == ServiceState::Running => {}
                Action::Start | Action::Restart => load(host, layout, *tunnel)?,
                Action::Stop => self.stop(host, layout, *tunnel)?,
            }
        }
        Ok(())
    }

    fn restart_one(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()> {
        let kickstart = launchctl("kickstart").args(["-k", &target(tunnel)]);
        // One that is not loaded cannot be kicked.
        if self.status(host, layout, tunnel)? == ServiceState::Unknown
            || !host.run(&kickstart)?.success()
        {
            load(host, layout, tunnel)?;
        }
        Ok(())
    }

    fn status(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<ServiceState> {
        let output = print(host, tunnel)?;
        Ok(if !output.success() {
            ServiceState::Unknown
        } else if output.stdout.contains("state = running") {
            ServiceState::Running
        } else {
            ServiceState::Dead
        })
    }

    fn start_failure(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<StartFailure>> {
        let said = print(host, tunnel)?.stdout;
        Ok(explain(&said))
    }

    fn paths(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PathBuf> {
        vec![plist_path(layout, tunnel)]
    }

    fn files(
        &self,
        _host: &dyn Host,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> Result<Vec<(PathBuf, String)>> {
        Ok(vec![(plist_path(layout, tunnel.id), render(tunnel)?)])
    }

    fn starts_at_boot(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<bool>> {
        if !host.exists(&plist_path(layout, tunnel)) {
            return Ok(Some(false));
        }
        // A line `"NAME" => disabled`, which macOS up to 11 writes as `=> true`.
        let mut list = launchctl("print-disabled").arg("system");
        list.authority = Authority::User;
        let name = format!("\"{}\"", label(tunnel));
        let said = host.run(&list)?.stdout;
        let disabled = said
            .lines()
            .filter(|line| line.contains(&name))
            .any(|line| line.ends_with("disabled") || line.ends_with("true"));
        Ok(Some(!disabled))
    }
}
