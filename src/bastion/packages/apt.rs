//! apt, on Debian, Ubuntu and their relatives.

use std::time::Duration;

use anyhow::Context as _;

use super::{Need, PackageManager};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt, Output};

/// How long apt may take to fetch and install a handful of small packages.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long apt may wait for another one to finish, in seconds: unattended upgrades hold its lock
/// for minutes after a boot.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=120";

/// The lock of the package lists is not covered by apt's own waiting, so `update` is tried again.
const UPDATE_ATTEMPTS: u32 = 12;
const UPDATE_PAUSE: Duration = Duration::from_secs(10);

/// apt-get.
pub struct Apt;

impl PackageManager for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn package(&self, need: Need) -> &'static str {
        match need {
            Need::Curl => "curl",
            Need::Autossh => "autossh",
            Need::OpensshClient => "openssh-client",
        }
    }

    fn install_command(&self, packages: &[String]) -> Command {
        apt_get("install")
            .args(["-y", "--no-install-recommends"])
            // A changed configuration file of a dependency is kept and not asked about.
            .args([
                "-o",
                "Dpkg::Options::=--force-confdef",
                "-o",
                "Dpkg::Options::=--force-confold",
            ])
            .args(packages)
    }

    fn would_install(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<Vec<String>> {
        let simulate = Command::new("apt-get")
            .env("LC_ALL", "C")
            .args(["install", "--simulate", "-y", "--no-install-recommends"])
            .args(packages);
        let mut output = host.run(&simulate)?;
        if is_unknown_package(&output) {
            update(host)?;
            output = host.run(&simulate)?;
        }
        if is_unknown_package(&output) {
            return Err(unknown_package(packages, &output).into());
        }
        if !output.success() {
            return Err(failed(packages, &simulate, output).into());
        }
        Ok(output
            .stdout
            .lines()
            // A package that is upgraded has its old version in brackets: it was there before.
            .filter(|line| line.starts_with("Inst ") && !line.contains(" ["))
            .filter_map(|line| line.split_whitespace().nth(1))
            .map(str::to_owned)
            .collect())
    }

    fn install(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()> {
        let install = self.install_command(packages);
        let mut output = host.run(&install)?;
        if needs_fresh_lists(&output) {
            update(host)?;
            output = host.run(&install)?;
        }
        if output.success() {
            return Ok(());
        }
        Err(failed(packages, &install, output).into())
    }

    fn remove(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()> {
        let installed = packages
            .iter()
            .filter(|package| is_installed(host, package))
            .cloned()
            .collect::<Vec<_>>();
        if installed.is_empty() {
            return Ok(());
        }
        let purge = apt_get("purge").arg("-y").args(&installed);
        host.expect(&purge)
            .with_context(|| format!("cannot remove {}", installed.join(", ")))?;
        Ok(())
    }
}

fn apt_get(verb: &str) -> Command {
    Command::new("apt-get")
        .arg(verb)
        .args(["-o", LOCK_TIMEOUT])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // needrestart would ask, or restart services that are none of our business.
        .env("NEEDRESTART_SUSPEND", "1")
        // Errors are told apart by their text.
        .env("LC_ALL", "C")
        .with_authority(Authority::Root)
        .timeout(INSTALL_TIMEOUT)
        .atomic()
}

/// Fetches the package lists. One repository that fails does not matter: whether the package can be
/// had is shown by the install that follows.
fn update(host: &dyn Host) -> anyhow::Result<()> {
    let update = apt_get("update");
    for _ in 0..UPDATE_ATTEMPTS {
        let output = host.run(&update)?;
        if !output.stderr.contains("Could not get lock") {
            return Ok(());
        }
        host.sleep(UPDATE_PAUSE)?;
    }
    Err(lock_held().into())
}

fn is_installed(host: &dyn Host, package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}", package]);
    host.run(&query)
        .is_ok_and(|output| output.success() && output.stdout.starts_with("ii"))
}

fn is_unknown_package(output: &Output) -> bool {
    ["Unable to locate package", "has no installation candidate"]
        .iter()
        .any(|sign| output.stderr.contains(sign))
}

/// Lists that are missing or older than the mirror's content.
fn needs_fresh_lists(output: &Output) -> bool {
    !output.success()
        && (is_unknown_package(output) || output.stderr.contains("Unable to fetch some archives"))
}

fn unknown_package(packages: &[String], output: &Output) -> Failure {
    let said = output
        .stderr
        .lines()
        .find(|line| line.starts_with("E:"))
        .unwrap_or("no such package");
    Failure::new(
        format!("apt knows no package for {}: {said}", packages.join(", ")),
        "enable the distribution's own repository in /etc/apt (autossh is in Debian's main and Ubuntu's universe), then run the same command again",
    )
}

fn lock_held() -> Failure {
    Failure::new(
        "another package manager has held apt's lock for more than two minutes",
        "wait until it is done (`ps aux | grep -e apt -e dpkg` shows it), then run the same command again",
    )
}

fn failed(packages: &[String], command: &Command, output: Output) -> Failure {
    if output.stderr.contains("Could not get lock") {
        return lock_held();
    }
    let next = if output.stderr.contains("Unable to fetch some archives") {
        "check that this host reaches its package mirror (proxies are taken from http_proxy and https_proxy), then run the same command again"
    } else {
        "run the command yourself to see it fail; once it works, run setup again"
    };
    Failure::new(format!("installing {} failed", packages.join(", ")), next).because(
        CommandError::Status {
            command: command.to_string(),
            status: output.status,
            stderr: output.stderr,
            stdout: output.stdout,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::failure::OneLine;
    use crate::bastion::host::scripted::ScriptedHost;

    const SIMULATE: &str = "LC_ALL=C apt-get install --simulate";
    const INSTALL: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get install";
    const UPDATE: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get update";

    fn autossh() -> Vec<String> {
        vec!["autossh".to_owned()]
    }

    #[test]
    fn what_apt_would_add_is_known_before_and_upgrades_do_not_count() {
        let host = ScriptedHost::new();
        let said = "Inst openssh-client [1:9.2p1-1] (1:9.2p1-2 Debian)\nInst autossh (1.4g-1 Debian)\nConf autossh\n";
        host.expect(SIMULATE, 0, said, "");
        assert_eq!(Apt.would_install(&host, &autossh()).unwrap(), ["autossh"]);
    }

    #[test]
    fn lists_are_fetched_only_when_the_package_is_not_found() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 100, "", "E: Unable to locate package autossh");
        host.expect(
            UPDATE,
            100,
            "",
            "E: The repository 'https://broken.example' does not have a Release file.",
        );
        host.expect(SIMULATE, 0, "Inst autossh (1.4g-1 Debian)\n", "");
        assert_eq!(Apt.would_install(&host, &autossh()).unwrap(), ["autossh"]);
        assert!(host.is_finished());
    }

    #[test]
    fn an_absent_package_is_told_with_what_apt_said() {
        let host = host_without_autossh();
        let error = Apt.would_install(&host, &autossh()).unwrap_err();
        assert!(
            OneLine(&error)
                .to_string()
                .contains("Unable to locate package autossh")
        );
    }

    fn host_without_autossh() -> ScriptedHost {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 100, "", "E: Unable to locate package autossh");
        host.expect(UPDATE, 0, "", "");
        host.expect(SIMULATE, 100, "", "E: Unable to locate package autossh");
        host
    }

    #[test]
    fn a_lock_that_is_not_given_up_is_named() {
        let host = ScriptedHost::new();
        host.expect(
            INSTALL,
            100,
            "",
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812",
        );
        let error = Apt.install(&host, &autossh()).unwrap_err();
        assert!(error.to_string().contains("lock"), "{error}");
    }

    #[test]
    fn only_what_is_still_installed_is_removed() {
        let host = ScriptedHost::new();
        host.expect("dpkg-query", 0, "ii ", "");
        host.expect("dpkg-query", 1, "", "no packages found");
        host.expect(
            "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get purge",
            0,
            "",
            "",
        );
        Apt.remove(&host, &["autossh".to_owned(), "gone".to_owned()])
            .unwrap();
        assert!(host.ran()[2].ends_with("-y autossh"));
    }
}
