//! Service managers, one type each, behind [`ServiceManager`].
//!
//! The definition of the service is static and the same for all users of a host (`shared.rs`); each
//! tunnel has small files of its own, so adding or removing a tunnel never rewrites, restarts or breaks
//! its siblings, whoever they belong to.
//!
//! To add one: a file beside this one that implements the trait, its files as templates, and a line
//! in [`manager`].

mod at_boot;
mod boot;
pub mod foreign;
mod installed;
mod launchd;
mod shared;
mod start_failure;
mod systemd;
pub(super) mod sysv;
#[cfg(test)]
mod tests;
mod trial;
mod tunnel_file;

use std::path::PathBuf;

use anyhow::{Result, bail};

pub use at_boot::AtBoot;
pub use foreign::{ForeignScript, put_back_command};
pub use installed::{InstalledTunnel, installed_tunnels};
pub use start_failure::StartFailure;
pub use trial::Trial;
#[cfg(test)]
pub(crate) use tunnel_file::example;
pub use tunnel_file::{ServiceTunnel, check_home, check_user};

use super::change::Change;
use super::facts::Init;
use super::failure::Failure;
use super::host::{Authority, Command, Host, HostExt as _, HostLock, Output};
use super::layout::Layout;
use super::run::StepContext;
use super::steps::PlannedCommand;
use super::ui::Ui;
use crate::bastion::tunnel_name::TunnelName;

/// The service's name on every host.
pub const SERVICE_NAME: &str = "h_autossh";

/// Stands in every file we write into the system's folders: how we know our own.
pub const MARKER: &str = "Written by holistics-tunnel; do not edit";

/// Whether the service runs a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    Running,
    /// It was started and is not there any more.
    Dead,
    /// It was not started, or was stopped.
    Stopped,
    /// The service manager does not know it.
    Unknown,
}

/// What can be done with all tunnels at once, by the words of init scripts and systemctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Action {
    Start,
    Stop,
    Restart,
}

pub trait ServiceManager {
    /// A script of somebody else's where this service manager would find it, beside or in place of
    /// ours.
    fn foreign(&self, host: &dyn Host, layout: &Layout) -> Result<Option<ForeignScript>> {
        foreign::find(host, layout)
    }

    /// What the plan says about [`ServiceManager::install`].
    fn install_commands(&self, layout: &Layout) -> Vec<PlannedCommand>;

    /// What stops the tunnels of a script of somebody else's, the likeliest first.
    fn foreign_stops(&self, _layout: &Layout, _foreign: &ForeignScript) -> Vec<Command> {
        Vec::new()
    }

    /// What the plan says about [`ServiceManager::add`].
    fn add_commands(
        &self,
        layout: &Layout,
        tunnel: TunnelName,
        at_boot: AtBoot,
    ) -> Vec<PlannedCommand>;

    /// What undoes [`ServiceManager::install`], with the last tunnel of anybody.
    fn uninstall_commands(&self, layout: &Layout) -> Vec<PlannedCommand>;

    /// What undoes [`ServiceManager::add`].
    fn remove_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PlannedCommand>;

    /// Looks for what stands in the way, and changes nothing.
    fn check(&self, host: &dyn Host, layout: &Layout) -> Result<()>;

    /// Takes the lock of the host, under which what users share is changed and tunnels' files come and go.
    fn lock(&self, host: &dyn Host, ui: &Ui, layout: &Layout) -> Result<HostLock> {
        shared::lock(host, ui, layout)
    }

    /// Puts the definition that all users share in place, registers it to start at boot (or leaves that to the start
    /// of its first tunnel), and records it as [`Change::ServiceInstalled`]. Nobody's tunnel is restarted by it. A
    /// script of somebody else's that stands in its place is moved aside before, if there is one and it may be. Returns
    /// whether anything was missing.
    fn install(&self, work: &mut StepContext, foreign: Option<&ForeignScript>) -> Result<bool>;

    /// Puts what is shared back where it is missing, such as after the removal of another user's last
    /// tunnel. A tunnel is started next. Returns whether the service was gone.
    fn ensure_shared(&self, lock: &HostLock, host: &dyn Host, layout: &Layout) -> Result<bool>;

    /// Writes a tunnel's own files, and records them. Returns whether one was missing or different.
    fn write_files(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> Result<bool>;

    /// Starts a tunnel; anew where its files have changed. An init script starts at boot as a whole, and launchd
    /// starts only what it also starts at boot.
    fn start(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
        is_changed: bool,
        at_boot: AtBoot,
    ) -> Result<()>;

    /// Puts a tunnel's files in place and starts it. Its siblings are not touched. What was gone starts at boot
    /// again in any case: its removal took that with it, and nobody has decided otherwise.
    fn add(
        &self,
        work: &mut StepContext,
        tunnel: &ServiceTunnel,
        mut at_boot: AtBoot,
    ) -> Result<()> {
        let (host, layout) = (work.host(), work.layout().clone());
        let lock = self.lock(host, work.run.ui, &layout)?;
        if self.ensure_shared(&lock, host, &layout)? {
            at_boot = AtBoot::Enabled;
        }
        if !host.exists(&self.tunnel_file(&layout, tunnel.id)) {
            at_boot = at_boot.max(AtBoot::WithTheService);
        }
        let is_changed = self.write_files(work, tunnel)?;
        work.record(Change::ServiceTunnelStarted)?;
        drop(lock);
        self.start(host, &layout, tunnel.id, is_changed, at_boot)
    }

    /// Has a tunnel of the service go on under another name: its former instance ends, and the new one starts
    /// right after. The former's files stay. It may be repeated after a run that died in it.
    fn rename(
        &self,
        work: &mut StepContext,
        from: TunnelName,
        tunnel: &ServiceTunnel,
    ) -> Result<()> {
        let (host, layout) = (work.host(), work.layout().clone());
        let lock = self.lock(host, work.run.ui, &layout)?;
        let at_boot = if self.ensure_shared(&lock, host, &layout)? {
            AtBoot::Enabled
        } else {
            AtBoot::WithTheService
        };
        self.write_files(work, tunnel)?;
        work.record(Change::TunnelRenamed { to: tunnel.id })?;
        if host.exists(&self.tunnel_file(&layout, from)) {
            self.stop(host, &layout, from)?;
        }
        rename_logs(host, &layout, from, tunnel.id)?;
        self.start(host, &layout, tunnel.id, true, at_boot)
    }

    /// Stops a tunnel, for good. Its files stay; see [`ServiceManager::remove_files`].
    fn stop(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()>;

    /// Removes the files of a tunnel that was stopped, whoever's run made them. The one by which root finds
    /// it goes last, so that a run that dies before can be done again.
    fn remove_files(
        &self,
        lock: &HostLock,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<()>;

    /// Takes back what all tunnels share, unless a tunnel of anybody is left. Returns whether it did.
    fn remove_unless_used(&self, lock: &HostLock, host: &dyn Host, layout: &Layout)
    -> Result<bool>;

    /// The tunnels of all users of this host.
    fn installed(&self, host: &dyn Host, layout: &Layout) -> std::io::Result<Vec<InstalledTunnel>> {
        installed_tunnels(host, layout)
    }

    /// The command that shows what the service manager itself has noted about a tunnel, at most so
    /// many lines; nothing where it keeps no notes. What ssh and autossh say is in the tunnel's own
    /// log under every service manager.
    fn journal(&self, _host: &dyn Host, _tunnel: TunnelName, _lines: usize) -> Option<Command> {
        None
    }

    /// Why a tunnel's program could not even be started, where the service manager knows. It asks nothing at
    /// the terminal.
    fn start_failure(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<StartFailure>>;

    /// What has it start autossh and ssh just as it will start a tunnel, nothing of which is left; a second one is for
    /// hosts that can start it only without mounts. None where there is no such way.
    fn rehearsals(&self, _: &dyn Host, _: &Layout, _: &Trial) -> Result<Vec<Command>> {
        Ok(Vec::new())
    }

    /// Why the tunnel could not be started here, by what came of a rehearsal that began then; nothing where that
    /// does not tell.
    fn rehearsal_failure(
        &self,
        _: &dyn Host,
        _: &Layout,
        _: &Trial,
        _: &Output,
        _since: jiff::Timestamp,
    ) -> Result<Option<StartFailure>> {
        Ok(None)
    }

    /// What is worth knowing of how the service runs a tunnel.
    fn note(&self, _: &dyn Host, _: &Layout, _: TunnelName) -> Result<Option<&'static str>> {
        Ok(None)
    }

    /// Starts, stops or restarts all of these tunnels, which are those of the user who runs this. Where
    /// nobody else has tunnels, it is the service as a whole that is asked.
    fn control(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnels: &[TunnelName],
        action: Action,
    ) -> Result<()>;

    /// Restarts one tunnel with the definition that the service manager has of it; its siblings are
    /// not touched. A tunnel whose file was changed is put in place with [`ServiceManager::add`].
    fn restart_one(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()>;

    /// Whether the service runs a tunnel.
    fn status(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<ServiceState>;

    /// The file by which the service runs a tunnel.
    fn tunnel_file(&self, layout: &Layout, tunnel: TunnelName) -> PathBuf {
        layout.tunnel_file(tunnel)
    }

    /// Where the files stand that this tunnel needs, the static definition among them.
    fn paths(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PathBuf>;

    /// The files as they have to be for this tunnel, the static definition among them.
    fn files(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> Result<Vec<(PathBuf, String)>>;

    /// Whether the host starts the tunnel at boot; nothing where it is not registered on purpose.
    fn starts_at_boot(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<bool>>;
}

/// Whether the service is to be governed tunnel by tunnel, since others have tunnels here, too. root
/// governs everybody's.
fn is_shared_with_others(
    manager: &dyn ServiceManager,
    host: &dyn Host,
    layout: &Layout,
) -> Result<bool> {
    let user = host.user();
    let tunnels = manager.installed(host, layout)?;
    Ok(user.uid != 0 && tunnels.iter().any(|tunnel| tunnel.user != user.name))
}

/// Whether all files that this tunnel needs are as they have to be.
pub fn is_in_place(
    manager: &dyn ServiceManager,
    host: &dyn Host,
    layout: &Layout,
    tunnel: &ServiceTunnel,
) -> Result<bool> {
    for (path, content) in manager.files(host, layout, tunnel)? {
        if host.read_if_present(&path)?.as_deref() != Some(content.as_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Undoes [`Change::ServiceInstalled`], and what former versions recorded in its place.
pub fn undo_installed(
    manager: &dyn ServiceManager,
    host: &dyn Host,
    ui: &Ui,
    layout: &Layout,
) -> Result<()> {
    let lock = manager.lock(host, ui, layout)?;
    manager.remove_unless_used(&lock, host, layout)?;
    Ok(())
}

/// Undoes [`Change::ServiceReplaced`]. Nothing of it is undone while a tunnel of anybody is left: then
/// it is left to the last one's removal. Returns whether the script is back.
pub fn undo_replaced(
    manager: &dyn ServiceManager,
    host: &dyn Host,
    ui: &Ui,
    layout: &Layout,
    change: &Change,
) -> Result<bool> {
    let lock = manager.lock(host, ui, layout)?;
    foreign::put_back(&lock, host, layout, change)
}

/// Undoes [`Change::ServiceTunnelStarted`]: the tunnel is stopped, and its logs go.
pub fn undo_tunnel_started(
    manager: &dyn ServiceManager,
    host: &dyn Host,
    layout: &Layout,
    tunnel: TunnelName,
) -> Result<()> {
    manager.stop(host, layout, tunnel)?;
    host.remove_file(&layout.former_tunnel_log(tunnel), Authority::User)?;
    host.remove_file(&layout.tunnel_log(tunnel), Authority::User)
}

/// Undoes [`Change::TunnelRenamed`] but for the start of the tunnel under its former name.
pub fn undo_renamed(
    manager: &dyn ServiceManager,
    host: &dyn Host,
    layout: &Layout,
    from: TunnelName,
    to: TunnelName,
) -> anyhow::Result<()> {
    manager.stop(host, layout, to)?;
    rename_logs(host, layout, to, from)
}

/// Removes the file that the service runs a tunnel by, and with it whatever else the tunnel has, also what
/// another user's run gave it.
pub fn remove_tunnel(
    manager: &dyn ServiceManager,
    host: &dyn Host,
    ui: &Ui,
    layout: &Layout,
    tunnel: TunnelName,
) -> Result<()> {
    let lock = manager.lock(host, ui, layout)?;
    manager.remove_files(&lock, host, layout, tunnel)
}

/// Moves the logs of a tunnel to its new name; what is there under that name is newer.
fn rename_logs(host: &dyn Host, layout: &Layout, from: TunnelName, to: TunnelName) -> Result<()> {
    let logs = [
        (layout.tunnel_log(from), layout.tunnel_log(to)),
        (layout.former_tunnel_log(from), layout.former_tunnel_log(to)),
    ];
    for (former, new) in logs {
        if host.exists(&former) {
            let mv = Command::new("mv")
                .args(["-n", "--"])
                .path(&former)
                .path(&new);
            host.expect(&mv)?;
            host.remove_file(&former, Authority::User)?;
        }
    }
    Ok(())
}

/// The service manager for an init system.
pub fn manager(init: Init) -> Result<Box<dyn ServiceManager>> {
    match init {
        Init::Systemd => Ok(Box::new(systemd::Systemd)),
        Init::Sysv => Ok(Box::new(sysv::Sysv)),
        Init::Launchd => Ok(Box::new(launchd::Launchd)),
        Init::None => bail!(Failure::usage(
            "this host has no service manager",
            "run the tunnel in the foreground under a supervisor; setup shows the command",
        )),
    }
}
