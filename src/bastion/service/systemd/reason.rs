//! Why an instance does not run, by what systemd shows of it. Its words may change; the numbers are those of
//! `systemd.exec(5)`.

use std::path::Path;

use crate::bastion::host::{Command, Host, HostExt as _};
use crate::bastion::service::{SERVICE_NAME, StartFailure};
use crate::bastion::tunnel_name::TunnelName;

/// What is asked of systemd.
const PROPERTIES: [&str; 6] = [
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "DropInPaths",
    "ReadWritePaths",
    "User",
];

/// What stands for "ended by itself" and for "killed by a signal" in `ExecMainCode`.
const EXITED: i32 = 1;
const KILLED: [i32; 2] = [2, 3];
/// What a call that `SystemCallFilter` does not allow is answered with.
const SIGSYS: i32 = 31;

/// What systemd shows of an instance.
struct Shown<'a>(&'a str);

impl<'a> Shown<'a> {
    fn property(&self, name: &str) -> &'a str {
        let mut lines = self.0.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
    }

    fn number(&self, name: &str) -> i32 {
        self.property(name).parse().unwrap_or_default()
    }

    /// Drop-ins of this host's administrators.
    fn others_drop_ins(&self) -> Vec<&'a str> {
        let paths = self.property("DropInPaths").split_whitespace();
        let is_another_s = |path: &&str| {
            (path.starts_with("/etc/") || path.starts_with("/run/"))
                && !path.ends_with("/tunnel.conf")
        };
        paths.filter(is_another_s).collect()
    }
}

/// Asks systemd.
///
/// # Errors
/// It does not answer.
pub(super) fn ask(
    host: &dyn Host,
    unit: &str,
    tunnel: TunnelName,
) -> anyhow::Result<Option<StartFailure>> {
    let properties = PROPERTIES.iter().flat_map(|name| ["--property", name]);
    let show = Command::new("systemctl")
        .args(["show", unit])
        .args(properties);
    let shown = host.expect(&show)?.stdout;
    Ok(explain(host, unit, tunnel, &Shown(&shown)))
}

fn explain(
    host: &dyn Host,
    unit: &str,
    tunnel: TunnelName,
    shown: &Shown,
) -> Option<StartFailure> {
    let (code, status) = (shown.number("ExecMainCode"), shown.number("ExecMainStatus"));
    let drop_ins = shown.others_drop_ins();
    let in_unit = match drop_ins[..] {
        [] => format!("look at the unit's settings: `systemctl cat {unit}`"),
        _ => format!(
            "correct or remove what was added to the unit: {}",
            drop_ins.join(", ")
        ),
    };
    let missing = shown.property("ReadWritePaths").split_whitespace();
    let missing = missing
        .map(|path| path.trim_start_matches(['-', '+']))
        .find(|path| !host.exists(Path::new(path)));
    let mut may_be_mounts = false;
    let next = match (code, status) {
        (EXITED, 226) => match missing {
            Some(path) => format!("make {path} again, which is not there"),
            None if !drop_ins.is_empty() => {
                may_be_mounts = true;
                in_unit
            }
            None => {
                may_be_mounts = true;
                format!(
                    "run `holistics-tunnel update-tunnel {tunnel}`: where this host cannot give the unit a view of \
                     the file system of its own, it goes on without"
                )
            }
        },
        (EXITED, 216 | 217) => unknown_user(host, shown.property("User"), tunnel, in_unit),
        (EXITED, 126 | 127) => match drop_ins[..] {
            [] => "install autossh again with the package manager".to_owned(),
            _ => in_unit,
        },
        // ssh's own.
        (EXITED, 255) => return None,
        (EXITED, 200..=254) => in_unit,
        (code, SIGSYS) if KILLED.contains(&code) => in_unit,
        _ if shown.property("Result") == "resources" => {
            format!("do what its lines say: `sudo journalctl --unit {unit}`")
        }
        _ => return None,
    };
    let what = match code {
        EXITED if status < 200 => format!("autossh could not be started (exit status {status})"),
        EXITED => format!("systemd could not start it (exit status {status})"),
        code if KILLED.contains(&code) => {
            "the unit's SystemCallFilter ended it (signal SYS)".to_owned()
        }
        _ => "systemd could not start it (resources)".to_owned(),
    };
    Some(StartFailure {
        what,
        lines: Vec::new(),
        next,
        may_be_mounts,
    })
}

fn unknown_user(host: &dyn Host, user: &str, tunnel: TunnelName, in_unit: String) -> String {
    let getent = Command::new("getent").args(["passwd", user]);
    let is_known = host.run(&getent).is_ok_and(|output| output.success());
    if user == "no-tunnel-conf" {
        format!("`holistics-tunnel update-tunnel {tunnel}` gives the unit its user again")
    } else if is_known {
        in_unit
    } else {
        format!("create the user {user} again, or correct the unit's User=")
    }
}
