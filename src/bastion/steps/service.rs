//! The definition of the `h_autossh` service, the same for all tunnels.

use anyhow::ensure;

use super::{Outcome, PlannedCommand, Proofs, Step, StepName};
use crate::bastion::facts::Init;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;
use crate::bastion::service::{self, ForeignScript, SERVICE_NAME, ServiceManager, foreign};

pub struct Service {
    pub layout: Layout,
    pub init: Init,
    pub manager: Box<dyn ServiceManager>,
    /// A script of somebody else's that has to make room, with its owner's yes.
    pub foreign: Option<ForeignScript>,
}

impl Step for Service {
    fn name(&self) -> StepName {
        StepName::Service
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        format!("Install the service {SERVICE_NAME}, started at boot")
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        let mut commands = Vec::new();
        if let Some(foreign) = &self.foreign {
            let stops = self.manager.foreign_stops(&self.layout, foreign);
            commands.extend(foreign.commands(&self.layout, stops));
        }
        commands.extend(self.manager.install_commands(&self.layout));
        commands
    }

    fn undo_commands(&self) -> Vec<PlannedCommand> {
        let foreign = self.foreign.iter();
        let put_back = foreign.map(|foreign| foreign.put_back_command(&self.layout));
        let uninstall = self.manager.uninstall_commands(&self.layout).into_iter();
        uninstall.chain(put_back).collect()
    }

    fn needs_root(&self) -> bool {
        self.layout.system_authority() == Authority::Root
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        service::check_home(&self.layout)?;
        self.manager.check(host, &self.layout)?;
        if let Some(foreign) = &self.foreign {
            foreign.check(host, &self.layout)?;
        }
        proofs.saw(format!("the name {SERVICE_NAME} is free or ours"));
        Ok(())
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        work.run.receipt.init = Some(self.init);
        self.refuse_unseen_script(work.host())?;
        let is_changed = self.manager.install(work, self.foreign.as_ref())?;
        let said = format!("service {SERVICE_NAME}");
        Ok(if is_changed {
            Outcome::Changed(said)
        } else {
            Outcome::AlreadyPresent(said)
        })
    }
}

impl Service {
    /// Only the very script that its owner was shown makes room.
    fn refuse_unseen_script(&self, host: &dyn Host) -> anyhow::Result<()> {
        let found = self.manager.foreign(host, &self.layout)?;
        ensure!(
            found.is_none() || found == self.foreign,
            Failure::new(
                format!(
                    "{} appeared or changed after the plan was shown, and was not written by holistics-tunnel",
                    foreign::script_path(&self.layout).display()
                ),
                "run the same command again to see it",
            )
        );
        Ok(())
    }
}
