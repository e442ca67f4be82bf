//! dnf, microdnf and yum, on RHEL, its rebuilds, Fedora and Amazon Linux.
//!
//! One type serves all three: they differ in a few options and in their words. What an installation
//! added is read from the RPM database (`rpm`), which is the same under all of them.

use std::time::Duration;

use super::failures::{self, Signs, Trouble, line_with, says};
use super::lock::Runner;
use super::{Need, PackageManager, Watcher, epel, rpm};
use crate::bastion::host::{Authority, Command, Host, Output};
use crate::bastion::steps::PlannedCommand;

/// How long an installation may take: on a fresh host the metadata of all repositories is fetched.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The exit status of dnf and yum when the lock is held: dnf(8), section EXIT CODES.
const LOCKED_STATUS: i32 = 200;

const SIGNS: Signs = Signs {
    locked: &[
        "holding the yum lock",
        "already locked by",
        "transaction lock",
        "Waiting for process with pid",
    ],
    // A host that is not registered has no repositories, and so no package at all.
    unknown: &[
        "Unable to find a match",
        "No match for argument",
        "No package matches",
        "no enabled repositories",
        "no enabled repos",
        "system is not registered",
    ],
    disk_full: &[
        "Disk Requirements",
        "No space left on device",
        "more space needed",
    ],
    unsigned: &[
        "GPG check FAILED",
        "is not signed",
        "Public key for",
        "GPG key retrieval failed",
        "cannot be verified",
        // Where no key at all is known.
        "checking of packages via GPG keys",
    ],
    unreachable: &[
        "Failed to download metadata",
        "Failed to synchronize cache",
        "Could not resolve host",
        "Cannot download",
        "Cannot prepare internal mirrorlist",
        "Cannot find a valid baseurl",
        "Cannot retrieve metalink",
        "Cannot retrieve repository metadata",
        "Could not retrieve mirrorlist",
        "No more mirrors to try",
        "Error downloading packages",
        "Curl error",
    ],
};

#[derive(PartialEq, Eq)]
pub(super) struct Program {
    name: &'static str,
    /// The options of every call: ask nothing, wait for no lock (they would without end), add nothing
    /// that is only recommended.
    options: &'static [&'static str],
    /// The options that make it go on without a repository that cannot be reached. microdnf has none.
    tolerance: &'static [&'static str],
}

/// Since RHEL 8 and Fedora 22.
pub(super) const DNF: Program = Program {
    name: "dnf",
    options: &[
        "-y",
        "--setopt=exit_on_lock=True",
        "--setopt=install_weak_deps=False",
    ],
    tolerance: &[
        "--setopt=skip_if_unavailable=True",
        "--setopt=*.skip_if_unavailable=True",
    ],
};
/// On minimal images.
pub(super) const MICRODNF: Program = Program {
    name: "microdnf",
    options: &["-y", "--setopt=install_weak_deps=0"],
    tolerance: &[],
};
/// Up to RHEL 7.
pub(super) const YUM: Program = Program {
    name: "yum",
    options: &["-y", "--setopt=exit_on_lock=1"],
    tolerance: &["--setopt=*.skip_if_unavailable=1"],
};

impl Program {
    fn command(&self, verb: &str, packages: &[String], more: &[&str]) -> Command {
        Command::new(self.name)
            .arg(verb)
            .args(self.options.iter().chain(more).copied())
            .args(packages)
            // Errors are told apart by their text.
            .env("LC_ALL", "C")
            .with_authority(Authority::Root)
            .timeout(INSTALL_TIMEOUT)
            .atomic()
            .downloads()
            .logged()
    }
}

pub(super) struct Yum {
    program: Program,
    epel: Option<String>,
    has_old_nss: bool,
}

impl Yum {
    /// The package manager of this version of a distribution.
    pub(super) fn new(program: Program, distribution: &str, version: &str) -> Self {
        Yum {
            epel: epel::release_package(distribution, version),
            has_old_nss: program == YUM && (1..8).contains(&epel::major(version)),
            program,
        }
    }

    /// One that only has to remove what it once added.
    pub(super) fn for_removal(program: Program) -> Self {
        Yum {
            program,
            epel: None,
            has_old_nss: false,
        }
    }

    /// Installs, if need be without the repositories that cannot be reached: how the last attempt ended.
    fn try_to_install(
        &self,
        runner: &mut Runner,
        packages: &[String],
    ) -> anyhow::Result<(Command, Output)> {
        let mut install = self.install_command(packages);
        let mut output = runner.run(&install)?;
        let unreached = line_with(&output, SIGNS.unreachable).map(str::to_owned);
        let has_failed = !output.success() && self.unknown_package(&output).is_none();
        let tolerance = self.program.tolerance;
        if has_failed && unreached.is_some() && !tolerance.is_empty() {
            install = self.program.command("install", packages, tolerance);
            output = runner.run(&install)?;
        }
        if let Some(said) = self.unknown_package(&output) {
            let unreached = unreached.as_deref();
            return Err(failures::unknown(self.name(), packages, said, unreached));
        }
        Ok((install, output))
    }

    /// What was said of a package that no repository has.
    fn unknown_package<'o>(&self, output: &'o Output) -> Option<&'o str> {
        if self.program != YUM {
            return SIGNS.unknown_package(output);
        }
        // yum installs the others and succeeds where one of several packages is unknown.
        let mut lines = output.stdout.lines().chain(output.stderr.lines());
        lines
            .find(|line| line.starts_with("No package ") && line.ends_with(" available."))
            .or_else(|| line_with(output, SIGNS.unknown))
    }
}

impl PackageManager for Yum {
    fn name(&self) -> &'static str {
        self.program.name
    }

    fn package(&self, need: Need) -> Option<&'static str> {
        Some(match need {
            Need::Curl => "curl",
            Need::Autossh => "autossh",
            Need::OpensshClient => "openssh-clients",
            Need::Ncat => "nmap-ncat",
            Need::Compiler => "gcc",
            Need::Make => "make",
            Need::LibcHeaders => "glibc-devel",
            Need::Tar => "tar",
        })
    }

    fn install_command(&self, packages: &[String]) -> Command {
        self.program.command("install", packages, &[])
    }

    fn commands(&self, packages: &[String]) -> Vec<PlannedCommand> {
        let mut commands = vec![rpm::query().into(), self.install_command(packages).into()];
        if !self.program.tolerance.is_empty() {
            let tolerant = self
                .program
                .command("install", packages, self.program.tolerance);
            let tolerant = PlannedCommand::from(tolerant);
            commands.push(tolerant.only("if a repository cannot be reached"));
        }
        commands
    }

    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<()> {
        let before = rpm::inventory(host)?;
        let asked: Vec<&str> = packages
            .iter()
            .map(|asked| epel::package_name(asked))
            .collect();
        let new = asked
            .iter()
            .filter(|name| before.iter().all(|there| there.name != **name));
        watcher.record(new.map(|name| (*name).to_owned()).collect(), Vec::new())?;
        let mut runner = Runner {
            host,
            watcher: &mut *watcher,
            manager: self.name(),
            is_locked,
        };
        let ended = self.try_to_install(&mut runner, packages);
        let after = rpm::inventory(host);
        if let Ok(after) = &after {
            watcher.record(rpm::added(&before, after, &asked), Vec::new())?;
        }
        let ((install, output), after) = (ended?, after?);
        let mut is_there = true;
        for name in asked {
            let is_installed = after.iter().any(|package| package.name == name);
            is_there = is_there && (is_installed || rpm::is_provided(host, name)?);
        }
        let failed = rpm::failed_scripts(&output);
        if !is_there {
            let trouble = SIGNS
                .trouble(&output)
                .or_else(|| rpm::scripts_trouble(&failed))
                .unwrap_or_else(Trouble::other);
            let doing = format!("install {}", packages.join(", "));
            return Err(failures::failed(&doing, trouble, &install, &output));
        }
        if !output.success() || !failed.is_empty() {
            let trouble = rpm::scripts_trouble(&failed);
            watcher.note(&failures::remark(&install, &output, trouble));
        }
        Ok(())
    }

    fn removal_command(&self, packages: &[String]) -> Command {
        rpm::erase_command(packages)
    }

    fn remove(
        &self,
        host: &dyn Host,
        packages: &[String],
        _configured: &[String],
        note: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let ours: Vec<String> = rpm::inventory(host)?
            .into_iter()
            .filter(|there| packages.contains(&there.id) || packages.contains(&there.name))
            .map(|there| there.id)
            .collect();
        rpm::erase(host, &ours, note)
    }

    fn extra_repository(&self) -> Option<&str> {
        self.epel.as_deref()
    }

    /// RHEL 6 and 7 as they were released know neither today's TLS versions nor today's authorities.
    fn renew_trust(&self) -> Option<Command> {
        let packages = ["nss", "curl", "ca-certificates"].map(str::to_owned);
        self.has_old_nss
            .then(|| self.program.command("update", &packages, &[]))
    }
}

fn is_locked(output: &Output) -> bool {
    output.status == LOCKED_STATUS || (!output.success() && says(output, SIGNS.locked))
}

#[cfg(test)]
mod tests;
