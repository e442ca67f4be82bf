//! apt, on Debian, Ubuntu and their relatives.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::failures::{self, Signs, Trouble, line_with, says};
use super::lock::Runner;
use super::{Need, PackageManager, Watcher, dpkg};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, Output};
use crate::bastion::steps::{PlannedCommand, Proofs};

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
/// Above the names of packages that are held.
const HELD: &str = "The following held packages will be changed:";

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
            .args(["-y", "--no-install-recommends", "--no-remove"])
            // A changed configuration file of a dependency is kept and not asked about.
            .args(["-o", "Dpkg::Options::=--force-confdef"])
            .args(["-o", "Dpkg::Options::=--force-confold"])
            .args(packages)
    }

    fn commands(&self, packages: &[String]) -> Vec<PlannedCommand> {
        let update = PlannedCommand::from(apt_get("update"));
        vec![
            update.only("if its lists do not have them"),
            self.install_command(packages).into(),
        ]
    }

    fn removal_command(&self, packages: &[String]) -> Command {
        PURGE.by_apt(packages)
    }

    fn check(
        &self,
        host: &dyn Host,
        packages: &[String],
        proofs: &mut Proofs,
    ) -> anyhow::Result<()> {
        check_writable(host, packages, proofs)?;
        if let Some(trouble) = dpkg::interrupted(host) {
            return Err(Failure::from(trouble).into());
        }
        if let Some(trouble) = dpkg::diverted(host, &programs(packages))? {
            return Err(Failure::from(trouble).into());
        }
        let simulate = simulation("install")
            .arg("--no-install-recommends")
            .args(packages);
        let output = host.run(&simulate)?;
        check_nothing_goes(&output, packages)?;
        match what_stands_in_the_way(host, &output, &[])? {
            Some(trouble) if !output.success() && SIGNS.unknown_package(&output).is_none() => {
                let doing = format!("install {}", packages.join(", "));
                Err(failures::failed(&doing, trouble, &simulate, &output))
            }
            Some(Trouble { what, .. }) => {
                proofs.could_not_see("whether apt ends without an error", what);
                Ok(())
            }
            None => Ok(()),
        }
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
        let before = dpkg::Packages::of(host)?;
        let configured = added
            .iter()
            .filter(|name| before.has_configuration_of(name));
        let configured = configured.cloned().collect();
        runner.watcher.record(added.clone(), configured)?;
        let install = self.install_command(packages);
        let mut output = runner.run(&install)?;
        if needs_fresh_lists(&output) {
            update(&mut runner)?;
            output = runner.run(&install)?;
        }
        if output.success() {
            return Ok(());
        }
        // apt ends with an error where it did its work, and somebody else's package failed beside it.
        let there = dpkg::Packages::of(host)?;
        let trouble = what_stands_in_the_way(host, &output, &added)?;
        if packages.iter().all(|package| there.is_installed(package)) {
            runner
                .watcher
                .note(&failures::remark(&install, &output, trouble));
            return Ok(());
        }
        let doing = format!("install {}", packages.join(", "));
        let trouble = trouble.unwrap_or_else(Trouble::other);
        Err(failures::failed(&doing, trouble, &install, &output))
    }

    fn remove(
        &self,
        host: &dyn Host,
        packages: &[String],
        configured: &[String],
        note: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        if !configured.is_empty() {
            REMOVE.take_away(host, packages, note)?;
        }
        let purged = packages.iter().filter(|name| !configured.contains(name));
        PURGE.take_away(host, &purged.cloned().collect::<Vec<_>>(), note)
    }
}

/// A way to take packages away.
struct Removal {
    verb: &'static str,
    /// The same for dpkg.
    dpkg: &'static str,
    is_left: fn(&dpkg::Packages, &str) -> bool,
}

/// Leaves their configuration.
const REMOVE: Removal = Removal {
    verb: "remove",
    dpkg: "--remove",
    is_left: dpkg::Packages::has_programs_of,
};
const PURGE: Removal = Removal {
    verb: "purge",
    dpkg: "--purge",
    is_left: dpkg::Packages::has_anything_of,
};

impl Removal {
    fn take_away(
        &self,
        host: &dyn Host,
        packages: &[String],
        note: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let ours = self.left_of(host, packages)?;
        if ours.is_empty() {
            return Ok(());
        }
        let simulated = host.run(&simulation(self.verb).args(&ours))?;
        check_nothing_else_goes(&simulated, &ours)
            .with_context(|| format!("cannot remove {}", ours.join(", ")))?;
        let by_apt = self.by_apt(&ours);
        let output = host.run(&by_apt)?;
        if output.success() {
            return Ok(());
        }
        let trouble = what_stands_in_the_way(host, &output, &ours)?;
        let left = self.left_of(host, &ours)?;
        if !left.is_empty() {
            // A package of somebody else's that failed meanwhile, or that apt finds unfinished, keeps it from
            // going on with these. dpkg takes them, and only them, and not where another needs them.
            let by_dpkg = self.by_dpkg(&left);
            let output = host.run(&by_dpkg)?;
            let left = self.left_of(host, &ours)?;
            if !left.is_empty() {
                let doing = format!("remove {}", left.join(", "));
                let trouble = trouble.unwrap_or_else(Trouble::other);
                return Err(failures::failed(&doing, trouble, &by_dpkg, &output));
            }
        }
        note(&failures::remark(&by_apt, &output, trouble));
        Ok(())
    }

    /// What of these is still there.
    fn left_of(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<Vec<String>> {
        let there = dpkg::Packages::of(host)?;
        let left = packages.iter().filter(|name| (self.is_left)(&there, name));
        Ok(left.cloned().collect())
    }

    fn by_apt(&self, packages: &[String]) -> Command {
        apt_get(self.verb)
            .args(["-y", "-o", REMOVAL_PATIENCE])
            .args(packages)
    }

    fn by_dpkg(&self, packages: &[String]) -> Command {
        Command::new("dpkg")
            .arg(self.dpkg)
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .with_authority(Authority::Root)
            .timeout(INSTALL_TIMEOUT)
            .atomic()
            .logged()
    }
}

/// What keeps apt from its work, or from ending it well: as its words tell, and as dpkg knows it.
fn what_stands_in_the_way(
    host: &dyn Host,
    output: &Output,
    added: &[String],
) -> anyhow::Result<Option<Trouble>> {
    let known = || SIGNS.trouble(output).filter(|_| !output.success());
    if let Some(trouble) = known().or_else(|| dpkg::interrupted(host)) {
        return Ok(Some(trouble));
    }
    if let Some(trouble) = held(output) {
        return Ok(Some(trouble));
    }
    let there = dpkg::Packages::of(host)?;
    let unfinished = there.unfinished(added);
    Ok(unfinished.map(|unfinished| unfinished.trouble(output)))
}

/// Packages that somebody has ordered not to change. dpkg does not list those that are not installed.
fn held(output: &Output) -> Option<Trouble> {
    let lines = output.stdout.lines().skip_while(|line| *line != HELD);
    let lines = lines.skip(1).take_while(|line| line.starts_with(' '));
    let names: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    (!output.success() && !names.is_empty()).then(|| Trouble {
        what: format!("{} is held, so that it does not change", names.join(", ")),
        next: format!(
            "allow it (`sudo apt-mark unhold {}`), or install what is missing by hand",
            names.join(" ")
        ),
    })
}

/// Whether packages can be written where they go, but for hosts whose apt makes that so for itself.
fn check_writable(host: &dyn Host, packages: &[String], proofs: &mut Proofs) -> anyhow::Result<()> {
    let Err(error) = super::check_writable(host, "apt", packages) else {
        return Ok(());
    };
    let hooks = Command::new("apt-config").args(["dump", "--format", "%v%n", "DPkg::Pre-Invoke"]);
    if host.run(&hooks)?.stdout.contains("remount") {
        proofs.could_not_see(
            "whether apt can write",
            "a hook of its own makes it possible",
        );
        return Ok(());
    }
    Err(error)
}

/// The programs that these packages bring.
fn programs(packages: &[String]) -> Vec<&str> {
    let of = |package: &str| match package {
        "openssh-client" => vec!["ssh", "ssh-keygen"],
        "curl" => vec!["curl"],
        "autossh" => vec!["autossh"],
        _ => Vec::new(),
    };
    packages.iter().flat_map(|package| of(package)).collect()
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
    check_nothing_goes(&output, packages)?;
    if !output.success() {
        let trouble = what_stands_in_the_way(runner.host, &output, &[])?;
        let doing = format!("install {}", packages.join(", "));
        let trouble = trouble.unwrap_or_else(Trouble::other);
        return Err(failures::failed(&doing, trouble, &simulate, &output));
    }
    Ok(packages_after("Inst", &output.stdout)
        // A package that is upgraded has its old version in brackets: it was there before.
        .filter(|(_, rest)| !rest.starts_with('['))
        .map(|(package, _)| package.to_owned())
        .collect())
}

/// What a simulation would take away.
fn would_go(simulated: &Output) -> impl Iterator<Item = &str> {
    packages_after("Purg", &simulated.stdout)
        .chain(packages_after("Remv", &simulated.stdout))
        .map(|(package, _)| package)
}

/// apt makes room for a package by removing those that conflict with it, without a word.
fn check_nothing_goes(simulated: &Output, packages: &[String]) -> anyhow::Result<()> {
    let others: Vec<&str> = would_go(simulated).collect();
    ensure!(
        others.is_empty(),
        Failure::new(
            format!(
                "apt would remove {} to install {}",
                others.join(", "),
                packages.join(", ")
            ),
            "remove it by hand if you do not need it, or install what is missing by hand; then run the same command \
             again",
        )
    );
    Ok(())
}

/// apt removes whatever depends on a package along with it, without a word.
fn check_nothing_else_goes(simulated: &Output, packages: &[String]) -> anyhow::Result<()> {
    let others = would_go(simulated)
        .filter(|other| packages.iter().all(|package| package != other))
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
        .logged()
}

/// Fetches the package lists, and returns what was said of a repository that failed. That is no error:
/// the install that follows shows whether the package is to be had. apt's own waiting does not cover the
/// lock of the lists.
fn update(runner: &mut Runner) -> anyhow::Result<Option<String>> {
    let output = runner.run(&apt_get("update"))?;
    Ok(line_with(&output, SIGNS.unreachable).map(str::to_owned))
}

/// Lists that are missing or older than the mirror's content.
fn needs_fresh_lists(output: &Output) -> bool {
    SIGNS.unknown_package(output).is_some() || (!output.success() && says(output, &[STALE_LISTS]))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

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
    const DPKG_PURGE: &str =
        "sudo env DEBIAN_FRONTEND=noninteractive LC_ALL=C dpkg --purge autossh";
    const WOULD_INSTALL: &str = "Inst autossh (1.4g-1 Debian)\n";
    const NOT_FOUND: &str = "E: Unable to locate package autossh";

    /// dpkg has no package, unless it is asked when an answer of its is expected.
    fn host_without_packages() -> ScriptedHost {
        let host = ScriptedHost::new();
        host.on("dpkg-query -W", |_, _| Output::default());
        host
    }

    /// Installs autossh where these commands run: what the watcher was told, and how it ended.
    fn install(commands: &[(&str, i32, &str, &str)]) -> (Witness, anyhow::Result<()>) {
        let host = host_without_packages();
        answers(&host, commands);
        let mut witness = Witness::default();
        let result = Apt.install(&host, &["autossh".to_owned()], &mut witness);
        assert!(host.is_finished());
        (witness, result)
    }

    #[test]
    fn nothing_is_installed_that_cannot_be_recorded_before() {
        let host = host_without_packages();
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
        let (_, result) = install(&[
            (SIMULATE, 0, WOULD_INSTALL, ""),
            (INSTALL, 100, "", full),
            (QUERY, 0, "", ""),
        ]);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("disk is full"), "{error}");
    }

    const QUERY: &str = "dpkg-query -W";
    const FAILED: &str =
        "Setting up agent (1.0) ...\ncannot start\ndpkg: error processing package agent\n";
    const ENDED: &str = "E: Sub-process /usr/bin/dpkg returned an error code (1)";

    #[test]
    fn what_is_installed_is_installed_however_apt_ends_and_who_failed_is_named() {
        let (witness, result) = install(&[
            (SIMULATE, 0, WOULD_INSTALL, ""),
            (INSTALL, 100, FAILED, ENDED),
            (QUERY, 0, "ii |autossh\niF |agent\n", ""),
            (QUERY, 0, "ii |autossh\niF |agent\n", ""),
        ]);
        result.unwrap();
        let [note] = &witness.notes[..] else {
            panic!("{:?}", witness.notes);
        };
        for said in [
            "status 100",
            "agent",
            "cannot start",
            "sudo dpkg --configure -a",
        ] {
            assert!(note.contains(said), "{note}");
        }
    }

    #[test]
    fn what_is_not_installed_is_told_with_who_stands_in_the_way_and_both_outputs() {
        let there = "iU |autossh\niF |agent\n";
        let (witness, result) = install(&[
            (SIMULATE, 0, WOULD_INSTALL, ""),
            (INSTALL, 100, FAILED, ENDED),
            (QUERY, 0, there, ""),
            (QUERY, 0, there, ""),
        ]);
        let error = result.unwrap_err();
        assert!(witness.notes.is_empty());
        assert!(advice_of(&error).unwrap().contains("dpkg --configure -a"));
        let said = OneLine(&error).to_string();
        assert!(
            said.contains("agent is not fully installed (cannot start)"),
            "{said}"
        );
        assert!(
            said.contains("Setting up agent") && said.contains(ENDED),
            "{said}"
        );
    }

    #[test]
    fn a_hook_that_fails_is_told_in_apt_s_words() {
        let hook = "E: Problem executing scripts DPkg::Post-Invoke 'false'";
        let (witness, result) = install(&[
            (SIMULATE, 0, WOULD_INSTALL, ""),
            (INSTALL, 100, "", hook),
            (QUERY, 0, "ii |autossh\n", ""),
            (QUERY, 0, "ii |autossh\n", ""),
        ]);
        result.unwrap();
        assert!(witness.notes[0].contains(hook), "{:?}", witness.notes);
    }

    #[test]
    fn nothing_of_somebody_else_s_is_removed_to_make_room() {
        let said = format!("Remv agent [1.0]\n{WOULD_INSTALL}");
        let (witness, result) = install(&[(SIMULATE, 0, &said, "")]);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("remove agent"), "{error}");
        assert!(witness.records.is_empty());
    }

    /// Removes autossh where these commands run: what was noted, and how it ended.
    fn remove(commands: &[(&str, i32, &str, &str)]) -> (Vec<String>, anyhow::Result<()>) {
        let host = ScriptedHost::new();
        answers(&host, commands);
        let notes = RefCell::new(Vec::new());
        let note = |text: &str| notes.borrow_mut().push(text.to_owned());
        let result = Apt.remove(&host, &["autossh", "gone"].map(str::to_owned), &[], &note);
        assert!(host.is_finished());
        (notes.into_inner(), result)
    }

    #[test]
    fn only_what_is_still_installed_is_removed() {
        let purge = format!("{PURGE} -y -o 'DPkg::Lock::Timeout=120' autossh");
        let (notes, result) = remove(&[
            (QUERY, 0, "ii |autossh\nun |gone\n", ""),
            (SIMULATE_PURGE, 0, "Purg autossh [1.4g-1]\n", ""),
            (&purge, 0, "", ""),
        ]);
        result.unwrap();
        assert!(notes.is_empty());
    }

    #[test]
    fn what_apt_left_of_a_package_on_account_of_another_goes_all_the_same() {
        let (notes, result) = remove(&[
            (QUERY, 0, "iF |autossh\niF |agent\n", ""),
            (SIMULATE_PURGE, 0, "Purg autossh [1.4g-1]\n", ""),
            (PURGE, 100, FAILED, ENDED),
            (QUERY, 0, "ic |autossh\niF |agent\n", ""),
            (QUERY, 0, "ic |autossh\niF |agent\n", ""),
            (DPKG_PURGE, 0, "", ""),
            (QUERY, 0, "iF |agent\n", ""),
        ]);
        result.unwrap();
        assert!(
            notes[0].contains("agent is not fully installed"),
            "{notes:?}"
        );
    }

    #[test]
    fn what_cannot_be_removed_is_named() {
        let there = "iF |autossh\n";
        let (notes, result) = remove(&[
            (QUERY, 0, there, ""),
            (SIMULATE_PURGE, 0, "Purg autossh [1.4g-1]\n", ""),
            (PURGE, 100, "", ENDED),
            (QUERY, 0, there, ""),
            (QUERY, 0, there, ""),
            (
                DPKG_PURGE,
                1,
                "",
                "dpkg: error processing package autossh (--purge)",
            ),
            (QUERY, 0, there, ""),
        ]);
        let said = OneLine(&result.unwrap_err()).to_string();
        assert!(said.contains("could not remove autossh"), "{said}");
        assert!(notes.is_empty());
    }

    #[test]
    fn what_something_else_has_come_to_need_is_not_removed() {
        let simulated = "Purg billing-agent [2.0]\nPurg autossh [1.4g-1]\n";
        let (_, result) = remove(&[
            (QUERY, 0, "ii |autossh\n", ""),
            (SIMULATE_PURGE, 0, simulated, ""),
        ]);
        let said = OneLine(&result.unwrap_err()).to_string();
        assert!(said.contains("billing-agent depends on autossh"), "{said}");
    }
}
