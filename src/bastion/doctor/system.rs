//! The host itself: whether setup knows this system, what it has installed, and room on its disks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{Checks, Finding, Subject};
use crate::bastion::facts::{self, AutosshOrigin, Facts, Family, Init};
use crate::bastion::failure::Interrupted;
use crate::bastion::host::{Command, Host, HostExt as _};
use crate::bastion::plan::{OLDEST_OPENSSH, openssh_version};
use crate::bastion::service::SERVICE_NAME;
use crate::bastion::ssh::{KeyType, client, keys};
use crate::bastion::steps::autossh::installed;

/// `df` hangs where a network disk is gone.
const DF_TIMEOUT: Duration = Duration::from_secs(5);
/// Room for logs, the receipt and a package, in KiB.
const LEAST_ROOM: u64 = 20 * 1024;

/// What the host's checks depend on.
pub struct System<'a> {
    /// What this host is.
    pub facts: &'a Facts,
    /// The service manager that runs the tunnels; nothing where there are none yet.
    pub init: Option<Init>,
    /// What kind of key they have.
    pub key_type: Option<KeyType>,
    /// Whether there are tunnels, so that what setup would install has to be there.
    pub has_tunnels: bool,
    /// The folders that have to have room.
    pub folders: Vec<PathBuf>,
}

/// Looks at the host.
pub fn examine(checks: &mut Checks, system: &System) -> Result<(), Interrupted> {
    let subject = Subject::shared("This host");
    let facts = system.facts;
    checks.run("system", &subject, "", |host| known_system(host, facts))?;
    checks.run("package-manager", &subject, "", |_| package_manager(facts))?;
    checks.run("service-manager", &subject, "", |_| service_manager(system))?;
    checks.run("openssh", &subject, "", |host| openssh(host, system))?;
    checks.run("autossh", &subject, "", |host| autossh(host, system))?;
    checks.run("disk", &subject, "the disks", |host| {
        disk(host, &system.folders)
    })?;
    Ok(())
}

fn known_system(host: &dyn Host, facts: &Facts) -> Finding {
    let name = format!(
        "{} ({}), as {}",
        facts.name,
        facts.architecture.as_deref().unwrap_or("unknown processor"),
        host.user().name
    );
    let can_be_set_up = facts.tools.are_complete() && facts.init != Init::None;
    match facts.family {
        Family::Unsupported if !can_be_set_up => Finding::fail(
            format!("setup does not know this system: {name}"),
            "set the tunnel up by hand: `holistics-tunnel manual linux` shows how",
        ),
        _ => Finding::pass(match facts.goes_by() {
            Some(goes_by) => format!("{name}; {goes_by}"),
            None => name,
        }),
    }
}

fn package_manager(facts: &Facts) -> Finding {
    if let Some(manager) = facts.package_manager {
        return Finding::pass(format!("{manager:?}").to_lowercase());
    }
    if facts.tools.are_complete() {
        return Finding::skip("none that setup knows, and nothing is missing");
    }
    Finding::fail(
        "none that setup knows, and ssh, curl or autossh is missing",
        "install ssh, curl and autossh by hand",
    )
}

fn service_manager(system: &System) -> Finding {
    match (system.init, system.facts.init) {
        (Some(init), _) => Finding::pass(format!("{init:?} runs {SERVICE_NAME}").to_lowercase()),
        (None, Init::None) => Finding::skip(
            "none: setup shows the command to run under a supervisor, and installs no service",
        ),
        (None, init) => Finding::pass(format!("{init:?}").to_lowercase()),
    }
}

fn openssh(host: &dyn Host, system: &System) -> Finding {
    let facts = system.facts;
    if facts.tools.ssh.is_none() || facts.tools.ssh_keygen.is_none() {
        return Finding::fail(
            "ssh or ssh-keygen is not installed",
            "install OpenSSH's client (openssh-client, or openssh-clients on the RHEL family)",
        );
    }
    let said = facts.openssh.clone().unwrap_or_default();
    match openssh_version(&said) {
        None => {
            let another = client::not_openssh(&said);
            Finding::fail(another.what, another.next)
        }
        Some(version) if version < OLDEST_OPENSSH => Finding::fail(
            format!("{said} is too old: 6.5 or newer is needed"),
            "use a bastion with a newer system",
        ),
        Some(_) => match system.key_type {
            Some(key_type) => key_type_of(host, key_type).unwrap_or_else(|| Finding::pass(said)),
            None => Finding::pass(said),
        },
    }
}

/// What is wrong with the tunnels' type of key on this host, such as one that a policy has taken away.
fn key_type_of(host: &dyn Host, key_type: KeyType) -> Option<Finding> {
    let why = keys::refusal(host, key_type).ok()??;
    let mut others = keys::others(host, key_type).ok()?.into_iter();
    Some(Finding::fail(
        format!("the tunnels' key is of a type that this host's OpenSSH does not have: {why}"),
        match others.next() {
            Some(other) => format!(
                "run `holistics-tunnel rotate-key --key-type {}`",
                other.word()
            ),
            None => keys::NO_TYPE.to_owned(),
        },
    ))
}

fn autossh(host: &dyn Host, system: &System) -> Finding {
    let Some(autossh) = &system.facts.tools.autossh else {
        return match (system.has_tunnels, system.init) {
            (true, Some(_)) => Finding::fail(
                "autossh is no longer installed, and the service needs it",
                "install autossh with the package manager, then run `holistics-tunnel service restart`",
            ),
            _ => Finding::skip("not installed yet; setup does that"),
        };
    };
    let path = autossh.path.display();
    if autossh.origin == AutosshOrigin::Snap {
        return Finding::fail(
            format!(
                "{path} comes from snap, which can read neither the key nor the pinned host keys"
            ),
            "remove it with `sudo snap remove autossh`, and install the distribution's autossh",
        );
    }
    let version = host.run(&installed::version("autossh").env("AUTOSSH_DEBUG", "0"));
    match version {
        Ok(output) if output.success() => {
            let said = format!("{}{}", output.stdout, output.stderr);
            let version = said.lines().next().unwrap_or("autossh").trim().to_owned();
            Finding::pass(format!("{version} at {path} ({:?})", autossh.origin).to_lowercase())
        }
        Ok(output) => broken(&path, output.stderr.trim()),
        Err(error) => broken(&path, &error.to_string()),
    }
}

fn broken(path: &dyn std::fmt::Display, said: &str) -> Finding {
    Finding::fail(
        format!("{path} does not run: {said}"),
        "install autossh again with the package manager",
    )
}

fn disk(host: &dyn Host, folders: &[PathBuf]) -> Finding {
    let mut seen = Vec::new();
    for folder in folders.iter().filter(|folder| host.exists(folder)) {
        let df = Command::new("df")
            .arg("-Pk")
            .path(folder)
            .env("LC_ALL", "C")
            .timeout(DF_TIMEOUT);
        let free = match host.run(&df) {
            Ok(output) => free_kib(&output.stdout),
            Err(error) => {
                return Finding::fail(
                    error.to_string(),
                    "check whether a network disk is mounted that does not answer (`mount`)",
                );
            }
        };
        let Some(free) = free else {
            return Finding::skip(format!("df does not tell about {}", folder.display()));
        };
        if free < LEAST_ROOM {
            return Finding::fail(
                format!("{} MiB are left for {}", free / 1024, folder.display()),
                format!("make room on the disk of {}", folder.display()),
            );
        }
        seen.push(format!("{} {} MiB", folder.display(), free / 1024));
    }
    Finding::pass(format!("free: {}", seen.join(", ")))
}

/// The fourth column of the second line, as POSIX has it. A long device name does not break the line.
fn free_kib(df: &str) -> Option<u64> {
    df.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// What this host is, found out anew.
pub fn facts(host: &dyn Host, privilege: crate::bastion::host::privilege::Privilege) -> Facts {
    facts::probe(host, Path::new("/"), privilege)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::doctor::check::Outcome;
    use crate::bastion::host::scripted::ScriptedHost;

    const DF: &str =
        "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 50 FREE 50% /\n";

    fn disk_with(free: &str) -> Finding {
        let host = ScriptedHost::new();
        host.expect(
            "LC_ALL=C df -Pk /home/ada",
            0,
            &DF.replace("FREE", free),
            "",
        );
        disk(&host, &["/home/ada".into(), "/not/there".into()])
    }

    #[test]
    fn a_full_disk_fails_and_one_with_room_passes() {
        assert_eq!(disk_with("1000").outcome, Outcome::Fail);
        assert_eq!(disk_with("20480").outcome, Outcome::Pass);
        assert_eq!(disk_with("-").outcome, Outcome::Skip);
    }
}
