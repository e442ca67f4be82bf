//! What the package manager has to install. What is there is used as it is.

use std::path::PathBuf;

use anyhow::ensure;

use super::autossh::installed;
use super::{Outcome, Step, StepName};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Host};
use crate::bastion::layout::Layout;
use crate::bastion::packages::{self, Need, PackageManager, Watcher};
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;

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
        work: &mut StepContext,
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
        work: &mut StepContext,
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

    fn prove(&self, host: &dyn Host) -> anyhow::Result<()> {
        self.manager().map_or(Ok(()), |manager| manager.check(host))
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let Some(manager) = self.manager() else {
            return Ok(Outcome::AlreadyPresent("nothing to install".to_owned()));
        };
        if self.renew_trust {
            renew_trust(work, manager)?;
        }
        let installed = self.install_needs(work, manager)?;
        self.check_found(work.host())?;
        let no_autossh = self.needs.contains(&Need::Autossh)
            && installed::find(work.host(), &self.layout).is_none();
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

/// Takes down in the receipt what is installed.
struct Installation<'i, 'w, 'a> {
    manager: &'static str,
    work: &'i mut StepContext<'w, 'a>,
    recorded: Option<Change>,
}

impl Watcher for Installation<'_, '_, '_> {
    fn record(&mut self, packages: Vec<String>) -> anyhow::Result<()> {
        let change = (!packages.is_empty()).then(|| Change::PackagesInstalled {
            manager: self.manager.to_owned(),
            packages,
        });
        self.work.replace(self.recorded.take(), change.clone())?;
        self.recorded = change;
        Ok(())
    }

    fn waits_for(&mut self, what: &str) {
        self.work.run.ui.progress(&format!("waiting for {what}"));
    }
}

/// Brings curl's TLS up to date on hosts that are too old for today's servers. Most of these hosts'
/// repositories are gone, and curl may be good enough as it is, so a failure is only told.
fn renew_trust(work: &mut StepContext, manager: &dyn PackageManager) -> anyhow::Result<()> {
    let Some(update) = manager.renew_trust() else {
        return Ok(());
    };
    match work.host().run(&update) {
        Ok(output) if output.success() => {}
        Err(error) if error.stops_the_run() => return Err(error.into()),
        _ => work.run.ui.note(
            "nss, curl and ca-certificates could not be updated; going on with what is there",
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::facts::{Facts, Family, Init, PackageManagerKind, Tools};
    use crate::bastion::host::privilege::Privilege;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::run::Run;
    use crate::bastion::ui::Ui;

    const RPM: &str = "sudo rpm -qa";
    const DNF: &str = "sudo env LC_ALL=C dnf install";
    const UNKNOWN: &str = "Error: Unable to find a match: autossh";
    const THERE: &str = "glibc x86_64 2.34 1\n";

    fn rocky() -> Facts {
        Facts {
            id: "rocky".into(),
            version: "9.4".into(),
            name: "Rocky Linux 9.4".into(),
            family: Family::Rhel,
            package_manager: Some(PackageManagerKind::Dnf),
            init: Init::Systemd,
            architecture: Some("x86_64".into()),
            libc: None,
            container: false,
            read_only: false,
            fips: false,
            selinux: false,
            privilege: Some(Privilege::Sudo),
            tools: Tools::default(),
            openssh: None,
        }
    }

    fn step(host: &ScriptedHost, needs: &[Need]) -> Packages {
        Packages {
            layout: Layout::new(host, std::path::Path::new("/")),
            manager: packages::for_host(&rocky()),
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
        let layout = Layout::new(host, std::path::Path::new("/"));
        let mut run = Run::begin(host, &ui, layout, None).unwrap();
        let result = step.apply(&mut run.context(Scope::Host, StepName::Packages));
        then(result, &mut run);
        assert!(host.is_finished());
    }

    #[test]
    fn an_autossh_that_no_repository_has_does_not_stop_the_others() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, THERE, "");
        host.expect(DNF, 1, "", UNKNOWN);
        host.expect(RPM, 0, THERE, "");
        host.expect(RPM, 0, THERE, "");
        host.expect(DNF, 0, "", "");
        host.doing(|host| host.install("curl"));
        let after = format!("{THERE}curl x86_64 7 2\n");
        host.expect(RPM, 0, &after, "");
        apply(
            &host,
            &step(&host, &[Need::Curl, Need::Autossh]),
            |result, run| {
                let said = Outcome::Changed("curl; no repository has autossh".into());
                assert_eq!(result.unwrap(), said);
                // Exactly that goes again in a rollback.
                host.expect(RPM, 0, &after, "");
                host.expect("sudo env LC_ALL=C rpm -e curl.x86_64", 0, "", "");
                run.undo_made(None).unwrap();
                assert!(run.receipt.steps.is_empty());
            },
        );
    }

    #[test]
    fn epel_is_enabled_only_where_that_was_asked_for_and_goes_again_in_a_rollback() {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, THERE, "");
        host.expect(DNF, 1, "", UNKNOWN);
        host.expect(RPM, 0, THERE, "");
        host.expect(RPM, 0, THERE, "");
        host.expect(DNF, 0, "", "");
        let epel = format!("{THERE}epel-release noarch 9 2\n");
        host.expect(RPM, 0, &epel, "");
        host.expect(RPM, 0, &epel, "");
        host.expect(DNF, 0, "", "");
        host.doing(|host| host.install("autossh"));
        let all = format!("{epel}autossh x86_64 1.4g 3\n");
        host.expect(RPM, 0, &all, "");
        let step = Packages {
            enable_extra_repository: true,
            ..step(&host, &[Need::Autossh])
        };
        apply(&host, &step, |result, run| {
            let said = Outcome::Changed("epel-release, autossh".into());
            assert_eq!(result.unwrap(), said);
            host.expect(RPM, 0, &all, "");
            host.expect("sudo env LC_ALL=C rpm -e autossh.x86_64", 0, "", "");
            host.expect(RPM, 0, &epel, "");
            host.expect("sudo env LC_ALL=C rpm -e epel-release.noarch", 0, "", "");
            run.undo_made(None).unwrap();
        });
    }

    #[test]
    fn a_package_that_is_missing_for_good_is_a_failure_with_nothing_recorded() {
        let host = ScriptedHost::new();
        for _ in 0..2 {
            host.expect(RPM, 0, THERE, "");
            host.expect(DNF, 1, "", "Error: Unable to find a match: openssh-clients");
            host.expect(RPM, 0, THERE, "");
        }
        apply(
            &host,
            &step(&host, &[Need::OpensshClient, Need::Autossh]),
            |result, run| {
                assert!(result.unwrap_err().to_string().contains("openssh-clients"));
                run.undo_made(None).unwrap();
            },
        );
    }

    #[test]
    fn an_update_of_nss_that_fails_is_tolerated() {
        let host = ScriptedHost::new();
        let facts = Facts {
            id: "centos".into(),
            version: "7".into(),
            package_manager: Some(PackageManagerKind::Yum),
            ..rocky()
        };
        let step = Packages {
            manager: packages::for_host(&facts),
            ..step(&host, &[Need::Autossh])
        };
        host.expect(
            "sudo env LC_ALL=C yum update",
            1,
            "",
            "Cannot find a valid baseurl for repo: base/7/x86_64",
        );
        host.expect(RPM, 0, THERE, "");
        host.expect("sudo env LC_ALL=C yum install", 0, "", "");
        host.doing(|host| host.install("autossh"));
        host.expect(RPM, 0, &format!("{THERE}autossh x86_64 1.4g 3\n"), "");
        apply(&host, &step, |result, _| {
            assert_eq!(result.unwrap(), Outcome::Changed("autossh".into()));
        });
    }
}
