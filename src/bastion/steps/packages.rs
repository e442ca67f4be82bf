//! What the package manager has to install. What is there is used as it is.

use std::path::PathBuf;

use anyhow::ensure;

use super::autossh::installed;
use super::{Outcome, PlannedCommand, Proofs, Step, StepName};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, Host};
use crate::bastion::packages::{Need, PackageManager, Watcher, is_unknown_package};
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;

pub struct Packages {
    /// The host's package manager; a host without one lacks nothing but what can be compiled.
    pub manager: Option<Box<dyn PackageManager>>,
    /// What is missing.
    pub needs: Vec<Need>,
    /// An autossh from snap, which is there and cannot be used.
    pub snap: Option<PathBuf>,
    /// Whether the repository with further packages may be enabled.
    pub enable_extra_repository: bool,
    /// Whether what `curl` needs to trust today's servers may be updated.
    pub renew_trust: bool,
}

impl Packages {
    /// The package manager, where it has something to do.
    fn manager(&self) -> Option<&dyn PackageManager> {
        self.manager.as_deref().filter(|_| !self.needs.is_empty())
    }

    fn extra_repository(&self) -> Option<&str> {
        self.manager()?
            .extra_repository()
            .filter(|_| self.enable_extra_repository && self.needs.contains(&Need::Autossh))
    }

    /// What is missing beside autossh, which can also be compiled.
    fn other_needs(&self) -> Vec<Need> {
        let others = self.needs.iter().filter(|need| **need != Need::Autossh);
        others.copied().collect()
    }

    /// Installs what is missing, except an autossh that no repository has. Returns the packages.
    fn install_needs(
        &self,
        work: &mut StepContext,
        manager: &dyn PackageManager,
    ) -> anyhow::Result<Vec<String>> {
        let all = manager.packages(&self.needs);
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
        let others = manager.packages(&self.other_needs());
        if !others.is_empty() {
            install(work, manager, &others)?;
        }
        installed.extend(others);
        Ok(installed)
    }

    /// Installs these packages, or returns false where autossh may be what no repository has.
    fn install_all(
        &self,
        work: &mut StepContext,
        manager: &dyn PackageManager,
        packages: &[String],
    ) -> anyhow::Result<bool> {
        let needs_autossh = self.needs.contains(&Need::Autossh);
        match install(work, manager, packages) {
            Err(error) if needs_autossh && is_unknown_package(&error) => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn check_found(&self, host: &dyn Host) -> anyhow::Result<()> {
        for need in self.other_needs() {
            ensure!(
                need.is_met(host),
                Failure::new(
                    format!(
                        "packages installed, but {} is still not on PATH",
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
            Some(manager) => format!("Install {}", manager.packages(&self.needs).join(", ")),
            None => "Use the installed curl, ssh and autossh".to_owned(),
        };
        match &self.snap {
            Some(snap) => format!(
                "{what}; but not {}: a snap can read neither the key nor the pinned host keys",
                snap.display()
            ),
            None => what,
        }
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        let Some(manager) = self.manager() else {
            return Vec::new();
        };
        let mut commands = Vec::new();
        if let Some(renew) = manager.renew_trust().filter(|_| self.renew_trust) {
            commands.push(PlannedCommand::from(renew).only("where available"));
        }
        commands.extend(manager.commands(&manager.packages(&self.needs)));
        if let Some(repository) = self.extra_repository() {
            let enable = manager.install_command(&[repository.to_owned()]);
            let enable = PlannedCommand::from(enable);
            commands.push(enable.only("if the other repositories have no autossh"));
        }
        commands
    }

    fn undo_commands(&self) -> Vec<PlannedCommand> {
        let removal =
            |manager: &dyn PackageManager| manager.removal_command(&manager.packages(&self.needs));
        self.manager()
            .map(|manager| removal(manager).into())
            .into_iter()
            .collect()
    }

    fn needs_root(&self) -> bool {
        self.manager().is_some_and(PackageManager::needs_root)
    }

    fn questions(&self) -> Vec<Command> {
        let of = |manager: &dyn PackageManager| manager.questions(&manager.packages(&self.needs));
        self.manager().map(of).unwrap_or_default()
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        let Some(manager) = self.manager() else {
            proofs.saw("curl, ssh and autossh are there");
            return Ok(());
        };
        manager.check(host, &manager.packages(&self.needs), proofs)?;
        proofs.could_not_see(
            format!("whether {} can install what is missing", manager.name()),
            "its repositories are asked only when it installs",
        );
        Ok(())
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let Some(manager) = self.manager() else {
            return Ok(Outcome::AlreadyPresent("nothing to install".to_owned()));
        };
        if self.renew_trust {
            renew_trust(work, manager)?;
        }
        let installed = self.install_needs(work, manager)?.join(", ");
        self.check_found(work.host())?;
        let found = installed::find(work.host(), work.layout());
        let lacks_autossh = self.needs.contains(&Need::Autossh) && found.is_none();
        Ok(if installed.is_empty() {
            Outcome::AlreadyPresent("no repository has autossh".to_owned())
        } else if lacks_autossh {
            Outcome::Changed(format!("{installed}; no repository has autossh"))
        } else {
            Outcome::Changed(installed)
        })
    }
}

/// Installs packages, and records what that adds before it happens and as it turned out.
pub(super) fn install(
    work: &mut StepContext,
    manager: &dyn PackageManager,
    packages: &[String],
) -> anyhow::Result<()> {
    let host = work.host();
    let mut receipt = Installation {
        manager: manager.name(),
        work,
        recorded: None,
    };
    manager.install(host, packages, &mut receipt)
}

/// Records in the receipt what is installed.
struct Installation<'i, 'w, 'a> {
    manager: &'static str,
    work: &'i mut StepContext<'w, 'a>,
    recorded: Option<Change>,
}

impl Watcher for Installation<'_, '_, '_> {
    fn record(&mut self, packages: Vec<String>, configured: Vec<String>) -> anyhow::Result<()> {
        let change = (!packages.is_empty()).then(|| Change::PackagesInstalled {
            manager: self.manager.to_owned(),
            packages,
            configured,
        });
        self.work.replace(self.recorded.take(), change.clone())?;
        self.recorded = change;
        Ok(())
    }

    fn waits_for(&mut self, what: &str) {
        self.work.run.ui.progress(&format!("waiting for {what}"));
    }

    fn note(&mut self, text: &str) {
        self.work.run.ui.note(text);
    }
}

/// Updates what curl's TLS needs on hosts that are too old for today's servers. Most of these hosts'
/// repositories are gone, and curl may be good enough as it is, so a failure is only noted.
fn renew_trust(work: &mut StepContext, manager: &dyn PackageManager) -> anyhow::Result<()> {
    let Some(update) = manager.renew_trust() else {
        return Ok(());
    };
    match work.host().run(&update) {
        Ok(output) if output.success() => {}
        Err(error) if error.stops_the_run() => return Err(error.into()),
        _ => work.run.ui.note(
            "nss, curl and ca-certificates could not be updated; continuing with what is installed",
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::facts::PackageManagerKind;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::layout::Layout;
    use crate::bastion::packages::test_support::{answers, manager_of};
    use crate::bastion::run::Run;
    use crate::bastion::ui::Ui;

    const RPM: &str = "sudo rpm -qa";
    const DNF: &str = "sudo env LC_ALL=C dnf install";
    const YUM: &str = "sudo env LC_ALL=C yum";
    const UNKNOWN: &str = "Error: Unable to find a match: autossh";
    const THERE: &str = "glibc x86_64 2.34 1\n";

    fn step(needs: &[Need]) -> Packages {
        Packages {
            manager: Some(manager_of(PackageManagerKind::Dnf, "rocky", "9.4")),
            needs: needs.to_vec(),
            snap: None,
            enable_extra_repository: false,
            renew_trust: true,
        }
    }

    /// Applies the step, then hands the run to `then`.
    fn apply(
        host: &ScriptedHost,
        step: &Packages,
        then: impl FnOnce(anyhow::Result<Outcome>, &mut Run),
    ) {
        let ui = Ui::new(false, true, true);
        let mut run = Run::begin(
            host,
            &ui,
            Layout::new(host, std::path::Path::new("/")),
            crate::bastion::control_plane::Given::default(),
        )
        .unwrap();
        let result = step.apply(&mut run.context(Scope::Host, StepName::Packages));
        then(result, &mut run);
        assert!(host.is_finished());
    }

    #[test]
    fn an_autossh_that_no_repository_has_does_not_stop_the_others() {
        let host = ScriptedHost::new();
        let after = &format!("{THERE}curl x86_64 7 2\n");
        let without_autossh = [
            (RPM, 0, THERE, ""),
            (DNF, 1, "", UNKNOWN),
            (RPM, 0, THERE, ""),
            (RPM, 0, THERE, ""),
            (DNF, 0, "", ""),
        ];
        answers(&host, &without_autossh);
        host.doing(|host| host.install("curl"));
        host.expect(RPM, 0, after, "");
        let step = step(&[Need::Curl, Need::Autossh]);
        apply(&host, &step, |result, run| {
            let said = Outcome::Changed("curl; no repository has autossh".into());
            assert_eq!(result.unwrap(), said);
            // Exactly that goes again in a rollback.
            let erase = "sudo env LC_ALL=C rpm -e curl.x86_64";
            answers(&host, &[(RPM, 0, after, ""), (erase, 0, "", "")]);
            run.undo_made(None).unwrap();
            assert!(run.receipt.steps.is_empty());
        });
    }

    #[test]
    fn epel_is_enabled_only_where_that_was_asked_for_and_goes_again_in_a_rollback() {
        let host = ScriptedHost::new();
        let epel = &format!("{THERE}epel-release noarch 9 2\n");
        let all = &format!("{epel}autossh x86_64 1.4g 3\n");
        let with_epel = [
            (RPM, 0, THERE, ""),
            (DNF, 1, "", UNKNOWN),
            (RPM, 0, THERE, ""),
            (RPM, 0, THERE, ""),
            (DNF, 0, "", ""),
            (RPM, 0, epel, ""),
            (RPM, 0, epel, ""),
            (DNF, 0, "", ""),
        ];
        answers(&host, &with_epel);
        host.doing(|host| host.install("autossh"));
        host.expect(RPM, 0, all, "");
        let step = Packages {
            enable_extra_repository: true,
            ..step(&[Need::Autossh])
        };
        apply(&host, &step, |result, run| {
            let said = Outcome::Changed("epel-release, autossh".into());
            assert_eq!(result.unwrap(), said);
            let back = [
                (RPM, 0, all.as_str(), ""),
                ("sudo env LC_ALL=C rpm -e autossh.x86_64", 0, "", ""),
                (RPM, 0, epel, ""),
                ("sudo env LC_ALL=C rpm -e epel-release.noarch", 0, "", ""),
            ];
            answers(&host, &back);
            run.undo_made(None).unwrap();
        });
    }

    #[test]
    fn a_package_that_is_missing_for_good_is_a_failure_with_nothing_recorded() {
        let host = ScriptedHost::new();
        let unknown = "Error: Unable to find a match: openssh-clients";
        let fails = [
            (RPM, 0, THERE, ""),
            (DNF, 1, "", unknown),
            (RPM, 0, THERE, ""),
        ];
        answers(&host, &fails);
        answers(&host, &fails);
        let step = step(&[Need::OpensshClient, Need::Autossh]);
        apply(&host, &step, |result, run| {
            assert!(result.unwrap_err().to_string().contains("openssh-clients"));
            run.undo_made(None).unwrap();
        });
    }

    #[test]
    fn an_update_of_nss_that_fails_is_tolerated() {
        let host = ScriptedHost::new();
        let gone = "Cannot find a valid baseurl for repo: base/7/x86_64";
        let commands = [
            (&*format!("{YUM} update"), 1, "", gone),
            (RPM, 0, THERE, ""),
            (&*format!("{YUM} install"), 0, "", ""),
        ];
        answers(&host, &commands);
        host.doing(|host| host.install("autossh"));
        host.expect(RPM, 0, &format!("{THERE}autossh x86_64 1.4g 3\n"), "");
        let step = Packages {
            manager: Some(manager_of(PackageManagerKind::Yum, "centos", "7")),
            ..step(&[Need::Autossh])
        };
        apply(&host, &step, |result, _| {
            assert_eq!(result.unwrap(), Outcome::Changed("autossh".into()));
        });
    }
}
