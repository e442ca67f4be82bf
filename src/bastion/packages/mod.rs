//! Package managers, one type each, behind [`PackageManager`].
//!
//! To add one: a file beside this one that implements the trait, a variant in
//! `facts::PackageManagerKind` with the program by which it is found, and its lines in [`for_host`]
//! and [`by_name`]. [`source`] and [`build`] make autossh where no package manager has it.

mod apt;
mod brew;
pub mod build;
mod failures;
mod lock;
mod rpm;
pub mod source;
mod yum;

use std::path::Path;

use anyhow::bail;

use super::facts::{Facts, PackageManagerKind};
use super::failure::Failure;
use super::host::{Command, Host, HostExt as _};
pub use failures::is_unknown_package;

/// What setup may need from a package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `curl`, for the bootstrap and removal commands.
    Curl,
    /// `autossh`.
    Autossh,
    /// `ssh` and `ssh-keygen`.
    OpensshClient,
    /// A C compiler.
    Compiler,
    /// `make`.
    Make,
    /// The headers of the C library.
    LibcHeaders,
    /// `tar`.
    Tar,
}

/// What autossh is built with.
pub const BUILD_NEEDS: [Need; 4] = [Need::Compiler, Need::Make, Need::LibcHeaders, Need::Tar];

/// Where the C library's headers are; on macOS they come with the developer tools.
const LIBC_HEADERS: [&str; 3] = [
    "/usr/include/stdio.h",
    "/Library/Developer/CommandLineTools/SDKs",
    "/Applications/Xcode.app",
];

impl Need {
    /// What it is called where it is missing.
    pub fn name(self) -> &'static str {
        match self {
            Need::Curl => "curl",
            Need::Autossh => "autossh",
            Need::OpensshClient => "ssh and ssh-keygen",
            Need::Compiler => "a C compiler",
            Need::Make => "make",
            Need::LibcHeaders => "the C library's headers",
            Need::Tar => "tar",
        }
    }

    /// Whether the host has it.
    pub fn is_met(self, host: &dyn Host) -> bool {
        let has = |program| host.which(program).is_some();
        match self {
            Need::Curl => has("curl"),
            Need::Autossh => has("autossh"),
            Need::OpensshClient => has("ssh") && has("ssh-keygen"),
            Need::Compiler => has("gcc") || has("cc"),
            Need::Make => has("make"),
            Need::LibcHeaders => LIBC_HEADERS.iter().any(|path| host.exists(Path::new(path))),
            Need::Tar => has("tar"),
        }
    }
}

/// Whoever has packages installed.
pub trait Watcher {
    /// Takes down packages that are added to the host: before they are, as far as is known then, and
    /// again with what was really added. What was taken down last counts.
    ///
    /// # Errors
    /// It cannot be taken down, and nothing must be installed then.
    fn record(&mut self, packages: Vec<String>) -> anyhow::Result<()>;

    /// Says what the package manager waits for, where that may take a while.
    fn waits_for(&mut self, what: &str);
}

/// A package manager.
pub trait PackageManager {
    /// Its name, as it stands in the receipt.
    fn name(&self) -> &'static str;

    /// The package that meets a need, or nothing where the manager has none for it.
    fn package(&self, need: Need) -> Option<&'static str>;

    /// The command that installs packages, as the plan shows it.
    fn install_command(&self, packages: &[String]) -> Command;

    /// Looks for what would make every installation fail, and changes nothing.
    ///
    /// # Errors
    /// What stands in the way, and how to remove it.
    fn check(&self, _host: &dyn Host) -> anyhow::Result<()> {
        Ok(())
    }

    /// Installs packages without asking anything. Everything this adds, dependencies included, goes
    /// through [`Watcher::record`] before the host is changed; what was there before never does.
    ///
    /// # Errors
    /// The package manager fails; the error holds the end of what it said. [`is_unknown_package`]
    /// tells that one of the packages is in no repository.
    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<()>;

    /// Removes exactly these packages, which an earlier [`PackageManager::install`] has added.
    ///
    /// # Errors
    /// The package manager fails, or something else has come to need one of them.
    fn remove(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()>;

    /// The package that adds the repository in which further packages are, where there is one.
    fn extra_repository(&self) -> Option<&str> {
        None
    }

    /// The command that brings what `curl` needs to trust today's servers up to date, on hosts so
    /// old that theirs no longer does.
    fn renew_trust(&self) -> Option<Command> {
        None
    }
}

/// The package manager of a host.
pub fn for_host(facts: &Facts) -> Option<Box<dyn PackageManager>> {
    Some(match facts.package_manager? {
        PackageManagerKind::Apt => Box::new(apt::Apt),
        PackageManagerKind::Dnf => Box::new(yum::Yum::new(yum::Program::Dnf, facts)),
        PackageManagerKind::Microdnf => Box::new(yum::Yum::new(yum::Program::Microdnf, facts)),
        PackageManagerKind::Yum => Box::new(yum::Yum::new(yum::Program::Yum, facts)),
        PackageManagerKind::Brew => Box::new(brew::Brew),
    })
}

/// The package manager that a receipt names.
pub fn by_name(name: &str) -> anyhow::Result<Box<dyn PackageManager>> {
    if let Some(program) = yum::Program::by_name(name) {
        return Ok(Box::new(yum::Yum::for_removal(program)));
    }
    match name {
        "apt" => Ok(Box::new(apt::Apt)),
        "brew" => Ok(Box::new(brew::Brew)),
        _ => bail!(Failure::new(
            format!(
                "the receipt names the package manager {name:?}, which this version does not know"
            ),
            "use the version of holistics-tunnel that wrote the receipt",
        )),
    }
}

/// A watcher that keeps what it is told.
#[cfg(test)]
#[derive(Default)]
struct Witness {
    records: Vec<Vec<String>>,
    waits: Vec<String>,
}

#[cfg(test)]
impl Watcher for Witness {
    fn record(&mut self, packages: Vec<String>) -> anyhow::Result<()> {
        self.records.push(packages);
        Ok(())
    }

    fn waits_for(&mut self, what: &str) {
        self.waits.push(what.to_owned());
    }
}
