//! What goes wrong with a package manager, told the same way for all of them.
//!
//! Each manager lists its own words in [`Signs`]; what they mean and the next thing to do stand here.

use crate::bastion::failure::Failure;
use crate::bastion::host::command::{below, last_lines};
use crate::bastion::host::{Command, Output};

/// The words by which a package manager's failures are told apart.
pub(super) struct Signs {
    /// Another package manager is running.
    pub locked: &'static [&'static str],
    /// No repository has a package.
    pub unknown: &'static [&'static str],
    pub disk_full: &'static [&'static str],
    /// A package's signature is missing, or its key is.
    pub unsigned: &'static [&'static str],
    /// A repository cannot be reached.
    pub unreachable: &'static [&'static str],
}

/// What stands in the way, and what is to be done about it. Then the same command works.
pub(super) struct Trouble {
    pub what: String,
    pub next: String,
}

impl Trouble {
    fn new(what: &str, next: &str) -> Self {
        let (what, next) = (what.to_owned(), next.to_owned());
        Trouble { what, next }
    }

    /// What is told where nothing more is known.
    pub(super) fn other() -> Self {
        Trouble::new(
            "the package manager failed",
            "run the command yourself to see it fail, and fix what it names",
        )
    }
}

impl From<Trouble> for Failure {
    fn from(Trouble { what, next }: Trouble) -> Self {
        Failure::new(what, and_again(&next))
    }
}

fn and_again(next: &str) -> String {
    format!("{next}; then run the same command again")
}

const LOCKED: (&str, &str) = (
    "another package manager is running",
    "wait until it is done (`ps aux | grep -e apt -e dpkg -e dnf -e yum -e brew` shows it)",
);
const DISK_FULL: (&str, &str) = ("the disk is full", "free some space on the disk");
const UNSIGNED: (&str, &str) = (
    "a package's signature cannot be checked",
    "have this host trust the key of that package's repository (`gpgkey` and `sudo rpm --import`, or `Signed-By` for \
     apt), or ask whoever keeps the repository",
);
const UNREACHABLE: (&str, &str) = (
    "a package mirror cannot be reached",
    "check that this host reaches its package mirror (proxies are taken from http_proxy and https_proxy)",
);

impl Signs {
    /// What a command that failed said of a package that no repository has.
    pub(super) fn unknown_package<'o>(&self, output: &'o Output) -> Option<&'o str> {
        line_with(output, self.unknown).filter(|_| !output.success())
    }

    /// What is known from the words of a command that failed.
    pub(super) fn trouble(&self, output: &Output) -> Option<Trouble> {
        let known = [
            (self.locked, LOCKED),
            (self.disk_full, DISK_FULL),
            (self.unsigned, UNSIGNED),
            (self.unreachable, UNREACHABLE),
        ];
        let said = known.into_iter().find(|(signs, _)| says(output, signs));
        said.map(|(_, (what, next))| Trouble::new(what, next))
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
            and_again(UNREACHABLE.1),
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
        and_again(LOCKED.1),
    )
}

/// A package manager did not do what it was asked for, such as "install autossh".
pub(super) fn failed(
    doing: &str,
    trouble: Trouble,
    command: &Command,
    output: &Output,
) -> anyhow::Error {
    let what = format!("could not {doing}: {}", trouble.what);
    Failure::from(Trouble { what, ..trouble })
        .because(Ended {
            command: command.to_string(),
            output: output.clone(),
        })
        .into()
}

/// What is remarked of a package manager that did what it was asked for, and yet ended with an error.
pub(super) fn remark(command: &Command, output: &Output, trouble: Option<Trouble>) -> String {
    let program = &command.program;
    let ended = match output.status {
        0 => format!("{program} did what was asked for"),
        status => {
            format!("{program} ended with status {status}, and did what was asked for all the same")
        }
    };
    match trouble {
        Some(Trouble { what, next }) => format!("{ended}: {what}. To fix that, {next}."),
        None => format!("{ended}{}", below(&output.ends())),
    }
}

/// A command that ended with an error.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` ended with status {}{}", output.status, below(&output.ends()))]
struct Ended {
    command: String,
    output: Output,
}

impl Output {
    /// The ends of both outputs: which of them holds the reason differs.
    fn ends(&self) -> Vec<&str> {
        [last_lines(&self.stdout), last_lines(&self.stderr)].concat()
    }
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
