//! The RPM database: what is installed, what one transaction added, and its removal.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;

use super::failures::{self, Trouble};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt as _, Output};

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
    let output = host.expect(&query()).with_context(|| {
        Failure::new(
            "cannot list the installed packages",
            "check whether `sudo rpm -qa` works (`sudo rpm --rebuilddb` repairs a damaged database), then run the same \
             command again",
        )
    })?;
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

/// Whether a package of this name, or one that says that it stands for it, is installed.
pub(super) fn is_provided(host: &dyn Host, name: &str) -> anyhow::Result<bool> {
    let query = Command::new("rpm")
        .args(["-q", "--whatprovides", name])
        .with_authority(Authority::Root);
    Ok(host.run(&query)?.success())
}

/// Removes packages. `rpm -e` and not `dnf remove`: it refuses where something else needs a package,
/// and takes no dependencies along that it deems superfluous. A script of somebody else's that fails beside
/// it is no reason that they are still there, so that is looked at.
pub(super) fn erase_command(ids: &[String]) -> Command {
    Command::new("rpm")
        .arg("-e")
        .args(ids)
        .env("LC_ALL", "C")
        .with_authority(Authority::Root)
        .timeout(ERASE_TIMEOUT)
        .atomic()
        .logged()
}

pub(super) fn erase(host: &dyn Host, ids: &[String], note: &dyn Fn(&str)) -> anyhow::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let erase = erase_command(ids);
    let output = host.run(&erase)?;
    if output.success() {
        return Ok(());
    }
    let there = inventory(host)?;
    let is_there = |id: &&String| there.iter().any(|package| package.id == **id);
    let left: Vec<&str> = ids.iter().filter(is_there).map(String::as_str).collect();
    let failed = failed_scripts(&output);
    if left.is_empty() {
        let trouble = scripts_trouble(&failed);
        note(&failures::remark(&erase, &output, trouble));
        return Ok(());
    }
    let trouble = if failed.is_empty() {
        Trouble::other()
    } else {
        Trouble {
            what: format!("the scripts of {} fail", failed.join(", ")),
            next: format!(
                "remove it without them (`sudo rpm -e --noscripts --notriggers {}`)",
                left.join(" ")
            ),
        }
    };
    let doing = format!("remove {}", left.join(", "));
    Err(failures::failed(&doing, trouble, &erase, &output))
}

/// The packages whose scripts failed, as rpm, dnf and yum tell it. It keeps none of that in its database.
pub(super) fn failed_scripts(output: &Output) -> Vec<String> {
    let mut names = BTreeSet::new();
    for line in output.stdout.lines().chain(output.stderr.lines()) {
        // error: lua script failed: [string "%postun(agent-1-1.noarch)"]:1: …
        // warning: %post(agent-1-1.noarch) scriptlet failed, exit status 1
        let by_rpm = line.split_once('%').and_then(|(_, rest)| {
            let (kind, rest) = rest.split_once('(')?;
            let is_kind = kind.chars().all(|c| c.is_ascii_alphabetic());
            let (package, rest) = rest.split_once(')')?;
            (is_kind && (rest.contains("failed") || line.contains("failed"))).then_some(package)
        });
        // Error in POSTIN scriptlet in rpm package agent
        let by_dnf = line
            .split_once("scriptlet in rpm package ")
            .map(|(_, name)| name);
        names.extend(by_rpm.map(|package| name_of(package).to_owned()));
        // Of a trigger, dnf names the package that set it off.
        let is_known = line.contains("<unknown>");
        names.extend(
            by_dnf
                .filter(|_| !is_known)
                .map(|name| name.trim().to_owned()),
        );
    }
    names.into_iter().collect()
}

/// `agent-1.0-1.noarch` → `agent`.
fn name_of(package: &str) -> &str {
    package.rsplitn(3, '-').nth(2).unwrap_or(package)
}

/// What is told of packages whose scripts failed, where that did not matter.
pub(super) fn scripts_trouble(names: &[String]) -> Option<Trouble> {
    (!names.is_empty()).then(|| Trouble {
        what: format!("a script of {} failed", names.join(", ")),
        next: format!(
            "look why in the log of this run, and install {} once more",
            names.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_whose_scripts_failed_are_found_in_every_program_s_words() {
        let dnf = "error: lua script failed: [string \"%triggerin(agent-1.0-1.noarch)\"]:1: cannot begin\n\
                   Error in <unknown> scriptlet in rpm package gcc\n\
                   Error in PREIN scriptlet in rpm package my-tool\n";
        let rpm = "warning: %post(foreign-1-1.noarch) scriptlet failed, exit status 1\n50% (of it) done\n";
        let output = Output {
            status: 1,
            stdout: dnf.to_owned(),
            stderr: rpm.to_owned(),
        };
        assert_eq!(failed_scripts(&output), ["agent", "foreign", "my-tool"]);
    }
}
