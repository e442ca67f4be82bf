//! Service managers, one type each, behind [`ServiceManager`].
//!
//! The definition of the service is static; each tunnel is one small file of its own, so adding or
//! removing a tunnel never rewrites, restarts or breaks its siblings.
//!
//! To add one: a file beside this one that implements the trait, its files as templates, and a line
//! in [`manager`].

mod boot;
pub mod foreign;
mod launchd;
mod systemd;
mod sysv;
mod tunnel_file;

use std::path::PathBuf;

use anyhow::bail;

pub use foreign::ForeignScript;
pub use tunnel_file::{ServiceTunnel, check_home};

use super::facts::Init;
use super::failure::Failure;
use super::host::{Command, Host};
use super::layout::Layout;
use super::run::StepContext;
use crate::bastion::tunnel_name::TunnelName;

/// The service's name on every host.
pub const SERVICE_NAME: &str = "h_autossh";

/// Stands in every file we write into the system's folders: how we know our own.
pub const MARKER: &str = "Written by holistics-tunnel; do not edit";

/// Whether the service runs a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Its autossh runs.
    Running,
    /// It was started and is not there any more.
    Dead,
    /// It was not started, or was stopped.
    Stopped,
    /// The service manager does not know it.
    Unknown,
}

/// What can be done with all tunnels at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start what does not run.
    Start,
    /// Stop all of them.
    Stop,
    /// Stop and start them.
    Restart,
}

impl Action {
    /// The word that init scripts and systemctl know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Restart => "restart",
        }
    }
}

/// A service manager.
pub trait ServiceManager {
    /// A script of somebody else's where this service manager would find it, beside or in place of
    /// ours.
    ///
    /// # Errors
    /// It cannot be read.
    fn foreign(&self, host: &dyn Host, layout: &Layout) -> anyhow::Result<Option<ForeignScript>> {
        foreign::find(host, layout)
    }

    /// What the plan says about [`ServiceManager::install`].
    fn install_commands(&self, layout: &Layout) -> Vec<String>;

    /// What the plan says about [`ServiceManager::add`].
    fn add_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<String>;

    /// Looks for what stands in the way, and changes nothing.
    ///
    /// # Errors
    /// The service manager cannot be used as it was asked for.
    fn check(&self, host: &dyn Host, layout: &Layout) -> anyhow::Result<()>;

    /// Puts the static definition in place and registers it to start at boot. A script of somebody
    /// else's that stands in its place is moved aside before, if there is one and it may be.
    ///
    /// # Errors
    /// A file that is not ours is in the way, or the host refuses.
    fn install(
        &self,
        work: &mut StepContext,
        foreign: Option<&ForeignScript>,
    ) -> anyhow::Result<()>;

    /// Writes a tunnel's file and starts it. Its siblings are not touched.
    ///
    /// # Errors
    /// The host refuses.
    fn add(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> anyhow::Result<()>;

    /// Stops a tunnel. Its file is removed by undoing the change that made it.
    ///
    /// # Errors
    /// The service manager refuses.
    fn stop(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> anyhow::Result<()>;

    /// The command that shows what the service manager itself has noted about a tunnel, at most so
    /// many lines; nothing where it keeps no notes. What ssh and autossh say is in the tunnel's own
    /// log under every service manager.
    fn journal(&self, _host: &dyn Host, _tunnel: TunnelName, _lines: usize) -> Option<Command> {
        None
    }

    /// Starts, stops or restarts all of these tunnels.
    ///
    /// # Errors
    /// The service manager refuses.
    fn govern(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnels: &[TunnelName],
        action: Action,
    ) -> anyhow::Result<()>;

    /// Restarts one tunnel with the definition that the service manager has of it; its siblings are
    /// not touched. A tunnel whose file was changed is put in place with [`ServiceManager::add`].
    ///
    /// # Errors
    /// The service manager refuses.
    fn restart_one(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<()>;

    /// The file that says what a tunnel's process is to do, and its content.
    ///
    /// # Errors
    /// A value cannot stand in such a file.
    fn definition(
        &self,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> anyhow::Result<(PathBuf, String)> {
        Ok((layout.tunnel_file(tunnel.id), tunnel.render()?))
    }

    /// Restarts one tunnel with what stands in its file by now.
    ///
    /// # Errors
    /// The service manager refuses.
    fn restart_from_file(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<()> {
        self.restart_one(host, layout, tunnel)
    }

    /// Whether the service runs a tunnel.
    ///
    /// # Errors
    /// The service manager cannot be asked.
    fn status(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<ServiceState>;

    /// Where the files stand that this tunnel needs, the static definition among them.
    fn paths(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PathBuf>;

    /// The files as they have to be for this tunnel, the static definition among them.
    ///
    /// # Errors
    /// A value cannot stand in such a file.
    fn files(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> anyhow::Result<Vec<(PathBuf, String)>>;

    /// Whether the host starts the tunnel at boot; nothing where it is not registered on purpose.
    ///
    /// # Errors
    /// The service manager cannot be asked.
    fn starts_at_boot(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<Option<bool>>;

    /// Takes back the registration at boot. The files are removed by undoing the changes that made
    /// them.
    ///
    /// # Errors
    /// The service manager refuses.
    fn disable(&self, host: &dyn Host, layout: &Layout) -> anyhow::Result<()>;

    /// Renames.
    ///
    /// # Errors
    /// None yet.
    fn rename(&self, _: &mut StepContext, _: TunnelName, _: &ServiceTunnel) -> anyhow::Result<()> {
        Ok(())
    }

    /// Takes the definition of the service away once no tunnel of anybody is left on this host.
    ///
    /// # Errors
    /// The host refuses.
    fn remove_unless_used(&self, _host: &dyn Host, _layout: &Layout) -> anyhow::Result<()> {
        Ok(())
    }

    /// Has the service manager read its definitions again, where it keeps them in memory.
    ///
    /// # Errors
    /// The service manager refuses.
    fn reload(&self, _host: &dyn Host) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The service manager for an init system.
///
/// # Errors
/// This version has none for it.
pub fn manager(init: Init) -> anyhow::Result<Box<dyn ServiceManager>> {
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
