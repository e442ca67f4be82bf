//! Package managers, one type each, behind [`PackageManager`].
//!
//! To add one: a file beside this one that implements the trait, a variant in
//! `facts::PackageManagerKind` with the program by which it is found, and its line in `of_kind`.

mod apt;
mod brew;
mod dpkg;
mod epel;
mod failures;
mod lock;
mod need;
mod rpm;
#[cfg(test)]
pub mod test_support;
mod yum;

use std::path::Path;

use serde::Deserialize as _;
use serde::de::value::{Error as NameError, StrDeserializer};

use super::facts::{Facts, PackageManagerKind};
use super::failure::Failure;
use super::host::{Authority, Command, Host};
use super::steps::{PlannedCommand, Proofs};
pub use failures::is_unknown_package;
pub use need::{BUILD_NEEDS, Need};

/// Whoever has packages installed.
pub trait Watcher {
    /// Records packages that are added to the host: before they are, as far as is known then, and again
    /// with what was really added. The last record counts. `configured` are those of them whose configuration
    /// was there before.
    ///
    /// # Errors
    /// It cannot be recorded; nothing must be installed then.
    fn record(&mut self, packages: Vec<String>, configured: Vec<String>) -> anyhow::Result<()>;

    /// Says what the package manager waits for, where that may take a while.
    fn waits_for(&mut self, what: &str);

    /// Says what is to be known of an installation that worked.
    fn note(&mut self, text: &str);
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

    fn install_command(&self, packages: &[String]) -> Command;

    /// What [`PackageManager::install`] runs, for the plan.
    fn commands(&self, packages: &[String]) -> Vec<PlannedCommand> {
        vec![self.install_command(packages).into()]
    }

    /// What [`PackageManager::remove`] runs for these packages alone: what else they bring is known later.
    fn removal_command(&self, packages: &[String]) -> Command;

    /// Whether it installs as root.
    fn needs_root(&self) -> bool {
        self.install_command(&[]).authority == Authority::Root
    }

    /// What [`PackageManager::check`] runs.
    fn questions(&self, _packages: &[String]) -> Vec<Command> {
        Vec::new()
    }

    /// Looks for what would make the installation of these packages fail, and changes nothing.
    ///
    /// # Errors
    /// What stands in the way, and how to remove it.
    fn check(
        &self,
        host: &dyn Host,
        packages: &[String],
        _proofs: &mut Proofs,
    ) -> anyhow::Result<()> {
        check_writable(host, self.name(), packages)
    }

    /// Installs packages without asking anything. Whether they are there afterwards decides, and not how the
    /// manager ended: it answers for other packages, too. Everything this adds, dependencies included, goes
    /// through [`Watcher::record`] before the host is changed; what was there before never does.
    ///
    /// # Errors
    /// They are not installed; the error holds the end of what was said. [`is_unknown_package`]
    /// tells that one of the packages is in no repository.
    fn install(
        &self,
        host: &dyn Host,
        packages: &[String],
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<()>;

    /// Removes exactly these packages, which an earlier [`PackageManager::install`] has added, and their
    /// configuration but for those that had it before. Whether they are gone decides, and not how the manager
    /// ended; `note` is told if that was with an error.
    ///
    /// # Errors
    /// They are still there, or something else has come to need one of them.
    fn remove(
        &self,
        host: &dyn Host,
        packages: &[String],
        configured: &[String],
        note: &dyn Fn(&str),
    ) -> anyhow::Result<()>;

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

pub fn for_host(facts: &Facts) -> Option<Box<dyn PackageManager>> {
    // The versions of an unknown distribution are not those of RHEL.
    let (id, version) = match facts.family_by {
        Some(_) => ("", ""),
        None => (facts.id.as_str(), facts.version.as_str()),
    };
    let yum = |program| yum::Yum::new(program, id, version);
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

/// Where packages are put.
const PACKAGES_GO_TO: [&str; 3] = ["/usr", "/etc", "/var"];

/// Looks whether packages can be written where they go: not on hosts whose system is an image.
fn check_writable(host: &dyn Host, manager: &str, packages: &[String]) -> anyhow::Result<()> {
    for place in PACKAGES_GO_TO.map(Path::new) {
        // What the system does not say is seen when it installs.
        let system = host.file_system(place);
        if !system.is_ok_and(|system| system.is_read_only) {
            continue;
        }
        let (place, packages) = (place.display(), packages.join(", "));
        return Err(Failure::new(
            format!("{manager} cannot install {packages}: {place} is on a file system that is read-only"),
            format!("have {packages} in the image of this host, or make {place} writable; then run the same command again"),
        )
        .into());
    }
    Ok(())
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
