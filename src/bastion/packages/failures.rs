//! What goes wrong with a package manager, told the same way for all of them.
//!
//! Each manager lists its own words in [`Signs`]; what they mean and the next thing to do stand here.

use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, CommandError, Output};

/// The words by which a package manager's failures are told apart.
pub(super) struct Signs {
    /// Another package manager is running.
    pub locked: &'static [&'static str],
    /// No repository has a package.
    pub unknown: &'static [&'static str],
    /// The disk is full.
    pub disk_full: &'static [&'static str],
    /// A repository cannot be reached.
    pub unreachable: &'static [&'static str],
}

/// What failed, and the next thing to do.
struct Trouble {
    what: &'static str,
    next: &'static str,
}

const LOCKED: Trouble = Trouble {
    what: "another package manager is running",
    next: "wait until it is done (`ps aux | grep -e apt -e dpkg -e dnf -e yum -e brew` shows it), then run the same \
           command again",
};
const DISK_FULL: Trouble = Trouble {
    what: "the disk is full",
    next: "free some space on the disk, then run the same command again",
};
const UNREACHABLE: Trouble = Trouble {
    what: "a package mirror cannot be reached",
    next: "check that this host reaches its package mirror (proxies are taken from http_proxy and https_proxy), then \
           run the same command again",
};
const OTHER: Trouble = Trouble {
    what: "the package manager failed",
    next: "run the command yourself to see it fail; once it works, run setup again",
};

impl Signs {
    /// What a command that failed said of a package that no repository has.
    pub(super) fn unknown_package<'o>(&self, output: &'o Output) -> Option<&'o str> {
        line_with(output, self.unknown).filter(|_| !output.success())
    }

    fn trouble(&self, output: &Output) -> Trouble {
        let known = [
            (self.locked, LOCKED),
            (self.disk_full, DISK_FULL),
            (self.unreachable, UNREACHABLE),
        ];
        let said = known.into_iter().find(|(signs, _)| says(output, signs));
        said.map_or(OTHER, |(_, trouble)| trouble)
    }
}

/// No repository that could be reached has one of the packages.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
struct UnknownPackage {
    said: String,
}

/// Whether an installation failed because a package is in no repository. Nothing was installed then.
pub fn is_unknown_package(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<UnknownPackage>())
}

/// No repository has one of these packages. `unreached` is what the manager said of repositories that it
/// could not reach.
pub(super) fn unknown(
    manager: &str,
    packages: &[String],
    said: &str,
    unreached: Option<&str>,
) -> anyhow::Error {
    let packages = packages.join(", ");
    let failure = match unreached {
        None => Failure::new(
            format!("{manager} found no package for {packages}"),
            "register this host, or enable the distribution's own repositories; then run the same command again",
        ),
        Some(unreached) => Failure::new(
            format!(
                "{manager} could not reach all of its repositories ({unreached}) and found no package for {packages}"
            ),
            UNREACHABLE.next,
        ),
    };
    let said = said.trim().to_owned();
    failure.because(UnknownPackage { said }).into()
}

/// Another package manager did not release the lock.
pub(super) fn locked(manager: &str, minutes: u64) -> Failure {
    Failure::new(
        format!(
            "another package manager has held {manager}'s lock for more than {minutes} minutes"
        ),
        LOCKED.next,
    )
}

/// An installation failed.
pub(super) fn failed(
    signs: &Signs,
    packages: &[String],
    command: &Command,
    output: Output,
) -> anyhow::Error {
    let Trouble { what, next } = signs.trouble(&output);
    Failure::new(
        format!("could not install {}: {what}", packages.join(", ")),
        next,
    )
    .because(CommandError::Status {
        command: command.to_string(),
        status: output.status,
        stderr: output.stderr,
        stdout: output.stdout,
    })
    .into()
}

/// Whether a command said one of these signs.
pub(super) fn says(output: &Output, signs: &[&str]) -> bool {
    line_with(output, signs).is_some()
}

/// The first line of what a command said that holds one of these signs.
pub(super) fn line_with<'o>(output: &'o Output, signs: &[&str]) -> Option<&'o str> {
    let mut lines = output.stderr.lines().chain(output.stdout.lines());
    lines
        .find(|line| signs.iter().any(|sign| line.contains(sign)))
        .map(str::trim)
}
