//! Package managers, one type each, behind [`PackageManager`].
//!
//! To add one: a file beside this one that implements the trait, a variant in
//! `facts::PackageManagerKind` with the program by which it is found, and its line in `of_kind`.

mod apt;
mod brew;
mod epel;
mod failures;
mod lock;
mod need;
mod rpm;
#[cfg(test)]
pub mod test_support;
mod yum;

use serde::Deserialize as _;
use serde::de::value::{Error as NameError, StrDeserializer};

use super::facts::{Facts, PackageManagerKind};
use super::failure::Failure;
use super::host::{Authority, Command, Host};
use super::steps::PlannedCommand;
pub use failures::is_unknown_package;
pub use need::{BUILD_NEEDS, Need};

/// Whoever has packages installed.
pub trait Watcher {
    /// Records packages that are added to the host: before they are, as far as is known then, and again
    /// with what was really added. The last record counts.
    ///
    /// # Errors
    /// It cannot be recorded; nothing must be installed then.
    fn record(&mut self, packages: Vec<String>) -> anyhow::Result<()>;

    /// Says what the package manager waits for, where that may take a while.
    fn waits_for(&mut self, what: &str);
}

pub trait PackageManager {
    /// Its name, as it stands in the receipt.
    fn name(&self) -> &'static str;

    /// The package that meets a need, or nothing where the manager has none for it.
    fn package(&self, need: Need) -> Option<&'static str>;

    /// The packages that meet these needs.
    fn packages(&self, needs: &[Need]) -> Vec<String> {
        let packages = needs.iter().filter_map(|need| self.package(*need));
        packages.map(str::to_owned).collect()
    }

    /// The command that installs packages.
    fn install_command(&self, packages: &[String]) -> Command;

    /// What [`PackageManager::install`] runs, for the plan.
    fn commands(&self, packages: &[String]) -> Vec<PlannedCommand> {
        vec![self.install_command(packages).into()]
    }

    /// Whether it installs as root.
    fn needs_root(&self) -> bool {
        self.install_command(&[]).authority == Authority::Root
    }

    /// Looks for what would make every installation fail, and changes nothing.
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

    /// The command that updates what `curl` needs to trust today's servers, on hosts so old that theirs
    /// no longer does.
    fn renew_trust(&self) -> Option<Command> {
        None
    }
}

/// The package manager of a host.
pub fn for_host(facts: &Facts) -> Option<Box<dyn PackageManager>> {
    let yum = |program| yum::Yum::new(program, &facts.id, &facts.version);
    facts.package_manager.map(|kind| of_kind(kind, yum))
}

/// The package manager that a receipt names.
pub fn by_name(name: &str) -> anyhow::Result<Box<dyn PackageManager>> {
    let kind = PackageManagerKind::deserialize(StrDeserializer::<NameError>::new(name));
    let kind = kind.map_err(|_| {
        Failure::new(
            format!(
                "the receipt names a package manager that this version does not know: {name:?}"
            ),
            "use the version of holistics-tunnel that wrote the receipt",
        )
    })?;
    Ok(of_kind(kind, yum::Yum::for_removal))
}

fn of_kind(
    kind: PackageManagerKind,
    yum: impl Fn(yum::Program) -> yum::Yum,
) -> Box<dyn PackageManager> {
    match kind {
        PackageManagerKind::Apt => Box::new(apt::Apt),
        PackageManagerKind::Dnf => Box::new(yum(yum::DNF)),
        PackageManagerKind::Microdnf => Box::new(yum(yum::MICRODNF)),
        PackageManagerKind::Yum => Box::new(yum(yum::YUM)),
        PackageManagerKind::Brew => Box::new(brew::Brew),
    }
}

/// Records what an installation added: after a failure too, since it may have come half-way.
fn record_outcome(
    watcher: &mut dyn Watcher,
    result: anyhow::Result<()>,
    added: anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    match added {
        Ok(added) => watcher.record(added)?,
        Err(error) if result.is_ok() => return Err(error),
        Err(_) => {}
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_manager_is_found_again_by_the_name_in_the_receipt() {
        for name in ["apt", "dnf", "microdnf", "yum", "brew"] {
            assert_eq!(by_name(name).unwrap().name(), name);
        }
        assert!(by_name("pacman").is_err());
    }
}
