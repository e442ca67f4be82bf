//! A tunnel's unit before there is one: `systemd-run` has systemd start its programs with all that the unit will have.

mod instance;
mod program;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::journal::{last_lines, of_start, reasons_among, waited_for};
use super::reason;
use super::units::{Mounts, drop_in, instances, unit_path, units};
use crate::bastion::host::{Authority, Command, Host, HostExt as _, Output};
use crate::bastion::layout::Layout;
use crate::bastion::service::{StartFailure, Trial};

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

/// Nobody waits for ever for a program that hangs.
const LIMIT: Duration = Duration::from_secs(45);
/// What systemd and the journal take besides.
const AROUND_IT: Duration = Duration::from_secs(30);

/// Before what a unit itself has said, and after it.
const BEGINS: &str = "Running as unit";
const ENDED: &str = "Finished with result: ";

/// With a view of the file system of its own, and, for hosts that cannot give it one, without.
pub(super) fn commands(host: &dyn Host, layout: &Layout, trial: &Trial) -> Result<Vec<Command>> {
    if host.which("systemd-run").is_none() {
        return Ok(Vec::new());
    }
    let said = host.run(&Command::new("systemctl").arg("--version").constant())?;
    let version = said.stdout.split_whitespace().nth(1);
    let version = version.and_then(|version| version.parse().ok());
    let Some(version) = version.filter(|version| *version >= OLDEST) else {
        return Ok(Vec::new());
    };
    let unit = unit(host, layout, trial);
    let has_definition = host.exists(&unit_path(layout, &instances()));
    let with = |mounts| {
        if is_instance(&unit) && has_definition {
            instance::command(&unit, trial, mounts)
        } else {
            command(&unit, version, layout, trial, mounts)
        }
    };
    let bounded = |command: Command| {
        // It ends by itself.
        command.timeout(LIMIT + AROUND_IT).atomic()
    };
    Ok(vec![
        bounded(with(Mounts::Own)?),
        bounded(with(Mounts::OfTheHost)?),
    ])
}

/// As an instance, it has what this host's administrators have added to all of them. Once there is the definition,
/// systemd-run cannot make one; where nothing is added, another name does as well.
fn unit(host: &dyn Host, layout: &Layout, trial: &Trial) -> String {
    let tunnel = trial.tunnel.slug();
    let has_definition = host.exists(&unit_path(layout, &instances()));
    if has_definition && others_drop_ins(host).is_empty() {
        format!("h_autossh-rehearsal-{tunnel}.service")
    } else {
        format!("h_autossh@{tunnel}.rehearsal.service")
    }
}

fn is_instance(unit: &str) -> bool {
    unit.contains('@')
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
        .chain([("RuntimeMaxSec".to_owned(), LIMIT.as_secs().to_string())])
        .flat_map(|(name, value)| ["-p".to_owned(), format!("{name}={value}")]);
    Ok(Command::new("systemd-run")
        .args(["--wait", "--pipe", "--collect", "--unit", unit])
        .args(settings)
        .args(program::words(trial))
        .with_authority(Authority::Root))
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
    let own = output
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with(BEGINS));
    let own = own.skip(1).take_while(|line| !line.starts_with(ENDED));
    let own = own.map(str::trim).filter(|line| !line.is_empty());
    let own: Vec<&str> = own.collect();
    let Some(mut failure) = reason::of_rehearsal(host, trial, result, output, &drop_ins) else {
        return program::hindrance(host, trial, output.status, &own, &drop_ins);
    };
    failure.lines = own.into_iter().map(str::to_owned).collect();
    let unit = unit(host, layout, trial);
    if let Some(journal) = of_start(host, &unit, "") {
        let journal = journal.arg(format!("--since=@{}", since.as_second()));
        let lines = last_lines(host, journal, waited_for(output.status))?;
        failure.lines.extend(reasons_among(&lines, &unit));
    }
    Ok(Some(failure))
}

fn after<'o>(said: &'o str, begins: &str) -> Option<&'o str> {
    said.lines()
        .find_map(|line| line.trim().strip_prefix(begins))
}

/// What administrators have added to all tunnels' units, or to all services.
fn others_drop_ins(host: &dyn Host) -> Vec<String> {
    let folders = ["/etc/systemd/system", "/run/systemd/system"].into_iter();
    let folders = folders.flat_map(|folder| {
        [
            format!("{folder}/{}.d", instances()),
            format!("{folder}/service.d"),
        ]
    });
    let files = folders.flat_map(|folder| {
        let names = host.list(Path::new(&folder)).unwrap_or_default();
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
    use crate::bastion::plan::Target;
    use crate::bastion::ssh::{Forward, KeyType};

    fn forward(layout: &Layout) -> Forward {
        Forward {
            server_user: "tunnel".into(),
            server_host: "tunnel.example.com".into(),
            server_port: "50022".into(),
            ..Target::unknown(layout, KeyType::Rsa).forward
        }
    }

    fn commands_of(version: &str, set: impl Fn(&ScriptedHost)) -> Vec<String> {
        let host = ScriptedHost::new();
        host.install("systemd-run");
        set(&host);
        let said = format!("systemd {version} ({version}.1-2)\n+PAM\n");
        host.expect("systemctl --version", 0, &said, "");
        let layout = Layout::new(&host, Path::new("/"));
        let tunnel = "bi.example.com-7".parse().unwrap();
        let trial = Trial::of(&host, &layout, tunnel, &forward(&layout));
        let commands = commands(&host, &layout, &trial).unwrap();
        commands.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_rehearsal_has_all_of_the_unit_but_what_this_systemd_does_not_know() {
        let [own, host_s] = commands_of("252", |_| ()).try_into().unwrap();
        for words in [
            "sudo systemd-run --wait --pipe --collect --unit h_autossh@bi.example.com-7.rehearsal.service -p",
            "-p User=ada ",
            "-p ProtectSystem=strict ",
            "-p ProtectProc=invisible ",
            "-p ReadWritePaths=/home/ada/.holistics/logs ",
            "-p CapabilityBoundingSet='' ",
            "-p RestrictAddressFamilies='AF_INET AF_INET6 AF_UNIX' ",
            "' autossh ssh /home/ada/.holistics/id_rsa /home/ada/.holistics/logs -v -F none ",
        ] {
            assert!(own.contains(words), "{words}: {own}");
        }
        assert!(own.ends_with(" tunnel@tunnel.example.com"), "{own}");
        for words in ["no-tunnel-conf", "ExecStart", "Restart", "#"] {
            assert!(!own.contains(&format!(" {words}")), "{words}: {own}");
        }
        assert!(host_s.contains("-p ProtectSystem=no "), "{host_s}");
        assert!(!host_s.contains("ReadWritePaths"), "{host_s}");
        let [old, _] = commands_of("239", |_| ()).try_into().unwrap();
        assert!(
            old.contains("SystemCallFilter") && !old.contains("ProtectClock"),
            "{old}"
        );
        assert!(commands_of("219", |_| ()).is_empty());
    }

    #[test]
    fn beside_other_tunnels_it_has_what_was_added_to_them() {
        let beside = |drop_in: Option<&str>| {
            let files = |host: &ScriptedHost| {
                let definition = "/etc/systemd/system/h_autossh@.service";
                for file in [definition].into_iter().chain(drop_in).map(Path::new) {
                    let folders: Vec<&Path> = file.ancestors().skip(1).collect();
                    for folder in folders.into_iter().rev() {
                        let _ = host.create_dir(folder, 0o755, Authority::User);
                    }
                    host.write(file, b"", 0o644, Authority::User).unwrap();
                }
            };
            let [own, _] = commands_of("252", files).try_into().unwrap();
            own
        };
        let none = beside(None);
        assert!(
            none.contains("systemd-run")
                && none.contains(" h_autossh-rehearsal-bi.example.com-7.service "),
            "{none}"
        );
        let own = beside(Some("/etc/systemd/system/h_autossh@.service.d/admin.conf"));
        assert!(own.starts_with("sudo sh -c "), "{own}");
        assert!(
            own.contains(" h_autossh@bi.example.com-7.rehearsal.service "),
            "{own}"
        );
        assert!(own.contains(" -- '[Service]' User=ada "), "{own}");
    }
}
