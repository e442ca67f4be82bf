//! systemd: `h_autossh.service`, the umbrella, and one instance of `h_autossh@.service` for each
//! tunnel.
//!
//! An instance is wanted by the umbrella and part of it, so start, stop and restart of `h_autossh`
//! reach all of them, and each of them lives and dies alone. The two units are the same for all users;
//! an instance's user and what it may write stand in a drop-in of its own.

mod reason;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use askama::Template;

use super::shared::{self, SharedFile};
use super::{
    Action, ForeignScript, MARKER, SERVICE_NAME, ServiceManager, ServiceState, ServiceTunnel,
    StartFailure, foreign, installed_tunnels,
};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt, HostLock};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::steps::{PlannedCommand, Proofs};
use crate::bastion::tunnel_name::TunnelName;

/// systemd waits up to 90 s for a unit that does not end; autossh ends at once.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How many of the journal's last lines an error holds, and among how many they are looked for.
const JOURNAL_LINES: usize = 5;
const JOURNAL_LINES_READ: usize = 12;
const JOURNAL_TRIES: u32 = 4;
const JOURNAL_PAUSE: Duration = Duration::from_millis(200);
/// What lines hold that tell no reason.
const COMES_AND_GOES: [&str; 4] = ["Starting ", "Started ", "Stopped ", "Scheduled "];

pub struct Systemd;

#[derive(Template)]
#[template(path = "h_autossh.service", escape = "none")]
struct Umbrella<'a> {
    marker: &'a str,
}

#[derive(Template)]
#[template(path = "h_autossh@.service", escape = "none")]
struct Instance<'a> {
    marker: &'a str,
    tunnels_dir: String,
}

#[derive(Template)]
#[template(path = "tunnel.conf", escape = "none")]
struct DropIn<'a> {
    marker: &'a str,
    id: TunnelName,
    user: String,
    logs: String,
    has_own_mounts: bool,
}

fn umbrella() -> String {
    format!("{SERVICE_NAME}.service")
}

/// The definition that all instances share.
fn instances() -> String {
    format!("{SERVICE_NAME}@.service")
}

fn instance(tunnel: TunnelName) -> String {
    format!("{SERVICE_NAME}@{}.service", tunnel.slug())
}

fn unit_path(layout: &Layout, unit: &str) -> PathBuf {
    layout.system("etc/systemd/system").join(unit)
}

fn systemctl(action: &str, unit: &str) -> Command {
    Command::new("systemctl")
        .args([action, unit])
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

fn daemon_reload() -> Command {
    Command::new("systemctl")
        .arg("daemon-reload")
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

/// The two units, which are the same for all tunnels of all users.
fn units(layout: &Layout) -> Result<[SharedFile; 2]> {
    let instance = Instance {
        marker: MARKER,
        tunnels_dir: layout.tunnels_dir().to_string_lossy().into_owned(),
    };
    let umbrella_unit = Umbrella { marker: MARKER };
    let file = |unit: String, content: askama::Result<String>| {
        anyhow::Ok(SharedFile {
            path: unit_path(layout, &unit),
            content: content.context("cannot render the unit")?,
            mode: 0o644,
        })
    };
    Ok([
        file(instances(), instance.render())?,
        file(umbrella(), umbrella_unit.render())?,
    ])
}

fn drop_in_dir(layout: &Layout, tunnel: TunnelName) -> PathBuf {
    unit_path(layout, &format!("{}.d", instance(tunnel)))
}

fn drop_in_path(layout: &Layout, tunnel: TunnelName) -> PathBuf {
    drop_in_dir(layout, tunnel).join("tunnel.conf")
}

/// What of the instance is the tunnel's own.
fn drop_in(tunnel: TunnelName, user: &str, logs: &Path, mounts: Mounts) -> Result<String> {
    // What stands in a unit, systemd looks through for its own specifiers.
    let literally = |text: &str| text.replace('%', "%%");
    let drop_in = DropIn {
        marker: MARKER,
        id: tunnel,
        user: literally(user),
        logs: literally(&logs.to_string_lossy()),
        has_own_mounts: mounts == Mounts::Own,
    };
    let content = drop_in
        .render()
        .context("cannot render the tunnel's drop-in")?;
    Ok(format!("{content}\n"))
}

fn drop_in_of(tunnel: &ServiceTunnel, mounts: Mounts) -> Result<String> {
    let logs = tunnel.log.parent().context("a log is in a folder")?;
    drop_in(tunnel.id, &tunnel.user, logs, mounts)
}

/// Up to version 0.1 the shared unit named the user who set up the last tunnel, for the tunnels of
/// everybody. Before such a unit goes, each tunnel is given its own user; whoever's it is, it runs on.
fn give_drop_ins(_: &HostLock, host: &dyn Host, layout: &Layout) -> Result<bool> {
    let mut is_changed = false;
    for tunnel in installed_tunnels(host, layout)? {
        let path = drop_in_path(layout, tunnel.name);
        if host.exists(&path) {
            continue;
        }
        let content = drop_in(tunnel.name, &tunnel.user, tunnel.logs_dir(), Mounts::Own)?;
        shared::make_dir(host, layout, &drop_in_dir(layout, tunnel.name))?;
        host.write(&path, content.as_bytes(), 0o644, Authority::Root)?;
        is_changed = true;
    }
    Ok(is_changed)
}

/// Puts what is shared in place, and returns whether anything was missing.
fn put_in_place(lock: &HostLock, host: &dyn Host, layout: &Layout) -> Result<bool> {
    let units = units(layout)?;
    shared::refuse_foreign(host, layout, &units)?;
    shared::make_dir(host, layout, &layout.tunnels_dir())?;
    let mut is_changed = give_drop_ins(lock, host, layout)?;
    is_changed |= shared::write(lock, host, layout, &units)?;
    if is_changed {
        host.expect(&daemon_reload())?;
    }
    Ok(is_changed)
}

/// Has the umbrella started at boot, and now. What it wants is left as it is: somebody may have stopped
/// tunnels that are not this user's.
fn enable(host: &dyn Host) -> Result<()> {
    host.expect(&systemctl("enable", &umbrella()))?;
    host.expect(&start_alone())?;
    Ok(())
}

fn start_alone() -> Command {
    Command::new("systemctl")
        .args(["start", "--job-mode", "ignore-dependencies", &umbrella()])
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

/// Ends an instance, and has it started by nobody.
fn end(host: &dyn Host, tunnel: TunnelName) -> Result<()> {
    let unit = instance(tunnel);
    host.expect(&systemctl("stop", &unit))?;
    forget(host, tunnel)
}

fn forget(host: &dyn Host, tunnel: TunnelName) -> Result<()> {
    let unit = instance(tunnel);
    host.expect(&systemctl("disable", &unit))?;
    // Only a unit that has failed needs it, and for any other it fails.
    host.run(&systemctl("reset-failed", &unit))?;
    Ok(())
}

/// The messages alone, and of one start of the unit: those of an earlier one have their own reason.
fn of_start(journal: Command, start: &str) -> Command {
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
/// They may come a moment after what they are about.
fn last_lines(host: &dyn Host, journal: Command) -> Result<Vec<String>> {
    let words = host.privilege().start(&journal, |_| None).words;
    let by_root = words
        .split_first()
        .map(|(program, arguments)| Command::new(program).args(arguments));
    for _ in 0..JOURNAL_TRIES {
        for command in std::iter::once(&journal).chain(&by_root) {
            let said = host.run(command)?.stdout;
            let lines: Vec<String> = said.lines().map(str::to_owned).collect();
            if lines.iter().any(|line| is_reason(line)) {
                return Ok(lines);
            }
        }
        host.sleep(JOURNAL_PAUSE)?;
    }
    Ok(Vec::new())
}

fn is_reason(line: &str) -> bool {
    !COMES_AND_GOES.iter().any(|begin| line.contains(begin))
}

/// The last lines that tell why, each once: what a unit does before its program fails as that does.
fn reasons_among(lines: &[String], unit: &str) -> Vec<String> {
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

/// Which view of the file system an instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mounts {
    /// One of its own, in which it can write nothing but its logs.
    Own,
    /// The host's, where systemd cannot set up another one.
    OfTheHost,
}

impl Mounts {
    /// As the tunnel's drop-in has it, which root alone writes.
    fn of(host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<Self> {
        let content = host.read_if_present(&drop_in_path(layout, tunnel))?;
        let content = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
        let is_host_s = content.lines().any(|line| line == "ProtectSystem=no");
        Ok(if is_host_s {
            Mounts::OfTheHost
        } else {
            Mounts::Own
        })
    }
}

impl Systemd {
    /// Writes the tunnel's drop-in, and starts the tunnel with it.
    fn put_drop_in(
        &self,
        work: &mut StepContext,
        tunnel: &ServiceTunnel,
        mounts: Mounts,
    ) -> Result<()> {
        let (host, layout) = (work.host(), work.layout().clone());
        let lock = self.lock(host, work.run.ui, &layout)?;
        let content = drop_in_of(tunnel, mounts)?;
        let path = drop_in_path(&layout, tunnel.id);
        work.write_file(&path, content.as_bytes(), 0o644, Authority::Root)?;
        host.expect(&daemon_reload())?;
        drop(lock);
        host.expect(&systemctl("restart", &instance(tunnel.id)))?;
        Ok(())
    }
}

impl ServiceManager for Systemd {
    fn install_commands(&self, layout: &Layout) -> Vec<PlannedCommand> {
        vec![
            shared::lock_command(layout),
            shared::mkdir_command(layout, layout.tunnels_dir()),
            shared::write_command(layout, unit_path(layout, &instances()), 0o644),
            shared::write_command(layout, unit_path(layout, &umbrella()), 0o644),
            daemon_reload().into(),
            systemctl("enable", &umbrella()).into(),
            start_alone().into(),
        ]
    }

    fn foreign_stops(&self, _layout: &Layout, foreign: &ForeignScript) -> Vec<Command> {
        let by_itself = Command::new(foreign.path.to_string_lossy()).arg("stop");
        vec![systemctl("stop", &umbrella()), by_itself]
    }

    fn add_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PlannedCommand> {
        vec![
            shared::lock_command(layout),
            shared::mkdir_command(layout, drop_in_dir(layout, tunnel)),
            shared::write_command(layout, drop_in_path(layout, tunnel), 0o644),
            shared::write_command(layout, layout.tunnel_file(tunnel), 0o644),
            daemon_reload().into(),
            systemctl("enable", &instance(tunnel)).into(),
            systemctl("restart", &instance(tunnel)).into(),
        ]
    }

    fn check(&self, host: &dyn Host, layout: &Layout) -> Result<()> {
        ensure!(
            layout.is_system_wide(),
            Failure::usage(
                "systemd reads its units from /etc/systemd/system, and --prefix puts them elsewhere",
                "leave --prefix out, or use --init sysv with it",
            )
        );
        shared::refuse_foreign(host, layout, &units(layout)?)
    }

    fn install(&self, work: &mut StepContext, foreign: Option<&ForeignScript>) -> Result<bool> {
        let layout = work.layout().clone();
        let host = work.host();
        let lock = self.lock(host, work.run.ui, &layout)?;
        shared::refuse_foreign(host, &layout, &units(&layout)?)?;
        if let Some(foreign) = foreign {
            // Beside a unit of the same name, a script would start a second copy on some hosts.
            foreign.move_aside(work, &self.foreign_stops(&layout, foreign))?;
        }
        work.record(Change::ServiceInstalled)?;
        let is_changed = put_in_place(&lock, host, &layout)?;
        enable(host)?;
        Ok(is_changed || foreign.is_some())
    }

    fn ensure_shared(&self, lock: &HostLock, host: &dyn Host, layout: &Layout) -> Result<()> {
        if put_in_place(lock, host, layout)? {
            enable(host)?;
        }
        Ok(())
    }

    fn write_files(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> Result<bool> {
        let layout = work.layout().clone();
        let drop_in = drop_in_of(tunnel, Mounts::of(work.host(), &layout, tunnel.id)?)?;
        let content = tunnel.render()?;
        // The drop-in comes first: no instance is without it for a moment.
        work.create_dir(&drop_in_dir(&layout, tunnel.id), 0o755, Authority::Root)?;
        let path = drop_in_path(&layout, tunnel.id);
        let is_new = work.write_file(&path, drop_in.as_bytes(), 0o644, Authority::Root)?;
        let file = layout.tunnel_file(tunnel.id);
        let is_changed = work.write_file(&file, content.as_bytes(), 0o644, Authority::Root)?;
        if is_new {
            work.host().expect(&daemon_reload())?;
        }
        Ok(is_new || is_changed)
    }

    fn start(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
        _is_changed: bool,
    ) -> Result<()> {
        host.expect(&systemctl("enable", &instance(tunnel)))?;
        host.expect(&systemctl("restart", &instance(tunnel)))?;
        Ok(())
    }

    fn stop(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()> {
        if !host.exists(&unit_path(layout, &instances())) {
            return Ok(());
        }
        end(host, tunnel)
    }

    fn remove_files(
        &self,
        _: &HostLock,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<()> {
        shared::remove(host, layout, &drop_in_path(layout, tunnel))?;
        shared::remove_if_empty(host, layout, &drop_in_dir(layout, tunnel))?;
        host.remove_file(&layout.tunnel_file(tunnel), Authority::Root)
    }

    fn remove_unless_used(
        &self,
        lock: &HostLock,
        host: &dyn Host,
        layout: &Layout,
    ) -> Result<bool> {
        if shared::is_used(host, layout)? {
            return Ok(false);
        }
        let path = unit_path(layout, &umbrella());
        if host.exists(&path) && shared::is_ours(host, &path)? {
            host.expect(&systemctl("stop", &umbrella()))?;
            host.expect(&systemctl("disable", &umbrella()))?;
        }
        for unit in [instances(), umbrella()] {
            shared::remove(host, layout, &unit_path(layout, &unit))?;
        }
        shared::remove_if_empty(host, layout, &layout.tunnels_dir())?;
        host.expect(&daemon_reload())?;
        foreign::put_back_what_was_left(lock, host, layout)?;
        Ok(true)
    }

    fn journal(&self, host: &dyn Host, tunnel: TunnelName, lines: usize) -> Option<Command> {
        host.which("journalctl")?;
        let journalctl = Command::new("journalctl")
            .args(["--unit", &instance(tunnel)])
            .args(["--lines", &lines.to_string()])
            .args(["--no-pager", "--quiet", "--output", "short-iso"]);
        Some(journalctl)
    }

    fn start_failure(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<StartFailure>> {
        let Some((failure, start)) = reason::ask(host, &instance(tunnel), tunnel)? else {
            return Ok(None);
        };
        let lines = match self.journal(host, tunnel, JOURNAL_LINES_READ) {
            Some(journal) => last_lines(host, of_start(journal, &start))?,
            None => Vec::new(),
        };
        let lines = reasons_among(&lines, &instance(tunnel));
        Ok(Some(StartFailure { lines, ..failure }))
    }

    fn foresee(&self, host: &dyn Host, proofs: &mut Proofs) -> Result<()> {
        if reason::has_refused_mounts(host)? {
            proofs.could_not_see(
                "mount sandboxing of the tunnel",
                "systemd could not set it up for another unit of this host; if it cannot here, the tunnel runs without",
            );
        }
        Ok(())
    }

    fn start_without_mounts(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> Result<bool> {
        self.put_drop_in(work, tunnel, Mounts::OfTheHost)?;
        Ok(true)
    }

    fn start_with_mounts(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> Result<()> {
        self.put_drop_in(work, tunnel, Mounts::Own)
    }

    fn note(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<&'static str>> {
        let mounts = Mounts::of(host, layout, tunnel)?;
        Ok((mounts == Mounts::OfTheHost).then_some(
            "its unit runs without mount sandboxing, which systemd could not set up on this host",
        ))
    }

    fn control(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnels: &[TunnelName],
        action: Action,
    ) -> Result<()> {
        let is_shared = super::is_shared_with_others(self, host, layout)?;
        let has_file = |tunnel: &&TunnelName| host.exists(&layout.tunnel_file(**tunnel));
        let own = tunnels
            .iter()
            .filter(|tunnel| is_shared || has_file(tunnel));
        let own = own.map(|tunnel| instance(*tunnel));
        let units: Vec<String> = (!is_shared).then(umbrella).into_iter().chain(own).collect();
        // Of what comes with the umbrella alone, nobody waits: how an instance failed before would be told.
        if let [first, others @ ..] = &units[..] {
            host.expect(&systemctl(action.as_str(), first).args(others))?;
        }
        Ok(())
    }

    fn restart_one(&self, host: &dyn Host, _layout: &Layout, tunnel: TunnelName) -> Result<()> {
        host.expect(&systemctl("restart", &instance(tunnel)))?;
        Ok(())
    }

    fn status(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<ServiceState> {
        if !host.exists(&unit_path(layout, &instances())) {
            return Ok(ServiceState::Unknown);
        }
        // Asking needs no rights.
        let mut command = systemctl("is-active", &instance(tunnel));
        command.authority = Authority::User;
        Ok(match host.run(&command)?.stdout.trim() {
            "active" => ServiceState::Running,
            "failed" | "activating" => ServiceState::Dead,
            "inactive" | "deactivating" => ServiceState::Stopped,
            _ => ServiceState::Unknown,
        })
    }

    fn paths(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PathBuf> {
        vec![
            unit_path(layout, &umbrella()),
            unit_path(layout, &instances()),
            drop_in_path(layout, tunnel),
            layout.tunnel_file(tunnel),
        ]
    }

    fn files(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> Result<Vec<(PathBuf, String)>> {
        let mounts = Mounts::of(host, layout, tunnel.id)?;
        let units = units(layout)?.map(|unit| (unit.path, unit.content));
        let own = [
            (drop_in_path(layout, tunnel.id), drop_in_of(tunnel, mounts)?),
            (layout.tunnel_file(tunnel.id), tunnel.render()?),
        ];
        Ok(units.into_iter().chain(own).collect())
    }

    fn starts_at_boot(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<bool>> {
        // The umbrella is wanted at boot, and wants the instance.
        for unit in [umbrella(), instance(tunnel)] {
            let mut command = systemctl("is-enabled", &unit);
            command.authority = Authority::User;
            if host.run(&command)?.stdout.trim() != "enabled" {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}
