//! apt, on Debian, Ubuntu and their relatives.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::failures::{self, Signs, line_with, says};
use super::lock::Runner;
use super::{Need, PackageManager, Watcher};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt, Output};

/// How long apt may take to fetch and install a handful of small packages.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a removal waits for another package manager, in seconds. It is not asked again, as an
/// installation is: it may be part of undoing an interrupted run.
const REMOVAL_PATIENCE: &str = "DPkg::Lock::Timeout=120";

const SIGNS: Signs = Signs {
    locked: &["Could not get lock"],
    unknown: &["Unable to locate package", "has no installation candidate"],
    disk_full: &["enough free space", "No space left on device"],
    unreachable: &["Failed to fetch", STALE_LISTS, "Could not resolve"],
};
/// What a mirror that is gone, or lists that are older than its content, have in common.
const STALE_LISTS: &str = "Unable to fetch some archives";

pub struct Apt;

impl PackageManager for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn package(&self, need: Need) -> Option<&'static str> {
        Some(match need {
            Need::Curl => "curl",
            Need::Autossh => "autossh",
            Need::OpensshClient => "openssh-client",
            Need::Ncat => "ncat",
            Need::Compiler => "gcc",
            Need::Make => "make",
            Need::LibcHeaders => "libc6-dev",
            Need::Tar => "tar",
        })
    }

    fn install_command(&self, packages: &[String]) -> Command {
        apt_get("install")
            .args(["-y", "--no-install-recommends"])
            // A changed configuration file of a dependency is kept and not asked about.
            .args(["-o", "Dpkg::Options::=--force-confdef"])
            .args(["-o", "Dpkg::Options::=--force-confold"])
            .args(packages)
    }

    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<()> {
        let mut runner = Runner {
            host,
            watcher,
            manager: self.name(),
            is_locked: |output| !output.success() && says(output, SIGNS.locked),
        };
        let added = would_install(&mut runner, packages)?;
        runner.watcher.record(added)?;
        let install = self.install_command(packages);
        let mut output = runner.run(&install)?;
        if needs_fresh_lists(&output) {
            update(&mut runner)?;
            output = runner.run(&install)?;
        }
        if output.success() {
            return Ok(());
        }
        Err(failures::failed(&SIGNS, packages, &install, output))
    }

    fn remove(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()> {
        let installed: Vec<&str> = packages
            .iter()
            .map(String::as_str)
            .filter(|package| is_installed(host, package))
            .collect();
        if installed.is_empty() {
            return Ok(());
        }
        let purge = apt_get("purge")
            .args(["-y", "-o", REMOVAL_PATIENCE])
            .args(installed.iter().copied());
        check_nothing_else_goes(host, &installed)
            .and_then(|()| Ok(host.expect(&purge)?))
            .with_context(|| format!("cannot remove {}", installed.join(", ")))?;
        Ok(())
    }
}

/// Everything that installing these packages would add, dependencies included.
fn would_install(runner: &mut Runner, packages: &[String]) -> anyhow::Result<Vec<String>> {
    let simulate = simulation("install")
        .arg("--no-install-recommends")
        .args(packages);
    let mut output = runner.host.run(&simulate)?;
    let mut unreached = None;
    if SIGNS.unknown_package(&output).is_some() {
        unreached = update(runner)?;
        output = runner.host.run(&simulate)?;
    }
    if let Some(said) = SIGNS.unknown_package(&output) {
        let unreached = unreached.as_deref();
        return Err(failures::unknown("apt", packages, said, unreached));
    }
    if !output.success() {
        return Err(failures::failed(&SIGNS, packages, &simulate, output));
    }
    Ok(packages_after("Inst", &output.stdout)
        // A package that is upgraded has its old version in brackets: it was there before.
        .filter(|(_, rest)| !rest.starts_with('['))
        .map(|(package, _)| package.to_owned())
        .collect())
}

/// apt removes whatever depends on a package along with it, without a word.
fn check_nothing_else_goes(host: &dyn Host, packages: &[&str]) -> anyhow::Result<()> {
    let output = host.expect(&simulation("purge").args(packages.iter().copied()))?;
    let others = packages_after("Purg", &output.stdout)
        .chain(packages_after("Remv", &output.stdout))
        .map(|(package, _)| package)
        .filter(|package| !packages.contains(package))
        .collect::<Vec<_>>();
    ensure!(
        others.is_empty(),
        Failure::new(
            format!("{} depends on {}", others.join(", "), packages.join(", ")),
            "remove it by hand if you do not need it",
        )
    );
    Ok(())
}

/// What apt would do, said in lines that begin with an action and a package.
fn simulation(verb: &str) -> Command {
    Command::new("apt-get")
        .env("LC_ALL", "C")
        .args([verb, "--simulate", "-y"])
}

fn packages_after<'o>(action: &'o str, said: &'o str) -> impl Iterator<Item = (&'o str, &'o str)> {
    said.lines()
        .filter_map(move |line| line.strip_prefix(action)?.strip_prefix(' '))
        .map(|rest| rest.split_once(' ').unwrap_or((rest, "")))
}

fn apt_get(verb: &str) -> Command {
    Command::new("apt-get")
        .arg(verb)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // needrestart would ask, or restart services that are none of our business.
        .env("NEEDRESTART_SUSPEND", "1")
        // Errors are told apart by their text.
        .env("LC_ALL", "C")
        .with_authority(Authority::Root)
        .timeout(INSTALL_TIMEOUT)
        .atomic()
        .downloads()
}

/// Fetches the package lists, and returns what was said of a repository that failed. That is no error:
/// the install that follows shows whether the package is to be had. apt's own waiting does not cover the
/// lock of the lists.
fn update(runner: &mut Runner) -> anyhow::Result<Option<String>> {
    let output = runner.run(&apt_get("update"))?;
    Ok(line_with(&output, SIGNS.unreachable).map(str::to_owned))
}

fn is_installed(host: &dyn Host, package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}", package]);
    host.run(&query)
        .is_ok_and(|output| output.success() && output.stdout.starts_with("ii"))
}

/// Lists that are missing or older than the mirror's content.
fn needs_fresh_lists(output: &Output) -> bool {
    SIGNS.unknown_package(output).is_some() || (!output.success() && says(output, &[STALE_LISTS]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::failure::{OneLine, advice_of};
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::packages::test_support::{Witness, answers};
    use crate::bastion::packages::{is_unknown_package, lock};

    const SIMULATE: &str = "LC_ALL=C apt-get install --simulate";
    const SIMULATE_PURGE: &str = "LC_ALL=C apt-get purge --simulate";
    const INSTALL: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get install";
    const UPDATE: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get update";
    const PURGE: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get purge";
    const WOULD_INSTALL: &str = "Inst autossh (1.4g-1 Debian)\n";
    const NOT_FOUND: &str = "E: Unable to locate package autossh";

    /// Installs autossh where these commands run: what the watcher was told, and how it ended.
    fn install(commands: &[(&str, i32, &str, &str)]) -> (Witness, anyhow::Result<()>) {
        let host = ScriptedHost::new();
        answers(&host, commands);
        let mut witness = Witness::default();
        let result = Apt.install(&host, &["autossh".to_owned()], &mut witness);
        assert!(host.is_finished());
        (witness, result)
    }

    #[test]
    fn nothing_is_installed_that_cannot_be_recorded_before() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 0, WOULD_INSTALL, "");
        let mut full_disk = Witness {
            refuses: true,
            ..Witness::default()
        };
        let result = Apt.install(&host, &["autossh".to_owned()], &mut full_disk);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(host.is_finished());
    }

    #[test]
    fn what_apt_would_add_is_recorded_before_and_upgrades_do_not_count() {
        let upgrade = "Inst openssh-client [1:9.2p1-1] (1:9.2p1-2 Debian)\n";
        let said = format!("{upgrade}{WOULD_INSTALL}Conf autossh\n");
        let (witness, result) = install(&[(SIMULATE, 0, &said, ""), (INSTALL, 0, "", "")]);
        result.unwrap();
        assert_eq!(witness.records, [["autossh"]]);
        assert!(witness.waits.is_empty());
    }

    #[test]
    fn lists_are_fetched_only_when_the_package_is_not_found() {
        let broken = "E: The repository 'https://broken.example' does not have a Release file.";
        let (_, result) = install(&[
            (SIMULATE, 100, "", NOT_FOUND),
            (UPDATE, 100, "", broken),
            (SIMULATE, 0, WOULD_INSTALL, ""),
            (INSTALL, 0, "", ""),
        ]);
        result.unwrap();
    }

    #[test]
    fn an_absent_package_is_told_with_what_apt_said() {
        let (witness, result) = install(&[
            (SIMULATE, 100, "", NOT_FOUND),
            (UPDATE, 0, "", ""),
            (SIMULATE, 100, "", NOT_FOUND),
        ]);
        let error = result.unwrap_err();
        assert!(is_unknown_package(&error));
        assert!(OneLine(&error).to_string().contains(NOT_FOUND));
        assert!(witness.records.is_empty());
    }

    #[test]
    fn a_mirror_that_was_not_reached_is_named_where_a_package_is_missing() {
        let unreached =
            "W: Failed to fetch http://deb.example/InRelease  Could not resolve 'deb.example'";
        let (_, result) = install(&[
            (SIMULATE, 100, "", NOT_FOUND),
            (UPDATE, 0, "", unreached),
            (SIMULATE, 100, "", NOT_FOUND),
        ]);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("deb.example"), "{error}");
        assert!(advice_of(&error).unwrap().contains("mirror"));
    }

    #[test]
    fn a_lock_is_waited_for_within_bounds_and_it_is_said() {
        let held = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812";
        let mut commands = vec![(SIMULATE, 0, WOULD_INSTALL, "")];
        commands.extend((0..lock::ATTEMPTS).map(|_| (INSTALL, 100, "", held)));
        let (witness, result) = install(&commands);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("2 minutes"), "{error}");
        assert_eq!(witness.waits.len(), 1);
        let waits = &witness.waits[0];
        assert!(waits.contains("apt's lock"), "{waits}");
    }

    #[test]
    fn a_lock_of_the_lists_that_is_released_is_no_failure() {
        let held = "E: Could not get lock /var/lib/apt/lists/lock";
        let (_, result) = install(&[
            (SIMULATE, 100, "", NOT_FOUND),
            (UPDATE, 100, "", held),
            (UPDATE, 0, "", ""),
            (SIMULATE, 0, WOULD_INSTALL, ""),
            (INSTALL, 0, "", ""),
        ]);
        result.unwrap();
    }

    #[test]
    fn a_full_disk_is_named() {
        let full = "E: You don't have enough free space in /var/cache/apt/archives/.";
        let (_, result) = install(&[(SIMULATE, 0, WOULD_INSTALL, ""), (INSTALL, 100, "", full)]);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("disk is full"), "{error}");
    }

    #[test]
    fn only_what_is_still_installed_is_removed() {
        let host = ScriptedHost::new();
        let commands = [
            ("dpkg-query", 0, "ii ", ""),
            ("dpkg-query", 1, "", "no packages found"),
            (SIMULATE_PURGE, 0, "Purg autossh [1.4g-1]\n", ""),
            (PURGE, 0, "", ""),
        ];
        answers(&host, &commands);
        let recorded = ["autossh", "gone"].map(str::to_owned);
        Apt.remove(&host, &recorded).unwrap();
        assert!(host.ran()[3].ends_with("'DPkg::Lock::Timeout=120' autossh"));
    }

    #[test]
    fn what_something_else_has_come_to_need_is_not_removed() {
        let host = ScriptedHost::new();
        let simulated = "Purg billing-agent [2.0]\nPurg autossh [1.4g-1]\n";
        let commands = [
            ("dpkg-query", 0, "ii ", ""),
            (SIMULATE_PURGE, 0, simulated, ""),
        ];
        answers(&host, &commands);
        let error = Apt.remove(&host, &["autossh".to_owned()]).unwrap_err();
        let said = OneLine(&error).to_string();
        assert!(said.contains("billing-agent depends on autossh"), "{said}");
        assert!(host.is_finished());
    }
}
