//! systemd: `h_autossh.service`, the umbrella, and one instance of `h_autossh@.service` for each
//! tunnel.
//!
//! An instance is wanted by the umbrella and part of it, so start, stop and restart of `h_autossh`
//! reach all of them, and each of them lives and dies alone. The two units are the same for all users;
//! an instance's user and what it may write stand in a drop-in of its own.

mod journal;
mod orders;
mod reason;
mod rehearsal;
mod units;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::shared;
use super::{
    Action, AtBoot, ForeignScript, ServiceManager, ServiceState, ServiceTunnel, StartFailure,
    Trial, foreign, installed_tunnels,
};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt, HostLock, Output};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::steps::PlannedCommand;
use crate::bastion::tunnel_name::TunnelName;
use journal::{last_lines, of_start, of_unit, reasons_among, waited_for};
use orders::{PUT_BACK, daemon_reload, enable, read_anew, start_alone, systemctl};
use units::{
    Mounts, drop_in, drop_in_dir, drop_in_of, drop_in_path, instance, instances, umbrella,
    unit_path, units,
};

/// When the umbrella is enabled and started for itself.
const BESIDE_OTHERS: &str = "if it is there already";

pub struct Systemd;

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

/// Puts what is shared in place, and returns whether anything was missing. systemd has yet to read it: see [`enable`].
fn put_in_place(lock: &HostLock, host: &dyn Host, layout: &Layout) -> Result<bool> {
    let units = units(layout)?;
    shared::refuse_foreign(host, layout, &units)?;
    shared::make_dir(host, layout, &layout.tunnels_dir())?;
    let mut is_changed = give_drop_ins(lock, host, layout)?;
    is_changed |= shared::write(lock, host, layout, &units)?;
    Ok(is_changed)
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

impl ServiceManager for Systemd {
    fn install_commands(&self, layout: &Layout) -> Vec<PlannedCommand> {
        vec![
            shared::lock_command(layout),
            shared::mkdir_command(layout, layout.tunnels_dir()),
            shared::write_command(layout, unit_path(layout, &instances()), 0o644),
            shared::write_command(layout, unit_path(layout, &umbrella()), 0o644),
            PlannedCommand::from(enable(&[umbrella()])).only(BESIDE_OTHERS),
            PlannedCommand::from(start_alone()).only(BESIDE_OTHERS),
        ]
    }

    fn foreign_stops(&self, _layout: &Layout, foreign: &ForeignScript) -> Vec<Command> {
        let by_itself = Command::new(foreign.path.to_string_lossy()).arg("stop");
        vec![systemctl("stop", &umbrella()), by_itself]
    }

    fn add_commands(
        &self,
        layout: &Layout,
        tunnel: TunnelName,
        at_boot: AtBoot,
    ) -> Vec<PlannedCommand> {
        let mut commands = vec![
            shared::lock_command(layout),
            shared::mkdir_command(layout, drop_in_dir(layout, tunnel)),
            shared::write_command(layout, drop_in_path(layout, tunnel), 0o644),
            shared::write_command(layout, layout.tunnel_file(tunnel), 0o644),
            read_anew(tunnel, at_boot).into(),
        ];
        let more = PUT_BACK.into_iter().filter(|(more, _)| *more > at_boot);
        commands.extend(
            more.map(|(more, when)| PlannedCommand::from(read_anew(tunnel, more)).only(when)),
        );
        commands.extend([start_alone(), systemctl("restart", &instance(tunnel))].map(Into::into));
        commands
    }

    fn uninstall_commands(&self, layout: &Layout) -> Vec<PlannedCommand> {
        vec![
            shared::lock_command(layout),
            systemctl("stop", &umbrella()).into(),
            systemctl("disable", &umbrella()).into(),
            shared::rm_command(layout, unit_path(layout, &instances())),
            shared::rm_command(layout, unit_path(layout, &umbrella())),
            shared::rmdir_command(layout, layout.tunnels_dir()),
            daemon_reload().into(),
        ]
    }

    fn remove_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PlannedCommand> {
        let unit = instance(tunnel);
        vec![
            shared::lock_command(layout),
            systemctl("stop", &unit).into(),
            systemctl("disable", &unit).into(),
            PlannedCommand::from(systemctl("reset-failed", &unit)).only("if it has failed"),
            shared::rm_command(layout, drop_in_path(layout, tunnel)),
            shared::rmdir_command(layout, drop_in_dir(layout, tunnel)),
            shared::rm_command(layout, layout.tunnel_file(tunnel)),
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
        let was_there = host.exists(&unit_path(&layout, &umbrella()));
        let is_changed = put_in_place(&lock, host, &layout)?;
        // Where it is new, the start of its first tunnel does that, and systemd reads its units once.
        if was_there {
            host.expect(&enable(&[umbrella()]))?;
            host.expect(&start_alone())?;
        }
        Ok(is_changed || foreign.is_some())
    }

    fn ensure_shared(&self, lock: &HostLock, host: &dyn Host, layout: &Layout) -> Result<bool> {
        let was_there = host.exists(&unit_path(layout, &umbrella()));
        put_in_place(lock, host, layout)?;
        Ok(!was_there)
    }

    fn write_files(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> Result<bool> {
        let layout = work.layout().clone();
        let drop_in = drop_in_of(tunnel, Mounts::for_tunnel(work.host(), &layout, tunnel)?)?;
        let content = tunnel.render()?;
        // The drop-in comes first: no instance is without it for a moment.
        work.create_dir(&drop_in_dir(&layout, tunnel.id), 0o755, Authority::Root)?;
        let path = drop_in_path(&layout, tunnel.id);
        let is_new = work.write_file(&path, drop_in.as_bytes(), 0o644, Authority::Root)?;
        let file = layout.tunnel_file(tunnel.id);
        let is_changed = work.write_file(&file, content.as_bytes(), 0o644, Authority::Root)?;
        Ok(is_new || is_changed)
    }

    fn start(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
        _is_changed: bool,
        at_boot: AtBoot,
    ) -> Result<()> {
        host.expect(&read_anew(tunnel, at_boot))?;
        host.expect(&start_alone())?;
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
        of_unit(host, &instance(tunnel), lines)
    }

    fn start_failure(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<StartFailure>> {
        let unit = instance(tunnel);
        let Some(asked) = reason::ask(host, &unit, tunnel)? else {
            return Ok(None);
        };
        let lines = match of_start(host, &unit, &asked.start) {
            Some(journal) => last_lines(host, journal, waited_for(asked.status))?,
            None => Vec::new(),
        };
        let lines = reasons_among(&lines, &unit);
        Ok(Some(StartFailure {
            lines,
            ..asked.failure
        }))
    }

    fn rehearsals(&self, host: &dyn Host, layout: &Layout, trial: &Trial) -> Result<Vec<Command>> {
        rehearsal::commands(host, layout, trial)
    }

    fn rehearsal_failure(
        &self,
        host: &dyn Host,
        layout: &Layout,
        trial: &Trial,
        output: &Output,
        since: jiff::Timestamp,
    ) -> Result<Option<StartFailure>> {
        rehearsal::failure(host, layout, trial, output, since)
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
            host.expect(&systemctl(action.into_str(), first).args(others))?;
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
        let mounts = Mounts::for_tunnel(host, layout, tunnel)?;
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
