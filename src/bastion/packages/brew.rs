//! Homebrew, on macOS.
//!
//! It belongs to the user who installed it and refuses root, so nothing here has root's rights.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::failures::{self, Trouble, line_with, says};
use super::{Need, PackageManager, Recorder};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, Host, HostExt, Output};

/// How long an installation may take.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

const LOCK_HELD: [&str; 2] = ["has already locked", "Another active Homebrew"];
const UNKNOWN_PACKAGE: [&str; 2] = ["No available formula", "No formulae found"];
const UNREACHABLE: [&str; 4] = [
    "Could not resolve host",
    "Failed to download",
    "Download failed",
    "Failed to connect",
];
const DISK_FULL: [&str; 1] = ["No space left on device"];

/// Homebrew.
pub(super) struct Brew;

impl PackageManager for Brew {
    fn name(&self) -> &'static str {
        "brew"
    }

    /// ssh, curl, tar and the compiler are Apple's.
    fn package(&self, need: Need) -> Option<&'static str> {
        match need {
            Need::Autossh => Some("autossh"),
            Need::Curl => Some("curl"),
            _ => None,
        }
    }

    fn install_command(&self, packages: &[String]) -> Command {
        brew("install").arg("--formula").args(packages)
    }

    fn check(&self, host: &dyn Host) -> anyhow::Result<()> {
        ensure!(
            host.user().uid != 0,
            Failure::usage(
                "Homebrew does not run as root",
                "run the same command as the user to whom Homebrew belongs, without sudo",
            )
        );
        Ok(())
    }

    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        record: &mut Recorder,
    ) -> anyhow::Result<()> {
        self.check(host)?;
        let before = formulae(host)?;
        let asked = packages.iter().filter(|name| !before.contains(*name));
        record(asked.cloned().collect())?;
        let result = self.try_to_install(host, packages);
        // After a failure too: it may have come half-way.
        match formulae(host) {
            Ok(after) => record(after.difference(&before).cloned().collect())?,
            Err(error) if result.is_ok() => return Err(error),
            Err(_) => {}
        }
        result
    }

    fn remove(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()> {
        let there = formulae(host)?;
        let ours: Vec<&String> = packages
            .iter()
            .filter(|name| there.contains(*name))
            .collect();
        if ours.is_empty() {
            return Ok(());
        }
        // Homebrew itself refuses where another formula needs one of them.
        let uninstall = brew("uninstall").arg("--formula").args(ours);
        host.expect(&uninstall)
            .with_context(|| format!("cannot remove {}", packages.join(", ")))?;
        Ok(())
    }
}

impl Brew {
    fn try_to_install(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()> {
        let install = self.install_command(packages);
        let mut output = host.run(&install)?;
        if is_unknown(&output) {
            // Its own updating is switched off, and its list may be older than the formula. Whether
            // that helped is shown by the second attempt.
            host.run(&brew("update"))?;
            output = host.run(&install)?;
        }
        if is_unknown(&output) {
            let said = line_with(&output, &UNKNOWN_PACKAGE).unwrap_or("no such formula");
            return Err(failures::unknown(self.name(), packages, said, None));
        }
        if output.success() {
            return Ok(());
        }
        let trouble = if says(&output, &LOCK_HELD) {
            Trouble::Locked
        } else if says(&output, &DISK_FULL) {
            Trouble::DiskFull
        } else if says(&output, &UNREACHABLE) {
            Trouble::Unreachable
        } else {
            Trouble::Other
        };
        Err(failures::failed(trouble, packages, &install, output).into())
    }
}

fn brew(verb: &str) -> Command {
    Command::new("brew")
        .arg(verb)
        .env("NONINTERACTIVE", "1")
        // What is there stays as it is: nothing is updated, upgraded or cleaned up by the way.
        .env("HOMEBREW_NO_AUTO_UPDATE", "1")
        .env("HOMEBREW_NO_INSTALL_UPGRADE", "1")
        .env("HOMEBREW_NO_INSTALL_CLEANUP", "1")
        .env("HOMEBREW_NO_INSTALLED_DEPENDENTS_CHECK", "1")
        .env("HOMEBREW_NO_ENV_HINTS", "1")
        .env("HOMEBREW_NO_ANALYTICS", "1")
        .timeout(INSTALL_TIMEOUT)
        .atomic()
}

fn formulae(host: &dyn Host) -> anyhow::Result<BTreeSet<String>> {
    let list = brew("list").args(["--formula", "-1"]);
    let output = host.expect(&list).context("cannot list the formulae")?;
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

fn is_unknown(output: &Output) -> bool {
    !output.success() && says(output, &UNKNOWN_PACKAGE)
}
