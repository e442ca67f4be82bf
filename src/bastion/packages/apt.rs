//! apt, on Debian, Ubuntu and their relatives.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::failures::{self, Signs, Trouble, line_with, says};
use super::lock::Runner;
use super::{Need, PackageManager, Watcher, dpkg};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt as _, Output};
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
    unsigned: &["cannot be authenticated", "unauthenticated packages"],
    unreachable: &["Failed to fetch", STALE_LISTS, "Could not resolve"],
};
/// What a mirror that is gone, or lists that are older than its content, have in common.
const STALE_LISTS: &str = "Unable to fetch some archives";
/// Above the names of packages that are held.
const HELD: &str = "The following held packages will be changed:";

/// Where apt keeps what it has fetched of its repositories.
const LISTS: &str = "/var/lib/apt/lists";

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

    fn questions(&self, packages: &[String]) -> Vec<Command> {
        vec![
            simulated_installation(packages),
            dpkg::list_diversions(&programs(packages)),
            dpkg::Packages::query(),
        ]
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
        let simulate = simulated_installation(packages);
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
        let (added, before) = host.beside(&[dpkg::Packages::query()], || {
            let added = would_install(&mut runner, packages)?;
            anyhow::Ok((added, dpkg::Packages::of(host)?))
        })??;
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
    let simulate = simulated_installation(packages);
    let known = if has_lists(runner.host) {
        Some(runner.host.run(&simulate)?)
    } else {
        None
    };
    let known = known.filter(|output| SIGNS.unknown_package(output).is_none());
    let (output, unreached) = match known {
        Some(output) => (output, None),
        None => {
            let unreached = update(runner)?;
            (runner.host.run(&simulate)?, unreached)
        }
    };
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

fn simulated_installation(packages: &[String]) -> Command {
    let simulate = simulation("install").arg("--no-install-recommends");
    simulate.args(packages)
}

/// Whether apt has fetched any list of packages. New hosts and images have none, and apt need not be asked what it
/// knows.
fn has_lists(host: &dyn Host) -> bool {
    let names = host.list(Path::new(LISTS)).unwrap_or_default();
    names.iter().any(|name| name.contains("_Packages"))
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
mod tests;
