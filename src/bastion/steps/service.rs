//! The definition of the `h_autossh` service, the same for all tunnels.

use super::{Outcome, Step, StepName};
use crate::bastion::changes::Change;
use crate::bastion::facts::Init;
use crate::bastion::host::{Authority, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::service::{self, SERVICE_NAME, ServiceManager};
use crate::bastion::session::{Session, Work};

/// The step.
pub struct Service {
    /// The paths.
    pub layout: Layout,
    /// The service manager's name.
    pub init: Init,
    /// The service manager.
    pub manager: Box<dyn ServiceManager>,
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

    fn commands(&self) -> Vec<String> {
        self.manager.install_commands(&self.layout)
    }

    fn needs_root(&self) -> bool {
        self.layout.system_authority() == Authority::Root
    }

    fn check(&self, host: &dyn Host) -> anyhow::Result<()> {
        service::check_home(&self.layout)?;
        self.manager.check(host, &self.layout)
    }

    fn apply(&self, work: &mut Work) -> anyhow::Result<Outcome> {
        work.session.receipt.init = Some(self.init);
        let before = work.session.changes_made();
        self.manager.install(work)?;
        let said = format!("service {SERVICE_NAME}");
        Ok(if work.session.changes_made() == before {
            Outcome::AlreadyPresent(said)
        } else {
            Outcome::Changed(said)
        })
    }
}

pub(super) fn revert(session: &Session, change: &Change) -> anyhow::Result<()> {
    let manager = session.receipt.init.map(service::manager).transpose()?;
    match (change, manager) {
        (Change::ServiceEnabled { .. }, Some(manager)) => {
            manager.disable(session.host, &session.layout)
        }
        (Change::UnitsLoaded, Some(manager)) => manager.reload(session.host),
        _ => change.undo_file(session.host),
    }
}
