//! A host without a service manager, such as a container: the temporary tunnel ends, and whoever
//! supervises this host runs the tunnel in the foreground.

use anyhow::Context as _;

use super::autossh::installed;
use super::service_tunnel::report_installed;
use super::temporary_tunnel::{self, enrolled_forward};
use super::{Outcome, PlannedCommand, Step, StepName};
use crate::bastion::host::own_name;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;
use crate::bastion::ssh::Forward;
use crate::bastion::ssh::command_line::foreground_command;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Event;

pub struct Foreground {
    pub layout: Layout,
    pub tunnel: TunnelName,
    /// The command line as far as it is known before enrollment.
    pub preview: Forward,
}

impl Step for Foreground {
    fn name(&self) -> StepName {
        StepName::Foreground
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        "End the temporary tunnel and show the command that runs this one: this host has no service manager".to_owned()
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        vec![foreground_command("autossh", &self.preview).into()]
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let forward = enrolled_forward(work.host(), &work.run.receipt, &self.layout, self.tunnel)?;
        temporary_tunnel::end(work.run, self.tunnel)?;
        report_installed(work.run, self.tunnel, None)?;
        let autossh =
            installed::find(work.host(), &self.layout).context("autossh is no longer installed")?;
        let command = foreground_command(&autossh.to_string_lossy(), &forward);
        work.run.ui.show(&Event::Command {
            introduction: "Have your supervisor run one of these, and restart it if it ends:",
            commands: &[
                format!("{} run {}", own_name(work.host()), self.tunnel),
                command.to_string(),
            ],
        });
        Ok(Outcome::Changed("the commands are above".to_owned()))
    }
}
