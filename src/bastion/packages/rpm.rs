//! The RPM database: what is installed, what one transaction added, and its removal.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;

use crate::bastion::host::{Authority, Command, Host, HostExt as _};

/// How long a removal may take: every package's own script runs.
const ERASE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A package in the RPM database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    /// What `rpm -e` takes, and what an upgrade does not change.
    pub id: String,
    /// What it is asked for by.
    pub name: String,
    /// All packages of one transaction have the same, and no other package has it.
    transaction: String,
}

/// The name under which the keys that sign packages stand in the same database.
const KEY: &str = "gpg-pubkey";

impl Installed {
    fn is_key(&self) -> bool {
        self.name == KEY
    }
}

pub(super) fn inventory(host: &dyn Host) -> anyhow::Result<Vec<Installed>> {
    let output = host
        .expect(&query())
        .context("cannot list the installed packages")?;
    Ok(output.stdout.lines().filter_map(installed).collect())
}

/// The command that lists what is installed.
pub(super) fn query() -> Command {
    Command::new("rpm")
        .args([
            "-qa",
            "--qf",
            "%{NAME} %{ARCH} %{VERSION}-%{RELEASE} %{INSTALLTID}\\n",
        ])
        // Debian's rpm shows everybody else a database of their own, and makes it in their home.
        .with_authority(Authority::Root)
        // What was added is to be known even if the run is interrupted now.
        .atomic()
}

fn installed(line: &str) -> Option<Installed> {
    let mut words = line.split(' ');
    let (name, arch, version, transaction) =
        (words.next()?, words.next()?, words.next()?, words.next()?);
    let id = if name == KEY {
        format!("{name}-{version}")
    } else {
        format!("{name}.{arch}")
    };
    Some(Installed {
        id,
        name: name.to_owned(),
        transaction: transaction.to_owned(),
    })
}

/// What the transaction added that installed what was asked for. Packages that somebody else
/// installed meanwhile came in another one.
pub(super) fn added(before: &[Installed], after: &[Installed], asked: &[&str]) -> Vec<String> {
    let there: BTreeSet<&str> = before.iter().map(|package| package.id.as_str()).collect();
    let new: Vec<&Installed> = after
        .iter()
        .filter(|package| !there.contains(package.id.as_str()))
        .collect();
    let ours: BTreeSet<&str> = new
        .iter()
        .filter(|package| asked.contains(&package.name.as_str()))
        .map(|package| package.transaction.as_str())
        .collect();
    new.into_iter()
        // The key of a repository is imported before, by itself.
        .filter(|package| package.is_key() || ours.contains(package.transaction.as_str()))
        .map(|package| package.id.clone())
        .collect()
}

/// Removes packages. `rpm -e` and not `dnf remove`: it refuses where something else needs a package,
/// and takes no dependencies along that it deems superfluous.
pub(super) fn erase(host: &dyn Host, ids: &[String]) -> anyhow::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let erase = Command::new("rpm")
        .arg("-e")
        .args(ids)
        .env("LC_ALL", "C")
        .with_authority(Authority::Root)
        .timeout(ERASE_TIMEOUT)
        .atomic();
    host.expect(&erase)
        .with_context(|| format!("cannot remove {}", ids.join(", ")))?;
    Ok(())
}
