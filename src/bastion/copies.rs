//! Whether this host is a copy of the one that set the tunnels up: a cloned virtual machine, a restored
//! image. Both have the same receipt, key and service; the tunnel server lets one of them hold a tunnel.

use std::fmt;
use std::path::Path;

use jiff::SignedDuration;
use jiff::civil::DateTime;

use super::failure::Failure;
use super::host::{Host, HostExt as _};
use super::layout::Layout;
use super::receipt::{HostIdentity, Receipt, Scope, StepName};
use super::service::{self, ServiceState};
use super::tunnel_name::TunnelName;

/// What ssh writes while another machine holds the tunnel.
pub const REFUSED: &str = "remote port forwarding failed";
/// What autossh writes before each attempt.
const ATTEMPT: &str = ": starting ssh";
/// An attempt that is older has not been refused.
const REFUSAL_TIME: SignedDuration = SignedDuration::from_secs(10);

/// By what a copy, or its original, is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign<'r> {
    /// The receipt was written on another machine.
    CopyOf(&'r HostIdentity),
    /// The tunnel server says that a tunnel is up, and nothing of this host holds it. A copy that has kept
    /// the original's machine-id is known by nothing else.
    HeldElsewhere,
}

/// The machine whose receipt this is, where that is not this one.
pub fn original<'r>(host: &dyn Host, receipt: &'r Receipt) -> Option<&'r HostIdentity> {
    let written_on = receipt.host.as_ref()?;
    written_on
        .differs_from(&HostIdentity::of(host))
        .then_some(written_on)
}

/// Whether another machine would feel what is changed here. `up` are the tunnels that the tunnel server
/// says are up.
pub fn sign<'r>(
    host: &dyn Host,
    layout: &Layout,
    receipt: &'r Receipt,
    up: &[TunnelName],
) -> anyhow::Result<Option<Sign<'r>>> {
    if let Some(original) = original(host, receipt) {
        return Ok(Some(Sign::CopyOf(original)));
    }
    for tunnel in up {
        if is_held_elsewhere(host, layout, receipt, *tunnel)? {
            return Ok(Some(Sign::HeldElsewhere));
        }
    }
    Ok(None)
}

/// Refuses a change that another machine would feel.
///
/// # Errors
/// It would, or that cannot be told.
pub fn refuse(
    host: &dyn Host,
    layout: &Layout,
    receipt: &Receipt,
    up: &[TunnelName],
) -> anyhow::Result<()> {
    match sign(host, layout, receipt, up)? {
        Some(sign) => Err(sign.refusal("nothing was changed").into()),
        None => Ok(()),
    }
}

/// Refuses what would set a tunnel up beside those of another machine, with that machine's key.
///
/// # Errors
/// The receipt is another machine's. A name alone does not prove that: a host may be renamed.
pub fn refuse_setup(host: &dyn Host, receipt: &Receipt) -> anyhow::Result<()> {
    match original(host, receipt) {
        Some(original) if original.machine_id.is_some() => {
            Err(Sign::CopyOf(original).refusal("nothing was changed").into())
        }
        _ => Ok(()),
    }
}

/// Whether another machine holds a tunnel that the tunnel server says is up.
pub fn is_held_elsewhere(
    host: &dyn Host,
    layout: &Layout,
    receipt: &Receipt,
    tunnel: TunnelName,
) -> anyhow::Result<bool> {
    let scope = Scope::Tunnel(tunnel);
    // Before, it is setup's temporary tunnel that holds it.
    let is_service_s = receipt.is_done(scope, StepName::ServiceTunnel);
    // Half-way, it runs by one of two names.
    let mut steps = receipt.steps(scope).iter();
    let is_being_renamed = steps.any(|record| record.step == StepName::Rename);
    let is_known_by_name = is_service_s && !is_being_renamed;
    let Some(init) = receipt.init.filter(|_| is_known_by_name) else {
        return Ok(false);
    };
    Ok(
        match service::manager(init)?.status(host, layout, tunnel)? {
            ServiceState::Stopped => true,
            ServiceState::Running | ServiceState::Dead => {
                is_refused(host, &layout.tunnel_log(tunnel))
            }
            ServiceState::Unknown => false,
        },
    )
}

/// Whether the tunnel server refuses its attempts: the last one that is decided, while those after it are too
/// young to be.
fn is_refused(host: &dyn Host, log: &Path) -> bool {
    let said = host.read_if_present(log).ok().flatten().unwrap_or_default();
    let Some(refused) = LastRefusal::of(&String::from_utf8_lossy(&said)) else {
        return false;
    };
    let Some(begun) = refused.attempt_since else {
        return true;
    };
    let written = host.stat(log).ok().flatten().map(|stat| stat.modified);
    written.is_some_and(|written| host.now().duration_since(written) + begun < REFUSAL_TIME)
}

/// The last refusal in a log.
#[derive(Debug, PartialEq, Eq)]
struct LastRefusal {
    /// How long before the log's last line the first attempt after it was begun.
    attempt_since: Option<SignedDuration>,
}

impl LastRefusal {
    fn of(said: &str) -> Option<Self> {
        let last = said.lines().rev().find_map(time_of)?;
        let mut attempt_since = None;
        for line in said.lines().rev() {
            if line.contains(REFUSED) {
                return Some(LastRefusal { attempt_since });
            }
            if line.contains(ATTEMPT) {
                attempt_since = time_of(line).map(|begun| last.duration_since(begun));
            }
        }
        None
    }
}

/// When autossh wrote a line, by its own clock; ssh writes no time.
fn time_of(line: &str) -> Option<DateTime> {
    DateTime::strptime("%Y/%m/%d %H:%M:%S", line.get(..19)?).ok()
}

impl Sign<'_> {
    /// Why a command is of no use here, what has come of it, and what can be done.
    pub fn refusal(self, what_came: &str) -> Failure {
        let on_the_copy = "`holistics-tunnel uninstall-tunnel --all --local-only`";
        let next = match self {
            Sign::CopyOf(original) => format!(
                "run it on {}; or take that machine's tunnels off this one with {on_the_copy}, and set up with new \
                 commands from the browser",
                original.name
            ),
            Sign::HeldElsewhere => format!(
                "run it on the machine that holds the tunnel; take the tunnels off the one that is the copy: \
                 {on_the_copy}"
            ),
        };
        Failure::new(format!("{self}; {what_came}"), next)
    }
}

impl fmt::Display for Sign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::CopyOf(original) => write!(
                f,
                "this host is a copy of {}, which set these tunnels up",
                original.name
            ),
            Sign::HeldElsewhere => f.write_str(
                "another machine with the same key holds the tunnel, such as a copy of this one",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::facts::Init;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::host::{Authority, Files as _};
    use crate::bastion::receipt::{StepRecord, StepState, TunnelRecord};
    use crate::protocol::{DataSourceId, TunnelId};

    #[test]
    fn a_tunnel_whose_setup_waits_for_the_browser_is_held_by_no_other_machine() {
        let host = ScriptedHost::new();
        for dir in ["/etc", "/etc/systemd", "/etc/systemd/system"] {
            let made = host.create_dir(Path::new(dir), 0o755, Authority::Root);
            made.unwrap();
        }
        let unit = Path::new("/etc/systemd/system/h_autossh@.service");
        host.write(unit, b"", 0o644, Authority::Root).unwrap();
        host.expect("systemctl is-active", 3, "inactive\n", "");
        let layout = Layout::new(&host, Path::new("/"));
        let control_plane = url::Url::parse("https://bi.example.com/").unwrap();
        let tunnel = TunnelName::new(&control_plane, TunnelId(7));
        let record = TunnelRecord {
            control_plane,
            data_source_id: DataSourceId(1),
            database_type: None,
            display_name: "Shop".to_owned(),
            target_host: "localhost".to_owned(),
            target_port: 5432,
            reach: Default::default(),
            token_sha256: String::new(),
            proxy_command: None,
            enrolled: None,
            steps: Vec::new(),
        };
        let mut receipt = Receipt::new(Path::new("/"));
        receipt.init = Some(Init::Systemd);
        receipt.tunnels.insert(tunnel, record);
        let is_held =
            |receipt: &Receipt| is_held_elsewhere(&host, &layout, receipt, tunnel).unwrap();
        assert!(!is_held(&receipt));

        let steps = receipt.steps_mut(Scope::Tunnel(tunnel)).unwrap();
        steps.push(StepRecord {
            step: StepName::ServiceTunnel,
            state: StepState::Done,
            changes: Vec::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
        });
        assert!(is_held(&receipt));
    }

    #[test]
    fn the_last_decided_attempt_and_the_age_of_those_after_it_are_read() {
        const STARTED: &str = "2026/11/24 02:00:00 autossh[7]: starting ssh (count 1)\n\
            2026/11/24 02:00:00 autossh[7]: ssh child pid is 8\n";
        const LATER: &str = "2026/11/24 02:00:09 autossh[7]: starting ssh (count 2)\n";
        let refused = format!(
            "{STARTED}Error: {REFUSED} for listen port 20001\n2026/11/24 02:00:00 autossh[7]: restarting ssh\n"
        );
        let after = |seconds| {
            let attempt_since = Some(SignedDuration::from_secs(seconds));
            Some(LastRefusal { attempt_since })
        };
        let not_since = Some(LastRefusal {
            attempt_since: None,
        });
        for (said, read) in [
            (String::new(), None),
            (STARTED.to_owned(), None),
            (refused.clone(), not_since),
            (format!("{refused}{LATER}"), after(0)),
            (format!("{refused}{STARTED}"), after(0)),
            (format!("{refused}{STARTED}{LATER}"), after(9)),
        ] {
            assert_eq!(LastRefusal::of(&said), read, "{said}");
        }
    }
}
