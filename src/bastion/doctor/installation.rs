//! What setup left on this host for one tunnel: whether it came to its end, whether its files are as
//! they were written, and whether the service runs them.

use std::path::{Path, PathBuf};

use super::TAKE_OFF;
use super::check::{Checks, Finding, Outcome, Subject};
use super::log::{self, Up};
use crate::bastion::copies::Sign;
use crate::bastion::facts::{AutosshOrigin, Facts, Init, autossh_origin};
use crate::bastion::failure::{Interrupted, OneLine};
use crate::bastion::host::{Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::processes;
use crate::bastion::receipt::{Receipt, Scope, TunnelRecord};
use crate::bastion::service::{self, ServiceManager, ServiceState, ServiceTunnel};
use crate::bastion::ssh::known_hosts;
use crate::bastion::steps::temporary_tunnel::enrolled_forward;
use crate::bastion::tunnel_name::TunnelName;

/// Why it is no matter whether it runs here.
const HELD_ELSEWHERE: &str = "another machine holds the tunnel, as the check `tunnel` says";

/// One tunnel of this host.
pub struct Installation<'a> {
    /// What this host is.
    pub facts: &'a Facts,
    /// What was done to it.
    pub receipt: &'a Receipt,
    /// Where it was done.
    pub layout: &'a Layout,
    /// The tunnel's number.
    pub id: TunnelName,
    pub tunnel: &'a TunnelRecord,
}

impl Installation<'_> {
    /// Looks at the tunnel's files, its service, its processes and its log.
    pub fn examine(
        &self,
        checks: &mut Checks,
        subject: &Subject,
        up: Up,
        why_unknown: &str,
    ) -> Result<(), Interrupted> {
        let manager = match self.receipt.init {
            None | Some(Init::None) => None,
            Some(init) => service::manager(init).ok(),
        };
        let is_complete = checks.run("setup", subject, "", |_| self.completeness())?;
        let manager = manager.filter(|_| is_complete == Outcome::Pass);
        let why_not = if is_complete == Outcome::Pass {
            "the tunnel runs without a service"
        } else {
            "setup is not finished"
        };
        let with = |look: &dyn Fn(&dyn ServiceManager) -> anyhow::Result<Finding>| match &manager {
            None => Finding::skip(why_not),
            Some(manager) => look(manager.as_ref()).unwrap_or_else(|error| cannot_ask(&error)),
        };
        checks.run("files", subject, "", |host| {
            with(&|manager| self.files(host, manager))
        })?;
        checks.run("service-boot", subject, "the service manager", |host| {
            with(&|manager| boot(host, manager, self.layout, self.id, self.receipt.init))
        })?;
        let home = &checks.host.user().home;
        let said = log::examine(checks.host, home, &self.layout.tunnel_log(self.id), up);
        let running = checks.run("service", subject, "the service manager", |host| {
            if up == Up::Elsewhere {
                return Finding::skip(HELD_ELSEWHERE);
            }
            with(&|manager| service_state(host, manager, self.layout, self.id, &said))
        })?;
        let processes = checks.run("processes", subject, "", |host| {
            match &self.tunnel.enrolled {
                _ if up == Up::Elsewhere => Finding::skip(HELD_ELSEWHERE),
                None => Finding::skip("it is not enrolled"),
                Some(enrolled) => {
                    let user_dir = self.layout.user_dir();
                    processes(host, enrolled.remote_port, &user_dir, manager.is_some())
                }
            }
        })?;
        let log_says = checks.run("log", subject, "", |_| said)?;
        let has_processes = running != Outcome::Fail && processes != Outcome::Fail;
        checks.run("tunnel", subject, "", |_| match up {
            Up::Yes => Finding::pass("the tunnel server says that it is up"),
            Up::Elsewhere => Finding::fail(Sign::HeldElsewhere.to_string(), TAKE_OFF),
            Up::Unknown => Finding::skip(why_unknown),
            Up::No => down(has_processes, log_says == Outcome::Fail),
        })?;
        Ok(())
    }

    fn completeness(&self) -> Finding {
        let scope = Scope::Tunnel(self.id);
        if self.tunnel.enrolled.is_some() && self.receipt.is_set_up(self.id) {
            return Finding::pass("it came to its end");
        }
        let begun = self.receipt.steps(scope).last();
        let step = begun.map_or("the first step".to_owned(), |record| {
            record.step.to_string()
        });
        Finding::fail(
            format!("it was started and got as far as {step}"),
            "run the command from the browser again: it goes on from there",
        )
    }

    fn files(&self, host: &dyn Host, manager: &dyn ServiceManager) -> anyhow::Result<Finding> {
        let again = format!(
            "`holistics-tunnel update-tunnel {}` writes it anew",
            self.id
        );
        let tunnel = self.service_tunnel(host)?;
        for program in [&tunnel.autossh, &tunnel.ssh] {
            if !host.exists(program) {
                return Ok(Finding::fail(
                    format!("the service runs {}, which is not there", program.display()),
                    "install it again with the package manager",
                ));
            }
        }
        if autossh_origin(host, &tunnel.autossh) == AutosshOrigin::Snap {
            return Ok(Finding::fail(
                format!(
                    "the service runs {}, which is snap's",
                    tunnel.autossh.display()
                ),
                "install the distribution's autossh, and run the setup command from the browser again",
            ));
        }
        let servers = self.receipt.servers();
        let pinned = known_hosts::render(servers.iter().map(|(tunnel, server)| (*tunnel, server)));
        let mut expected = vec![(self.layout.known_hosts(), pinned)];
        expected.extend(manager.files(host, self.layout, &tunnel)?);
        // Which version wrote what all tunnels share is not known while a tunnel has its former name.
        let own = [
            self.layout.known_hosts(),
            manager.tunnel_file(self.layout, self.id),
        ];
        let is_older = |path: &PathBuf| self.id.is_former() && !own.contains(path);
        for (path, content) in &expected {
            let found = host.read_if_present(path);
            let changed = match found {
                Ok(_) if is_older(path) => None,
                Ok(Some(found)) => difference(&String::from_utf8_lossy(&found), content),
                Ok(None) => Some("it is not there".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            let only_root_wrote =
                self.layout.is_system_wide() && *path != self.layout.known_hosts();
            let changed =
                changed.or_else(|| writable_by_others(host, path).filter(|_| only_root_wrote));
            if let Some(changed) = changed {
                return Ok(Finding::fail(
                    format!("{} is not as setup wrote it: {changed}", path.display()),
                    again,
                ));
            }
        }
        Ok(Finding::pass(if self.id.is_former() {
            "its own are as setup wrote them; the next change of a tunnel renews those of its former version"
        } else {
            "they are as setup wrote them"
        }))
    }

    /// The tunnel with the programs that its file names, so that one installed elsewhere since is no change.
    fn service_tunnel(&self, host: &dyn Host) -> anyhow::Result<ServiceTunnel> {
        let file = host.read_if_present(&self.layout.tunnel_file(self.id))?;
        let file = String::from_utf8_lossy(&file.unwrap_or_default()).into_owned();
        let named = |variable: &str| {
            file.lines()
                .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='))
                .map(PathBuf::from)
        };
        let tools = &self.facts.tools;
        let autossh = tools.autossh.as_ref().map(|autossh| autossh.path.clone());
        Ok(ServiceTunnel {
            id: self.id,
            user: host.user().name.clone(),
            autossh: named("H_AUTOSSH_PROGRAM")
                .or(autossh)
                .unwrap_or_else(|| "autossh".into()),
            ssh: named("AUTOSSH_PATH")
                .or_else(|| tools.ssh.clone())
                .unwrap_or_else(|| "ssh".into()),
            forward: enrolled_forward(host, self.receipt, self.layout, self.id)?,
            log: self.layout.tunnel_log(self.id),
            has_own_mounts: None,
        })
    }
}

/// Whether the host starts the tunnel at boot.
pub(super) fn boot(
    host: &dyn Host,
    manager: &dyn ServiceManager,
    layout: &Layout,
    id: TunnelName,
    init: Option<Init>,
) -> anyhow::Result<Finding> {
    Ok(match manager.starts_at_boot(host, layout, id)? {
        Some(true) => Finding::pass("it starts at boot"),
        Some(false) => Finding::fail("it does not start at boot", enable(id, init)),
        None => Finding::skip("not registered: the system's files stand under --prefix"),
    })
}

fn enable(id: TunnelName, init: Option<Init>) -> String {
    let id = id.slug();
    match init {
        Some(Init::Systemd) => {
            format!("run `sudo systemctl enable h_autossh.service h_autossh@{id}.service`")
        }
        Some(Init::Launchd) => {
            format!("run `sudo launchctl enable system/io.holistics.h_autossh.{id}`")
        }
        _ => "run `sudo update-rc.d h_autossh defaults`, or `sudo chkconfig --add h_autossh`"
            .to_owned(),
    }
}

/// Whether the service runs the tunnel; if not, why, as far as the service manager or the tunnel's log knows.
pub(super) fn service_state(
    host: &dyn Host,
    manager: &dyn ServiceManager,
    layout: &Layout,
    id: TunnelName,
    log: &Finding,
) -> anyhow::Result<Finding> {
    let state = manager.status(host, layout, id)?;
    if state != ServiceState::Running
        && let Some(failure) = manager.start_failure(host, layout, id)?
    {
        return Ok(Finding::fail(failure.told(), failure.next));
    }
    Ok(match state {
        ServiceState::Running => Finding::pass(match manager.note(host, layout, id)? {
            None => "it runs".to_owned(),
            Some(note) => format!("it runs; {note}"),
        }),
        ServiceState::Stopped => Finding::fail(
            "it is stopped",
            "start it with `holistics-tunnel service start`",
        ),
        ServiceState::Dead if log.outcome == Outcome::Fail => Finding::fail(
            "it was started, and its program has ended by itself",
            "do what the check `log` says",
        ),
        ServiceState::Dead => Finding::fail(
            "it was started and has died",
            "start it again with `holistics-tunnel service restart`",
        ),
        ServiceState::Unknown => Finding::fail(
            "the service manager does not know it",
            format!("`holistics-tunnel update-tunnel {id}` installs it anew"),
        ),
    })
}

/// Whether the tunnel's autossh and ssh run: they forward its port, with the key in its user's folder.
pub(super) fn processes(
    host: &dyn Host,
    remote_port: u16,
    user_dir: &Path,
    has_service: bool,
) -> Finding {
    let processes = match processes::all(host) {
        Ok(processes) if processes.is_empty() => {
            return Finding::skip("nothing shows this host's processes: ps is not installed");
        }
        Ok(processes) => processes,
        Err(error) => return Finding::skip(error.to_string()),
    };
    let forward = format!("127.0.0.1:{remote_port}:");
    let own = user_dir.to_string_lossy();
    let pid_of = |program: &str| {
        let mut processes = processes.iter();
        let found = processes.find(|process| {
            process.runs(program)
                && process.words.contains(&forward)
                && process.words.contains(own.as_ref())
        });
        found.map(|process| &process.number)
    };
    match (has_service, pid_of("autossh"), pid_of("ssh")) {
        (_, Some(autossh), Some(ssh)) => {
            Finding::pass(format!("autossh ({autossh}) and ssh ({ssh}) run"))
        }
        (true, Some(autossh), None) => Finding::fail(
            format!("autossh ({autossh}) runs and its ssh does not: it waits to connect again"),
            "look at the check `log`; it says why ssh ended",
        ),
        (true, None, Some(ssh)) => Finding::fail(
            format!("ssh ({ssh}) runs without its autossh, so nobody would start it again"),
            "run `holistics-tunnel service restart`",
        ),
        (true, None, None) => Finding::fail(
            "neither autossh nor ssh runs",
            "start them with `holistics-tunnel service start`",
        ),
        (false, None, Some(ssh)) => Finding::pass(format!("ssh ({ssh}) runs")),
        (false, _, None) => Finding::skip("no ssh of this tunnel runs"),
    }
}

/// What root obeys, root alone may change.
pub(super) fn writable_by_others(host: &dyn Host, path: &Path) -> Option<String> {
    let stat = host.stat(path).ok().flatten()?;
    if stat.uid != 0 {
        return Some(format!("it belongs to user {}, not to root", stat.uid));
    }
    let is_writable = stat.mode & 0o022 != 0;
    is_writable.then(|| format!("users other than root can write it (mode {:o})", stat.mode))
}

/// The first line that differs, for people.
fn difference(found: &str, expected: &str) -> Option<String> {
    if found == expected {
        return None;
    }
    let (mut found, mut expected) = (found.lines(), expected.lines());
    for number in 1.. {
        match (found.next(), expected.next()) {
            (None, None) => break,
            (one, other) if one == other => {}
            (Some(one), Some(other)) => {
                return Some(format!("line {number} is {one:?}, and was {other:?}"));
            }
            (Some(one), None) => return Some(format!("line {number} was added: {one:?}")),
            (None, _) => return Some(format!("it ends before line {number}")),
        }
    }
    Some("its line ends differ".to_owned())
}

pub(super) fn cannot_ask(error: &anyhow::Error) -> Finding {
    Finding::fail(
        OneLine(error).to_string(),
        "check whether the service manager of this host answers",
    )
}

fn down(has_processes: bool, log_knows: bool) -> Finding {
    let remedy = match (has_processes, log_knows) {
        (_, true) => "do what the check `log` says",
        (false, false) => "start it with `holistics-tunnel service restart`",
        (true, false) => {
            "wait half a minute and look again; if it stays down, run `holistics-tunnel service restart`"
        }
    };
    Finding::fail("the tunnel server says that it is down", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::host::{Authority, Output};

    #[test]
    fn a_changed_line_is_named() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        let changed = |found| difference(found, "a\nb\n").unwrap();
        assert_eq!(changed("a\nc\n"), "line 2 is \"c\", and was \"b\"");
        assert_eq!(changed("a\nb\nc\n"), "line 3 was added: \"c\"");
        assert_eq!(changed("a\n"), "it ends before line 2");
        assert_eq!(changed("a\nb"), "its line ends differ");
    }

    #[test]
    fn what_others_than_root_can_change_is_told() {
        let host = ScriptedHost::new();
        for (path, mode, told) in [
            ("/unit", 0o644, None),
            (
                "/drop-in",
                0o664,
                Some("users other than root can write it (mode 664)"),
            ),
            (
                "/home/ada/unit",
                0o644,
                Some("it belongs to user 1000, not to root"),
            ),
        ] {
            let path = Path::new(path);
            host.write(path, b"", mode, Authority::User).unwrap();
            assert_eq!(writable_by_others(&host, path).as_deref(), told);
        }
    }

    #[test]
    fn only_this_tunnel_s_processes_count() {
        let host = ScriptedHost::new();
        host.install("ps");
        host.on("ps -A", |_, _| Output {
            stdout: "    1 /sbin/init\n\
            10 /usr/lib/autossh/autossh -M 0 -E /home/ada/.holistics/logs/tunnel-7.log -R 127.0.0.1:20001:db:5432 x\n\
            11 /usr/bin/ssh -E /home/ada/.holistics/logs/tunnel-7.log -R 127.0.0.1:20001:db:5432 x\n\
            12 /usr/bin/ssh -E /home/bob/.holistics/logs/tunnel-8.log -R 127.0.0.1:20002:db:5432 x\n"
                .to_owned(),
            ..Output::default()
        });
        let said = |port| processes(&*host, port, Path::new("/home/ada/.holistics"), true).detail;
        assert_eq!(said(20001), "autossh (10) and ssh (11) run");
        assert_eq!(said(20002), "neither autossh nor ssh runs");
    }
}
