//! What the package manager has to install. What is there is used as it is.

use anyhow::Context as _;

use super::{Outcome, RevertReason, Step, StepName};
use crate::bastion::changes::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::Host;
use crate::bastion::packages::{self, Need, PackageManager};
use crate::bastion::receipt::Scope;
use crate::bastion::session::{Session, Work};

/// The step.
pub struct Packages {
    /// The host's package manager; a host without one must lack nothing.
    pub manager: Option<Box<dyn PackageManager>>,
    /// What is missing.
    pub needs: Vec<Need>,
}

impl Packages {
    fn names(&self) -> Vec<String> {
        let manager = self.manager.iter();
        manager
            .flat_map(|manager| {
                self.needs
                    .iter()
                    .map(|need| manager.package(*need).to_owned())
            })
            .collect()
    }

    fn check_found(&self, host: &dyn Host) -> anyhow::Result<()> {
        for program in self.needs.iter().flat_map(|need| need.programs()) {
            host.which(program).with_context(|| {
                Failure::new(
                    format!("packages were installed, and {program} is still not to be found"),
                    "check that /usr/bin and /usr/local/bin are in PATH",
                )
            })?;
        }
        Ok(())
    }
}

impl Step for Packages {
    fn name(&self) -> StepName {
        StepName::Packages
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        if self.needs.is_empty() {
            "Use curl, ssh and autossh as they are installed".to_owned()
        } else {
            format!("Install {}", self.names().join(", "))
        }
    }

    fn commands(&self) -> Vec<String> {
        if self.needs.is_empty() {
            return Vec::new();
        }
        let manager = self.manager.iter();
        manager
            .map(|manager| manager.install_command(&self.names()).to_string())
            .collect()
    }

    fn needs_root(&self) -> bool {
        !self.needs.is_empty()
    }

    fn apply(&self, work: &mut Work) -> anyhow::Result<Outcome> {
        let (Some(manager), false) = (&self.manager, self.needs.is_empty()) else {
            return Ok(Outcome::AlreadyPresent("nothing to install".to_owned()));
        };
        let names = self.names();
        let added = manager.would_install(work.host(), &names)?;
        work.record(Change::PackagesInstalled {
            manager: manager.name().to_owned(),
            packages: added,
        })?;
        manager.install(work.host(), &names)?;
        self.check_found(work.host())?;
        Ok(Outcome::Changed(names.join(", ")))
    }
}

/// A failed run leaves the host as it was. A removal leaves the packages, since other software may
/// have come to rely on them.
pub(super) fn revert(
    session: &Session,
    change: &Change,
    reason: RevertReason,
) -> anyhow::Result<()> {
    match (change, reason) {
        (Change::PackagesInstalled { manager, packages }, RevertReason::Rollback) => {
            packages::by_name(manager)?.remove(session.host, packages)
        }
        _ => Ok(()),
    }
}
