//! Package managers, one type each, behind [`PackageManager`].
//!
//! To add one: a file beside this one that implements the trait, a variant in
//! `facts::PackageManagerKind` with the program by which it is found, and a line in [`for_host`].

mod apt;

use anyhow::bail;

use super::facts::{Facts, PackageManagerKind};
use super::failure::Failure;
use super::host::{Command, Host};

/// What setup may need from a package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `curl`, for the bootstrap and removal commands.
    Curl,
    /// `autossh`.
    Autossh,
    /// `ssh` and `ssh-keygen`.
    OpensshClient,
}

impl Need {
    /// The programs that show that the need is met.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Need::Curl => &["curl"],
            Need::Autossh => &["autossh"],
            Need::OpensshClient => &["ssh", "ssh-keygen"],
        }
    }
}

/// A package manager.
pub trait PackageManager {
    /// Its name, as it stands in the receipt.
    fn name(&self) -> &'static str;

    /// The package that meets a need.
    fn package(&self, need: Need) -> &'static str;

    /// The command that installs packages, as the plan shows it.
    fn install_command(&self, packages: &[String]) -> Command;

    /// Everything that installing these packages would add to the host, dependencies included.
    ///
    /// # Errors
    /// The package manager fails, or knows no such package.
    fn would_install(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<Vec<String>>;

    /// Installs packages without asking anything.
    ///
    /// # Errors
    /// The package manager fails; the error holds the end of what it said.
    fn install(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()>;

    /// Removes exactly these packages, which an earlier [`PackageManager::install`] brought.
    ///
    /// # Errors
    /// The package manager fails.
    fn remove(&self, host: &dyn Host, packages: &[String]) -> anyhow::Result<()>;
}

/// The package manager of a host.
pub fn for_host(facts: &Facts) -> Option<Box<dyn PackageManager>> {
    match facts.package_manager? {
        PackageManagerKind::Apt => Some(Box::new(apt::Apt)),
        PackageManagerKind::Dnf
        | PackageManagerKind::Microdnf
        | PackageManagerKind::Yum
        | PackageManagerKind::Brew => None,
    }
}

/// The package manager that a receipt names.
///
/// # Errors
/// This version does not know it.
pub fn by_name(name: &str) -> anyhow::Result<Box<dyn PackageManager>> {
    match name {
        "apt" => Ok(Box::new(apt::Apt)),
        _ => bail!(Failure::new(
            format!(
                "the receipt names the package manager {name:?}, which this version does not know"
            ),
            "use the version of holistics-tunnel that wrote the receipt",
        )),
    }
}
