//! Why an instance does not run, by what systemd shows of it. Its words may change; the numbers are those of
//! `systemd.exec(5)`.

use std::path::Path;

use crate::bastion::host::{Command, Host, HostExt as _, Output};
use crate::bastion::service::{StartFailure, Trial};
use crate::bastion::tunnel_name::TunnelName;

/// What is asked of systemd.
const PROPERTIES: [&str; 7] = [
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "DropInPaths",
    "ReadWritePaths",
    "User",
    "InvocationID",
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

/// Why a start came to nothing.
pub(super) struct Asked {
    pub failure: StartFailure,
    /// Which start of the unit it is about; empty where this version does not number them.
    pub start: String,
    /// What its program ended with.
    pub status: i32,
}

/// Asks systemd.
pub(super) fn ask(
    host: &dyn Host,
    unit: &str,
    tunnel: TunnelName,
) -> anyhow::Result<Option<Asked>> {
    let properties = PROPERTIES.iter().flat_map(|name| ["--property", name]);
    let show = Command::new("systemctl")
        .args(["show", unit])
        .args(properties);
    let shown = host.expect(&show)?.stdout;
    let shown = Shown(&shown);
    let failure = explain(host, unit, tunnel, &shown);
    Ok(failure.map(|failure| Asked {
        failure,
        start: shown.property("InvocationID").to_owned(),
        status: shown.number("ExecMainStatus"),
    }))
}

/// The same of a unit that systemd-run has started: how that ended, by what systemd-run says and ends with.
pub(super) fn of_rehearsal(
    host: &dyn Host,
    trial: &Trial,
    result: &str,
    output: &Output,
    drop_ins: &[String],
) -> Option<StartFailure> {
    let (code, status) = if output.stderr.contains("status=SYS") {
        (KILLED[0], SIGSYS)
    } else if result == "exit-code" {
        (EXITED, output.status)
    } else {
        (0, 0)
    };
    let shown = format!(
        "Result={result}\nExecMainCode={code}\nExecMainStatus={status}\nUser={}\nReadWritePaths={}\nDropInPaths={}\n",
        trial.user,
        trial.logs.display(),
        drop_ins.join(" ")
    );
    let failure = explain(host, "h_autossh@", trial.tunnel, &Shown(&shown))?;
    let next = match (drop_ins, status) {
        // There is no unit yet that could be looked at.
        ([], 200..=254) => {
            "fix what it names; this user's programs have to start under systemd".to_owned()
        }
        _ => failure.next,
    };
    Some(StartFailure { next, ..failure })
}

fn explain(host: &dyn Host, unit: &str, tunnel: TunnelName, shown: &Shown) -> Option<StartFailure> {
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
    if user == "no-tunnel-conf" {
        format!("run `holistics-tunnel update-tunnel {tunnel}`: it gives the unit its user again")
    } else if host.run(&getent).is_ok_and(|output| output.success()) {
        in_unit
    } else {
        format!("create the user {user} again, or {in_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    /// What is told of an instance of which systemd shows this.
    fn told(shown: &str, set: impl Fn(&ScriptedHost)) -> Option<StartFailure> {
        let host = ScriptedHost::new();
        host.expect("systemctl show unit --property Result", 0, shown, "");
        set(&host);
        let asked = ask(&host, "unit", "bi.example.com-7".parse().unwrap());
        asked.unwrap().map(|asked| asked.failure)
    }

    fn exited(status: i32, others: &str) -> Option<StartFailure> {
        let shown = format!(
            "Result=exit-code\nExecMainCode=1\nExecMainStatus={status}\nReadWritePaths=/\nUser=ada\nDropInPaths={others}\n"
        );
        told(&shown, |host| {
            if matches!(status, 216 | 217) {
                host.expect("getent passwd ada", 2, "", "");
            }
        })
    }

    #[test]
    fn each_reason_has_a_remedy_of_its_own() {
        let own = "/etc/systemd/system/h_autossh@x.service.d/tunnel.conf /usr/lib/systemd/system/service.d/10-all.conf";
        for (status, remedy) in [
            (127, "install autossh again"),
            (200, "systemctl cat unit"),
            (203, "systemctl cat unit"),
            (216, "create the user ada again"),
            (217, "create the user ada again"),
            (226, "holistics-tunnel update-tunnel 7"),
        ] {
            let failure = exited(status, own).unwrap();
            assert!(failure.what.contains(&status.to_string()), "{failure:?}");
            assert!(failure.next.contains(remedy), "{failure:?}");
            assert_eq!(failure.may_be_mounts, status == 226);
        }
        let another_s = format!("{own} /etc/systemd/system/h_autossh@.service.d/admin.conf");
        for status in [127, 200, 203, 226] {
            let failure = exited(status, &another_s).unwrap();
            assert!(
                failure
                    .next
                    .ends_with(" /etc/systemd/system/h_autossh@.service.d/admin.conf"),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn what_ssh_and_autossh_end_with_is_no_reason_of_systemd_s() {
        for status in [0, 1, 255] {
            assert_eq!(exited(status, ""), None);
        }
        assert_eq!(
            told("Result=signal\nExecMainCode=2\nExecMainStatus=9\n", |_| ()),
            None
        );
    }

    #[test]
    fn a_folder_that_is_gone_is_no_lack_of_mounts() {
        let shown =
            "ExecMainCode=1\nExecMainStatus=226\nReadWritePaths=/home/ada/.holistics/logs\n";
        let failure = told(shown, |_| ()).unwrap();
        assert!(
            failure.next.contains("/home/ada/.holistics/logs"),
            "{failure:?}"
        );
        assert!(!failure.may_be_mounts);
    }

    #[test]
    fn what_the_kernel_or_the_control_group_refuses_is_told() {
        let killed = told(
            "Result=core-dump\nExecMainCode=3\nExecMainStatus=31\n",
            |_| (),
        );
        assert!(killed.unwrap().what.contains("SystemCallFilter"));
        let resources = told(
            "Result=resources\nExecMainCode=0\nExecMainStatus=0\n",
            |_| (),
        );
        assert!(resources.unwrap().what.contains("resources"));
    }
}
