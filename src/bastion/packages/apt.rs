//! apt, on Debian, Ubuntu and their relatives.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::failures::{self, Signs, Trouble, line_with, says};
use super::{Need, PackageManager, Watcher, lock};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt, Output};

/// How long apt may take to fetch and install a handful of small packages.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a removal waits for another package manager, in seconds. It is not asked again, as an
/// installation is: it may be part of undoing an interrupted run.
const PATIENCE: &str = "DPkg::Lock::Timeout=120";

const LOCK_HELD: &str = "Could not get lock";
const UNKNOWN_PACKAGE: [&str; 2] = ["Unable to locate package", "has no installation candidate"];
const UNREACHABLE: [&str; 3] = [
    "Failed to fetch",
    "Unable to fetch some archives",
    "Could not resolve",
];
const DISK_FULL: [&str; 2] = ["enough free space", "No space left on device"];

/// apt-get.
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
            .args([
                "-o",
                "Dpkg::Options::=--force-confdef",
                "-o",
                "Dpkg::Options::=--force-confold",
            ])
            .args(packages)
    }

    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<()> {
        let added = would_install(host, watcher, packages)?;
        watcher.record(added)?;
        let install = self.install_command(packages);
        let mut output = run_unlocked(host, watcher, &install)?;
        if needs_fresh_lists(&output) {
            update(host, watcher)?;
            output = run_unlocked(host, watcher, &install)?;
        }
        if output.success() {
            return Ok(());
        }
        Err(failure(packages, &install, output).into())
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
        let names = installed.join(", ");
        check_nothing_else_goes(host, &installed)
            .with_context(|| format!("{names} stays installed"))?;
        let purge = apt_get("purge")
            .args(["-y", "-o", PATIENCE])
            .args(&installed);
        host.expect(&purge)
            .with_context(|| format!("cannot remove {names}"))?;
        Ok(())
    }
}

/// Everything that installing these packages would add, dependencies included.
fn would_install(
    host: &dyn Host,
    watcher: &mut dyn Watcher,
    packages: &[String],
) -> anyhow::Result<Vec<String>> {
    let simulate = simulation("install")
        .arg("--no-install-recommends")
        .args(packages);
    let mut output = host.run(&simulate)?;
    let mut unreached = None;
    if is_unknown_package(&output) {
        unreached = update(host, watcher)?;
        output = host.run(&simulate)?;
    }
    if is_unknown_package(&output) {
        let said = line_with(&output, &UNKNOWN_PACKAGE).unwrap_or("no such package");
        return Err(failures::unknown(
            "apt",
            packages,
            said,
            unreached.as_deref(),
        ));
    }
    if !output.success() {
        return Err(failure(packages, &simulate, output).into());
    }
    Ok(packages_after("Inst", &output.stdout)
        // A package that is upgraded has its old version in brackets: it was there before.
        .filter(|(_, rest)| !rest.starts_with('['))
        .map(|(package, _)| package.to_owned())
        .collect())
}

/// apt removes whatever depends on a package along with it, without a word.
fn check_nothing_else_goes(host: &dyn Host, packages: &[String]) -> anyhow::Result<()> {
    let output = host.expect(&simulation("purge").args(packages))?;
    let others = packages_after("Purg", &output.stdout)
        .chain(packages_after("Remv", &output.stdout))
        .map(|(package, _)| package)
        .filter(|package| packages.iter().all(|ours| ours != package))
        .collect::<Vec<_>>();
    ensure!(
        others.is_empty(),
        Failure::new(
            format!("{} has come to need it", others.join(", ")),
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

/// Fetches the package lists. One repository that fails does not matter: whether the package can be
/// had is shown by the install that follows. What was said of it is handed back.
fn update(host: &dyn Host, watcher: &mut dyn Watcher) -> anyhow::Result<Option<String>> {
    let output = run_unlocked(host, watcher, &apt_get("update"))?;
    Ok(line_with(&output, &UNREACHABLE).map(str::to_owned))
}

/// apt's own waiting does not cover the lock of the package lists.
fn run_unlocked(
    host: &dyn Host,
    watcher: &mut dyn Watcher,
    command: &Command,
) -> anyhow::Result<Output> {
    lock::run_unlocked(host, watcher, "apt", command, |output| {
        output.stderr.contains(LOCK_HELD)
    })
}

fn is_installed(host: &dyn Host, package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}", package]);
    host.run(&query)
        .is_ok_and(|output| output.success() && output.stdout.starts_with("ii"))
}

fn is_unknown_package(output: &Output) -> bool {
    !output.success() && says(output, &UNKNOWN_PACKAGE)
}

/// Lists that are missing or older than the mirror's content.
fn needs_fresh_lists(output: &Output) -> bool {
    !output.success()
        && (is_unknown_package(output) || output.stderr.contains("Unable to fetch some archives"))
}

fn failure(packages: &[String], command: &Command, output: Output) -> Failure {
    let signs = Signs {
        // It is waited for before.
        locked: &[],
        disk_full: &DISK_FULL,
        unreachable: &UNREACHABLE,
    };
    failures::failed(Trouble::told_by(&output, &signs), packages, command, output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::failure::{OneLine, advice_of};
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::packages::Witness;

    const SIMULATE: &str = "LC_ALL=C apt-get install --simulate";
    const INSTALL: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get install";
    const UPDATE: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get update";
    const PURGE: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get purge";
    const NOT_FOUND: &str = "E: Unable to locate package autossh";

    /// Installs autossh; what the watcher was told, and how it ended.
    fn install(host: &ScriptedHost) -> (Witness, anyhow::Result<()>) {
        let mut witness = Witness::default();
        let result = Apt.install(host, &["autossh".to_owned()], &mut witness);
        (witness, result)
    }

    /// A watcher that cannot take anything down.
    struct FullDisk;

    impl Watcher for FullDisk {
        fn record(&mut self, _: Vec<String>) -> anyhow::Result<()> {
            anyhow::bail!("no space left")
        }

        fn waits_for(&mut self, _: &str) {}
    }

    #[test]
    fn nothing_is_installed_that_cannot_be_recorded_before() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 0, "Inst autossh (1.4g-1 Debian)\n", "");
        let error = Apt
            .install(&host, &["autossh".to_owned()], &mut FullDisk)
            .unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(host.is_finished());
    }

    #[test]
    fn what_apt_would_add_is_recorded_before_and_upgrades_do_not_count() {
        let host = ScriptedHost::new();
        let said = "Inst openssh-client [1:9.2p1-1] (1:9.2p1-2 Debian)\nInst autossh (1.4g-1 Debian)\nConf autossh\n";
        host.expect(SIMULATE, 0, said, "");
        host.expect(INSTALL, 0, "", "");
        let (witness, result) = install(&host);
        result.unwrap();
        assert_eq!(witness.records, [["autossh"]]);
        assert!(witness.waits.is_empty());
    }

    #[test]
    fn lists_are_fetched_only_when_the_package_is_not_found() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 100, "", NOT_FOUND);
        host.expect(
            UPDATE,
            100,
            "",
            "E: The repository 'https://broken.example' does not have a Release file.",
        );
        host.expect(SIMULATE, 0, "Inst autossh (1.4g-1 Debian)\n", "");
        host.expect(INSTALL, 0, "", "");
        install(&host).1.unwrap();
        assert!(host.is_finished());
    }

    #[test]
    fn an_absent_package_is_told_with_what_apt_said() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 100, "", NOT_FOUND);
        host.expect(UPDATE, 0, "", "");
        host.expect(SIMULATE, 100, "", NOT_FOUND);
        let (witness, result) = install(&host);
        let error = result.unwrap_err();
        assert!(crate::bastion::packages::is_unknown_package(&error));
        assert!(OneLine(&error).to_string().contains(NOT_FOUND));
        assert!(witness.records.is_empty());
    }

    #[test]
    fn a_mirror_that_was_not_reached_is_named_where_a_package_is_missing() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 100, "", NOT_FOUND);
        host.expect(
            UPDATE,
            0,
            "",
            "W: Failed to fetch http://deb.example/InRelease  Could not resolve 'deb.example'",
        );
        host.expect(SIMULATE, 100, "", NOT_FOUND);
        let error = install(&host).1.unwrap_err();
        assert!(error.to_string().contains("deb.example"), "{error}");
        assert!(advice_of(&error).unwrap().contains("mirror"));
    }

    #[test]
    fn a_lock_is_waited_for_within_bounds_and_it_is_said() {
        let held = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812";
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 0, "Inst autossh (1.4g-1 Debian)\n", "");
        for _ in 0..lock::ATTEMPTS {
            host.expect(INSTALL, 100, "", held);
        }
        let (witness, result) = install(&host);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("2 minutes"), "{error}");
        assert_eq!(witness.waits.len(), 1);
        assert!(
            witness.waits[0].contains("apt's lock"),
            "{:?}",
            witness.waits
        );
        assert!(host.is_finished());
    }

    #[test]
    fn a_lock_of_the_lists_that_is_given_up_is_no_failure() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 100, "", NOT_FOUND);
        host.expect(
            UPDATE,
            100,
            "",
            "E: Could not get lock /var/lib/apt/lists/lock",
        );
        host.expect(UPDATE, 0, "", "");
        host.expect(SIMULATE, 0, "Inst autossh (1.4g-1 Debian)\n", "");
        host.expect(INSTALL, 0, "", "");
        install(&host).1.unwrap();
        assert!(host.is_finished());
    }

    #[test]
    fn a_full_disk_is_named() {
        let host = ScriptedHost::new();
        host.expect(SIMULATE, 0, "Inst autossh (1.4g-1 Debian)\n", "");
        host.expect(
            INSTALL,
            100,
            "",
            "E: You don't have enough free space in /var/cache/apt/archives/.",
        );
        let error = install(&host).1.unwrap_err();
        assert!(error.to_string().contains("disk is full"), "{error}");
    }

    #[test]
    fn only_what_is_still_installed_is_removed() {
        let host = ScriptedHost::new();
        host.expect("dpkg-query", 0, "ii ", "");
        host.expect("dpkg-query", 1, "", "no packages found");
        host.expect(
            "LC_ALL=C apt-get purge --simulate",
            0,
            "Purg autossh [1.4g-1]\n",
            "",
        );
        host.expect(PURGE, 0, "", "");
        Apt.remove(&host, &["autossh".to_owned(), "gone".to_owned()])
            .unwrap();
        assert!(host.ran()[3].ends_with("'DPkg::Lock::Timeout=120' autossh"));
    }

    #[test]
    fn what_something_else_has_come_to_need_is_not_removed() {
        let host = ScriptedHost::new();
        host.expect("dpkg-query", 0, "ii ", "");
        host.expect(
            "LC_ALL=C apt-get purge --simulate",
            0,
            "Purg billing-agent [2.0]\nPurg autossh [1.4g-1]\n",
            "",
        );
        let error = Apt.remove(&host, &["autossh".to_owned()]).unwrap_err();
        assert!(OneLine(&error).to_string().contains("billing-agent"));
        assert!(host.is_finished());
    }
}
