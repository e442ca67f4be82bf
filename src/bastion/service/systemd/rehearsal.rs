//! A tunnel's unit before there is one: `systemd-run` has systemd start its programs with all that the unit will have.

use std::path::Path;

use anyhow::Result;

use super::journal::{JOURNAL_LINES_READ, is_reason, last_lines, reasons_among};
use super::reason;
use super::units::{Mounts, drop_in, instances, unit_path, units};
use crate::bastion::host::{Authority, Command, Host, HostExt as _, Output};
use crate::bastion::layout::Layout;
use crate::bastion::service::StartFailure;
use crate::bastion::service::trial::{LINE, Trial};

/// What of the unit is another program's, or is about what becomes of it later.
const NOT_REHEARSED: [&str; 8] = [
    "EnvironmentFile",
    "Environment",
    "ExecStartPre",
    "ExecStart",
    "Restart",
    "RestartSec",
    "StartLimitInterval",
    "SuccessExitStatus",
];

/// From which version on a setting is known: older ones pass over it in a unit, and systemd-run refuses it.
const KNOWN_SINCE: [(&str, u32); 6] = [
    ("SystemCallFilter", 239),
    ("ProtectHostname", 242),
    ("RestrictSUIDSGID", 242),
    ("ProtectKernelLogs", 244),
    ("ProtectClock", 245),
    ("ProtectProc", 247),
];

/// Whose systemd-run can wait for a unit of which nothing is left.
const OLDEST: u32 = 236;

/// Before what a unit itself has said, and after it.
const BEGINS: &str = "Running as unit";
const ENDED: &str = "Finished with result: ";

/// With a view of the file system of its own, and, for hosts that cannot give it one, without.
pub(super) fn commands(host: &dyn Host, layout: &Layout, trial: &Trial) -> Result<Vec<Command>> {
    if host.which("systemd-run").is_none() {
        return Ok(Vec::new());
    }
    let said = host.run(&Command::new("systemctl").arg("--version"))?;
    let version = said.stdout.split_whitespace().nth(1);
    let version = version.and_then(|version| version.parse().ok());
    let Some(version) = version.filter(|version| *version >= OLDEST) else {
        return Ok(Vec::new());
    };
    let unit = unit(host, layout, trial);
    let with = |mounts| command(&unit, version, layout, trial, mounts);
    Ok(vec![with(Mounts::Own)?, with(Mounts::OfTheHost)?])
}

/// As an instance, it has what this host's administrators have added to all of them. Once there is the definition,
/// systemd lets no other unit have such a name.
fn unit(host: &dyn Host, layout: &Layout, trial: &Trial) -> String {
    let tunnel = trial.tunnel.slug();
    match host.exists(&unit_path(layout, &instances())) {
        true => format!("h_autossh-rehearsal-{tunnel}.service"),
        false => format!("h_autossh@{tunnel}.rehearsal.service"),
    }
}

fn command(
    unit: &str,
    version: u32,
    layout: &Layout,
    trial: &Trial,
    mounts: Mounts,
) -> Result<Command> {
    let known = |name: &str| {
        let mut since = KNOWN_SINCE.iter().filter(|(known, _)| *known == name);
        since.all(|(_, since)| version >= *since)
    };
    let settings = settings(layout, trial, mounts)?.into_iter();
    let settings = settings
        .filter(|(name, _)| known(name))
        // Nobody waits for ever for a program that hangs.
        .chain([("RuntimeMaxSec".to_owned(), "20".to_owned())])
        .flat_map(|(name, value)| ["-p".to_owned(), format!("{name}={value}")]);
    Ok(Command::new("systemd-run")
        .args(["--wait", "--pipe", "--collect", "--unit", unit])
        .args(settings)
        .args(["/bin/sh", "-c", LINE])
        .args(trial.programs())
        .with_authority(Authority::Root)
        // It ends by itself.
        .atomic())
}

/// The settings of a tunnel's unit, as its two files have them.
fn settings(layout: &Layout, trial: &Trial, mounts: Mounts) -> Result<Vec<(String, String)>> {
    let [instances, _] = units(layout)?;
    let own = drop_in(trial.tunnel, &trial.user, &trial.logs, mounts)?;
    let mut settings: Vec<(String, String)> = Vec::new();
    for line in of_service(&instances.content).chain(of_service(&own)) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if NOT_REHEARSED.contains(&name) {
            continue;
        }
        settings.retain(|(known, _)| known != name);
        // systemd-run takes it as it is.
        settings.push((name.to_owned(), value.replace("%%", "%")));
    }
    Ok(settings)
}

fn of_service(unit: &str) -> impl Iterator<Item = &str> {
    let lines = unit.lines().skip_while(|line| *line != "[Service]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.starts_with('#'))
}

/// Why the unit did not start; nothing where systemd-run has started none, or its program ended otherwise.
pub(super) fn failure(
    host: &dyn Host,
    layout: &Layout,
    trial: &Trial,
    output: &Output,
    since: jiff::Timestamp,
) -> Result<Option<StartFailure>> {
    let Some(result) = after(&output.stderr, ENDED) else {
        return Ok(None);
    };
    let drop_ins = others_drop_ins(host);
    let failure = reason::of_rehearsal(host, trial, result, output, &drop_ins);
    let Some(mut failure) = failure else {
        return Ok(None);
    };
    let unit = unit(host, layout, trial);
    let own = output
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with(BEGINS));
    let own = own.skip(1).take_while(|line| !line.starts_with(ENDED));
    let own = own.map(str::trim).filter(|line| !line.is_empty());
    failure.lines = own.map(str::to_owned).collect();
    if host.which("journalctl").is_some() {
        let is_waited_for = match output.status {
            // systemd's own, which it tells in two lines by two processes.
            200..=254 => |line: &str| line.contains(" step "),
            _ => is_reason,
        };
        let lines = last_lines(host, journal(host, &unit, since), is_waited_for)?;
        failure.lines.extend(reasons_among(&lines, &unit));
    }
    Ok(Some(failure))
}

/// What was said of the unit since then. The process that says which step failed is gone before anybody can see whose
/// it was: what it says itself counts, from root and from this user.
fn journal(host: &dyn Host, unit: &str, since: jiff::Timestamp) -> Command {
    let (named, user) = (format!("UNIT={unit}"), format!("_UID={}", host.user().uid));
    Command::new("journalctl")
        .args(["--no-pager", "--quiet", "--output", "cat"])
        .args(["--lines", &JOURNAL_LINES_READ.to_string()])
        .arg(format!("--since=@{}", since.as_second()))
        .args([&named, "_UID=0", "+", &named, &user])
        .args(["+", &format!("_SYSTEMD_UNIT={unit}")])
}

fn after<'o>(said: &'o str, begins: &str) -> Option<&'o str> {
    said.lines()
        .find_map(|line| line.trim().strip_prefix(begins))
}

/// What administrators have added to all tunnels' units.
fn others_drop_ins(host: &dyn Host) -> Vec<String> {
    let folders = ["/etc/systemd/system", "/run/systemd/system"];
    let folders = folders.map(|folder| format!("{folder}/{}.d", instances()));
    let files = folders.iter().flat_map(|folder| {
        let names = host.list(Path::new(folder)).unwrap_or_default();
        names
            .into_iter()
            .map(move |name| format!("{folder}/{name}"))
    });
    files.filter(|file| file.ends_with(".conf")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    fn commands_of(version: &str) -> Vec<String> {
        let host = ScriptedHost::new();
        host.install("systemd-run");
        let said = format!("systemd {version} ({version}.1-2)\n+PAM\n");
        host.expect("systemctl --version", 0, &said, "");
        let layout = Layout::new(&host, Path::new("/"));
        let trial = Trial::of(&host, &layout, "bi.example.com-7".parse().unwrap());
        let commands = commands(&host, &layout, &trial).unwrap();
        commands.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_rehearsal_has_all_of_the_unit_but_what_this_systemd_does_not_know() {
        let [own, host_s] = commands_of("252").try_into().unwrap();
        for words in [
            "sudo systemd-run --wait --pipe --collect --unit h_autossh@bi.example.com-7.rehearsal.service -p",
            "-p User=ada ",
            "-p ProtectSystem=strict ",
            "-p ProtectProc=invisible ",
            "-p ReadWritePaths=/home/ada/.holistics/logs ",
            "-p CapabilityBoundingSet='' ",
            "-p RestrictAddressFamilies='AF_INET AF_INET6 AF_UNIX' ",
        ] {
            assert!(own.contains(words), "{words}: {own}");
        }
        assert!(own.ends_with("' autossh ssh"), "{own}");
        for words in ["no-tunnel-conf", "ExecStart", "Restart", "#"] {
            assert!(!own.contains(&format!(" {words}")), "{words}: {own}");
        }
        assert!(host_s.contains("-p ProtectSystem=no "), "{host_s}");
        assert!(!host_s.contains("ReadWritePaths"), "{host_s}");
        let [old, _] = commands_of("239").try_into().unwrap();
        assert!(
            old.contains("SystemCallFilter") && !old.contains("ProtectClock"),
            "{old}"
        );
        assert!(commands_of("219").is_empty());
    }
}
