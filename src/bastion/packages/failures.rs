//! What goes wrong with a package manager, told the same way for all of them.
//!
//! Each manager recognises its own words; what they mean and the next thing to do stand here.

use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, CommandError, Output};

/// What a package manager's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another one is at work.
    Locked,
    /// A repository cannot be reached.
    Unreachable,
    /// The disk is full.
    DiskFull,
    /// Something else; its own words have to do.
    Other,
}

/// The words by which a package manager's failures are told apart.
pub(super) struct Signs<'a> {
    /// Of another one at work; none where the manager's exit status tells it.
    pub locked: &'a [&'a str],
    /// Of a full disk.
    pub disk_full: &'a [&'a str],
    /// Of a repository that cannot be reached.
    pub unreachable: &'a [&'a str],
}

impl Trouble {
    /// What a failed command's words mean.
    pub(super) fn told_by(output: &Output, signs: &Signs) -> Self {
        if says(output, signs.locked) {
            Trouble::Locked
        } else if says(output, signs.disk_full) {
            Trouble::DiskFull
        } else if says(output, signs.unreachable) {
            Trouble::Unreachable
        } else {
            Trouble::Other
        }
    }

    fn next(self) -> &'static str {
        match self {
            Trouble::Locked => {
                "wait until it is done (`ps aux | grep -e apt -e dpkg -e dnf -e yum -e brew` shows it), then \
                 run the same command again"
            }
            Trouble::Unreachable => {
                "check that this host reaches its package mirror (proxies are taken from http_proxy and \
                 https_proxy), then run the same command again"
            }
            Trouble::DiskFull => "free some space on the disk, then run the same command again",
            Trouble::Other => {
                "run the command yourself to see it fail; once it works, run setup again"
            }
        }
    }
}

/// A package that none of the repositories has that could be asked.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
struct UnknownPackage {
    said: String,
}

/// Whether an installation failed because a package is in no repository. Nothing was installed then.
pub fn is_unknown_package(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<UnknownPackage>())
}

/// No repository has one of these packages. `unreached` holds what the manager said of repositories
/// it could not ask.
pub(super) fn unknown(
    manager: &str,
    packages: &[String],
    said: &str,
    unreached: Option<&str>,
) -> anyhow::Error {
    let packages = packages.join(", ");
    let failure = match unreached {
        None => Failure::new(
            format!("{manager} knows no package for {packages}"),
            "register this host, or enable the distribution's own repositories; then run the same command again",
        ),
        Some(unreached) => Failure::new(
            format!(
                "{manager} could not ask all its repositories ({unreached}), and finds no package for {packages}"
            ),
            Trouble::Unreachable.next(),
        ),
    };
    let said = said.trim().to_owned();
    failure.because(UnknownPackage { said }).into()
}

/// Another package manager did not give up its lock.
pub(super) fn locked(manager: &str, minutes: u64) -> Failure {
    Failure::new(
        format!(
            "another package manager has held {manager}'s lock for more than {minutes} minutes"
        ),
        Trouble::Locked.next(),
    )
}

/// An installation that failed.
pub(super) fn failed(
    trouble: Trouble,
    packages: &[String],
    command: &Command,
    output: Output,
) -> Failure {
    let what = match trouble {
        Trouble::Locked => "another package manager is at work",
        Trouble::Unreachable => "a package mirror cannot be reached",
        Trouble::DiskFull => "the disk is full",
        Trouble::Other => "the package manager failed",
    };
    Failure::new(
        format!("installing {} failed: {what}", packages.join(", ")),
        trouble.next(),
    )
    .because(CommandError::Status {
        command: command.to_string(),
        status: output.status,
        stderr: output.stderr,
        stdout: output.stdout,
    })
}

/// Whether one of these signs is in what a command said.
pub(super) fn says(output: &Output, signs: &[&str]) -> bool {
    signs
        .iter()
        .any(|sign| output.stderr.contains(sign) || output.stdout.contains(sign))
}

/// The first line of what a command said that holds one of these signs.
pub(super) fn line_with<'o>(output: &'o Output, signs: &[&str]) -> Option<&'o str> {
    output
        .stderr
        .lines()
        .chain(output.stdout.lines())
        .find(|line| signs.iter().any(|sign| line.contains(sign)))
        .map(str::trim)
}
