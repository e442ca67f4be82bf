//! What the package manager has to install. What is there is used as it is.

use std::path::PathBuf;

use anyhow::ensure;

use super::{Outcome, RevertReason, Step, StepName, autossh};
use crate::bastion::changes::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, CommandError, Host};
use crate::bastion::layout::Layout;
use crate::bastion::packages::{self, Need, PackageManager};
use crate::bastion::receipt::Scope;
use crate::bastion::session::{Session, Work};

/// The step.
pub struct Packages {
    /// The paths.
    pub layout: Layout,
    /// The host's package manager; a host without one lacks nothing but what can be compiled.
    pub manager: Option<Box<dyn PackageManager>>,
    /// What is missing.
    pub needs: Vec<Need>,
    /// An autossh from snap, which is there and cannot be used.
    pub snap: Option<PathBuf>,
    /// Whether the repository with further packages may be enabled.
    pub enable_extra_repository: bool,
    /// Whether this host's `curl` is given what it needs to trust today's servers.
    pub renew_trust: bool,
}

impl Packages {
    /// The manager, where there is something for it to do.
    fn manager(&self) -> Option<&dyn PackageManager> {
        self.manager.as_deref().filter(|_| !self.needs.is_empty())
    }

    fn extra_repository(&self) -> Option<&str> {
        self.manager()?
            .extra_repository()
            .filter(|_| self.enable_extra_repository && self.needs.contains(&Need::Autossh))
    }

    /// Installs what is missing, except an autossh that no repository has. Returns what was asked for.
    fn install_needs(
        &self,
        work: &mut Work,
        manager: &dyn PackageManager,
    ) -> anyhow::Result<Vec<String>> {
        let all = names(manager, &self.needs);
        if self.install_all(work, manager, &all)? {
            return Ok(all);
        }
        let mut installed = Vec::new();
        if let Some(repository) = self.extra_repository() {
            installed.push(repository.to_owned());
            install(work, manager, &installed)?;
            if self.install_all(work, manager, &all)? {
                installed.extend(all);
                return Ok(installed);
            }
        }
        let others = without_autossh(&self.needs);
        let others = names(manager, &others);
        if !others.is_empty() {
            install(work, manager, &others)?;
        }
        installed.extend(others);
        Ok(installed)
    }

    /// Installs these packages, or returns false where autossh is in no repository: it can be had in
    /// another way.
    fn install_all(
        &self,
        work: &mut Work,
        manager: &dyn PackageManager,
        packages: &[String],
    ) -> anyhow::Result<bool> {
        match install(work, manager, packages) {
            Err(error)
                if packages::is_unknown_package(&error) && self.needs.contains(&Need::Autossh) =>
            {
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    fn check_found(&self, host: &dyn Host) -> anyhow::Result<()> {
        for need in without_autossh(&self.needs) {
            ensure!(
                need.is_met(host),
                Failure::new(
                    format!(
                        "packages were installed, and {} is still not to be found",
                        need.name()
                    ),
                    "check that /usr/bin and /usr/local/bin are in PATH",
                )
            );
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
        let what = match self.manager() {
            Some(manager) => format!("Install {}", names(manager, &self.needs).join(", ")),
            None => "Use what is installed of curl, ssh and autossh".to_owned(),
        };
        match &self.snap {
            Some(snap) => format!(
                "{what}; but not {}: a snap can read neither the key nor the pinned host keys",
                snap.display()
            ),
            None => what,
        }
    }

    fn commands(&self) -> Vec<String> {
        let Some(manager) = self.manager() else {
            return Vec::new();
        };
        let mut commands = Vec::new();
        if let Some(renew) = manager.renew_trust().filter(|_| self.renew_trust) {
            commands.push(format!("{renew} (as far as it can be had)"));
        }
        commands.push(
            manager
                .install_command(&names(manager, &self.needs))
                .to_string(),
        );
        if let Some(repository) = self.extra_repository() {
            let enable = manager.install_command(&[repository.to_owned()]);
            commands.push(format!(
                "{enable} (if the other repositories have no autossh)"
            ));
        }
        commands
    }

    fn needs_root(&self) -> bool {
        self.manager()
            .is_some_and(|manager| manager.install_command(&[]).authority == Authority::Root)
    }

    fn check(&self, host: &dyn Host) -> anyhow::Result<()> {
        self.manager().map_or(Ok(()), |manager| manager.check(host))
    }

    fn apply(&self, work: &mut Work) -> anyhow::Result<Outcome> {
        let Some(manager) = self.manager() else {
            return Ok(Outcome::AlreadyPresent("nothing to install".to_owned()));
        };
        if self.renew_trust {
            renew_trust(work, manager)?;
        }
        let installed = self.install_needs(work, manager)?;
        self.check_found(work.host())?;
        let no_autossh = self.needs.contains(&Need::Autossh)
            && autossh::find(work.host(), &self.layout).is_none();
        Ok(match (installed.is_empty(), no_autossh) {
            (true, _) => Outcome::AlreadyPresent("no repository has autossh".to_owned()),
            (false, true) => Outcome::Changed(format!(
                "{}; no repository has autossh",
                installed.join(", ")
            )),
            (false, false) => Outcome::Changed(installed.join(", ")),
        })
    }
}

/// The packages that meet these needs.
pub(super) fn names(manager: &dyn PackageManager, needs: &[Need]) -> Vec<String> {
    needs
        .iter()
        .filter_map(|need| manager.package(*need))
        .map(str::to_owned)
        .collect()
}

fn without_autossh(needs: &[Need]) -> Vec<Need> {
    needs
        .iter()
        .copied()
        .filter(|need| *need != Need::Autossh)
        .collect()
}

/// Installs packages, and records what that adds before it happens and as it turned out.
pub(super) fn install(
    work: &mut Work,
    manager: &dyn PackageManager,
    packages: &[String],
) -> anyhow::Result<()> {
    let host = work.host();
    let mut recorded = None;
    manager.install(host, packages, &mut |added| {
        let change = (!added.is_empty()).then(|| Change::PackagesInstalled {
            manager: manager.name().to_owned(),
            packages: added,
        });
        work.replace(recorded.take(), change.clone())?;
        recorded = change;
        Ok(())
    })
}

/// Brings curl's TLS up to date on hosts that are too old for today's servers. Most of these hosts'
/// repositories are gone, and curl may be good enough as it is, so a failure is only told.
fn renew_trust(work: &mut Work, manager: &dyn PackageManager) -> anyhow::Result<()> {
    let Some(update) = manager.renew_trust() else {
        return Ok(());
    };
    match work.host().run(&update) {
        Ok(output) if output.success() => {}
        Err(CommandError::Interrupted(interrupted)) => return Err(interrupted.into()),
        _ => work.session.ui.note(
            "nss, curl and ca-certificates could not be updated; going on with what is there",
        ),
    }
    Ok(())
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
