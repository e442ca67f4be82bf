//! Homebrew, on macOS.
//!
//! It belongs to the user who installed it and refuses root, so nothing here has root's rights.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::failures::{self, Signs, Trouble, line_with};
use super::{Need, PackageManager, Watcher};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, Host, HostExt, Output};
use crate::bastion::steps::Proofs;

const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

const SIGNS: Signs = Signs {
    locked: &["has already locked", "Another active Homebrew"],
    unknown: &["No available formula", "No formulae found"],
    disk_full: &["No space left on device"],
    unsigned: &[],
    unreachable: &[
        "Could not resolve host",
        "Failed to download",
        "Download failed",
        "Failed to connect",
    ],
};

const NOT_LINKED: &str = "`brew link` step did not complete";

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
            Need::Ncat => Some("nmap"),
            _ => None,
        }
    }

    fn install_command(&self, packages: &[String]) -> Command {
        brew("install").arg("--formula").args(packages).logged()
    }

    fn check(&self, host: &dyn Host, _: &[String], _: &mut Proofs) -> anyhow::Result<()> {
        refuse_root(host)
    }

    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<()> {
        refuse_root(host)?;
        let before = formulae(host)?;
        let asked = packages.iter().filter(|name| !before.contains(*name));
        watcher.record(asked.cloned().collect(), Vec::new())?;
        let ended = self.try_to_install(host, packages);
        let after = formulae(host);
        if let Ok(after) = &after {
            watcher.record(after.difference(&before).cloned().collect(), Vec::new())?;
        }
        let ((install, output), after) = (ended?, after?);
        // A formula that is not linked is there, and no program of it can be found.
        if let Some(said) = line_with(&output, &[NOT_LINKED]).map(str::to_owned) {
            let trouble = Trouble {
                what: said,
                next: format!("run `brew link {}` and do what it says", packages.join(" ")),
            };
            return Err(not_installed(packages, trouble, &install, &output));
        }
        if packages.iter().any(|name| !after.contains(name)) {
            let trouble = SIGNS.trouble(&output).unwrap_or_else(Trouble::other);
            return Err(not_installed(packages, trouble, &install, &output));
        }
        if !output.success() {
            watcher.note(&failures::remark(&install, &output, None));
        }
        Ok(())
    }

    fn removal_command(&self, packages: &[String]) -> Command {
        brew("uninstall").arg("--formula").args(packages).logged()
    }

    fn remove(
        &self,
        host: &dyn Host,
        packages: &[String],
        _configured: &[String],
        note: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let there = formulae(host)?;
        let ours: Vec<&String> = packages
            .iter()
            .filter(|name| there.contains(*name))
            .collect();
        if ours.is_empty() {
            return Ok(());
        }
        // Homebrew itself refuses where another formula needs one of them.
        let ours: Vec<String> = ours.into_iter().cloned().collect();
        let uninstall = self.removal_command(&ours);
        let output = host.run(&uninstall)?;
        if output.success() {
            return Ok(());
        }
        let there = formulae(host)?;
        let left = ours.iter().filter(|name| there.contains(*name));
        let left: Vec<&str> = left.map(String::as_str).collect();
        if left.is_empty() {
            note(&failures::remark(&uninstall, &output, None));
            return Ok(());
        }
        let trouble = SIGNS.trouble(&output).unwrap_or_else(Trouble::other);
        let doing = format!("remove {}", left.join(", "));
        Err(failures::failed(&doing, trouble, &uninstall, &output))
    }
}

impl Brew {
    /// How the last attempt ended.
    fn try_to_install(
        &self,
        host: &dyn Host,
        packages: &[String],
    ) -> anyhow::Result<(Command, Output)> {
        let install = self.install_command(packages);
        let mut output = host.run(&install)?;
        if SIGNS.unknown_package(&output).is_some() {
            // Its own updating is switched off, and its list may be older than the formula. Whether
            // that helped is shown by the second attempt.
            host.run(&brew("update"))?;
            output = host.run(&install)?;
        }
        if let Some(said) = SIGNS.unknown_package(&output) {
            return Err(failures::unknown(self.name(), packages, said, None));
        }
        Ok((install, output))
    }
}

fn not_installed(
    packages: &[String],
    trouble: Trouble,
    install: &Command,
    output: &Output,
) -> anyhow::Error {
    let doing = format!("install {}", packages.join(", "));
    failures::failed(&doing, trouble, install, output)
}

fn refuse_root(host: &dyn Host) -> anyhow::Result<()> {
    ensure!(
        host.user().uid != 0,
        Failure::usage(
            "Homebrew does not run as root",
            "run the same command as the user who owns Homebrew, without sudo",
        )
    );
    Ok(())
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
    let output = host
        .expect(&list)
        .context("cannot list the installed formulae")?;
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::failure::{OneLine, advice_of};
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::packages::is_unknown_package;
    use crate::bastion::packages::test_support::Witness;

    const ENV: &str = "NONINTERACTIVE=1 HOMEBREW_NO_AUTO_UPDATE=1 HOMEBREW_NO_INSTALL_UPGRADE=1 \
                       HOMEBREW_NO_INSTALL_CLEANUP=1 HOMEBREW_NO_INSTALLED_DEPENDENTS_CHECK=1 \
                       HOMEBREW_NO_ENV_HINTS=1 HOMEBREW_NO_ANALYTICS=1 brew";

    fn expect(host: &ScriptedHost, verb: &str, status: i32, stdout: &str, stderr: &str) {
        host.expect(&format!("{ENV} {verb} "), status, stdout, stderr);
    }

    fn install(host: &ScriptedHost) -> (Vec<Vec<String>>, anyhow::Result<()>) {
        let mut witness = Witness::default();
        let result = Brew.install(host, &["autossh".to_owned()], &mut witness);
        (witness.records, result)
    }

    #[test]
    fn what_it_added_is_recorded_and_never_with_the_rights_of_root() {
        let host = ScriptedHost::new();
        expect(&host, "list", 0, "jq\n", "");
        expect(&host, "install", 0, "", "");
        expect(&host, "list", 0, "autossh\njq\nopenssl@3\n", "");
        let (records, result) = install(&host);
        result.unwrap();
        assert_eq!(records[0], ["autossh"], "the record before");
        assert_eq!(records[1], ["autossh", "openssl@3"]);
        assert!(host.ran().iter().all(|command| !command.contains("sudo")));
    }

    #[test]
    fn root_is_refused_before_anything_runs() {
        let host = ScriptedHost::as_root();
        let error = Brew.check(&host, &[], &mut Proofs::default()).unwrap_err();
        assert!(advice_of(&error).unwrap().contains("without sudo"));
        assert!(install(&host).1.is_err());
        assert!(host.ran().is_empty());
    }

    #[test]
    fn an_unknown_formula_is_looked_for_once_more_in_a_fresh_list() {
        let host = ScriptedHost::new();
        expect(&host, "list", 0, "", "");
        let words = "Warning: No available formula with the name \"autossh\".";
        expect(&host, "install", 1, "", words);
        host.expect(&format!("{ENV} update"), 0, "", "");
        expect(&host, "install", 1, "", words);
        expect(&host, "list", 0, "", "");
        let error = install(&host).1.unwrap_err();
        assert!(is_unknown_package(&error));
        assert!(OneLine(&error).to_string().contains("No available formula"));
    }

    #[test]
    fn another_running_brew_and_a_lost_network_are_told_apart() {
        let locked = "Error: A `brew install autossh` process has already locked /opt/homebrew/Cellar/autossh.";
        let no_network = "curl: (6) Could not resolve host: ghcr.io\nError: autossh: Failed to download resource";
        for (words, next) in [(locked, "wait"), (no_network, "mirror")] {
            let host = ScriptedHost::new();
            expect(&host, "list", 0, "", "");
            expect(&host, "install", 1, "", words);
            expect(&host, "list", 0, "", "");
            let error = install(&host).1.unwrap_err();
            assert!(advice_of(&error).unwrap().contains(next), "{error:#}");
        }
    }

    #[test]
    fn only_what_is_still_installed_is_removed() {
        let host = ScriptedHost::new();
        expect(&host, "list", 0, "autossh\njq\n", "");
        expect(&host, "uninstall", 0, "", "");
        let recorded = ["autossh".to_owned(), "gone".to_owned()];
        Brew.remove(&host, &recorded, &[], &|_| {}).unwrap();
        assert!(host.ran()[1].ends_with("brew uninstall --formula autossh"));
    }

    #[test]
    fn what_is_in_the_cellar_is_installed_however_brew_ends_unless_nothing_finds_it() {
        let postinstall = "Warning: The post-install step did not complete successfully\n";
        let unlinked = "Error: The `brew link` step did not complete successfully\n";
        for (words, is_installed) in [(postinstall, true), (unlinked, false)] {
            let host = ScriptedHost::new();
            expect(&host, "list", 0, "", "");
            expect(&host, "install", 1, "", words);
            expect(&host, "list", 0, "autossh\n", "");
            let (records, result) = install(&host);
            assert_eq!(records[1], ["autossh"]);
            assert_eq!(result.is_ok(), is_installed, "{result:?}");
            if let Err(error) = result {
                assert!(advice_of(&error).unwrap().contains("brew link autossh"));
            }
        }
    }

    #[test]
    fn what_is_no_longer_in_the_cellar_is_removed_however_brew_ends() {
        for (after, is_removed) in [("jq\n", true), ("autossh\njq\n", false)] {
            let host = ScriptedHost::new();
            expect(&host, "list", 0, "autossh\njq\n", "");
            expect(
                &host,
                "uninstall",
                1,
                "",
                "Error: Could not remove autossh keg!",
            );
            expect(&host, "list", 0, after, "");
            let result = Brew.remove(&host, &["autossh".to_owned()], &[], &|_| {});
            assert_eq!(result.is_ok(), is_removed, "{result:?}");
        }
    }
}
