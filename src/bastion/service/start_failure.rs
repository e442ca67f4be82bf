//! A program that its service manager could not even start: then it has logged nothing, and the reason is known
//! to the service manager alone.

use crate::bastion::failure::Failure;
use crate::bastion::tunnel_name::TunnelName;

/// What a service manager says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// Who says it, and which step failed.
    pub what: String,
    /// Its own last lines, if it shows them.
    pub lines: Vec<String>,
    /// What to do about it.
    pub next: String,
}

impl StartFailure {
    /// Of a unit, by the exit status that systemd gives it (`systemd.exec(5)`), if it is one of systemd's own.
    pub(super) fn of_unit(status: i32) -> Option<Self> {
        let next = match status {
            // ssh's own.
            255 => return None,
            226 => {
                "systemd cannot give the unit a view of the file system of its own: let this host or container make \
                 mount namespaces, or look which path of the unit, or of a drop-in to it, is missing"
            }
            216 | 217 => {
                "systemd does not know the tunnel's user: look with `getent passwd` as root"
            }
            200 | 203 => {
                "look whether the program is still there, and whether root can see it (a home folder over the network \
                 may hide it)"
            }
            201..=254 => {
                "look at the unit's settings, and at drop-ins that somebody has added to it"
            }
            _ => return None,
        };
        Some(StartFailure {
            what: format!("systemd could not start it (exit status {status})"),
            lines: Vec::new(),
            next: next.to_owned(),
        })
    }

    /// As the end of a command.
    pub fn into_failure(self, tunnel: TunnelName) -> Failure {
        let failure = Failure::new(
            format!("tunnel {tunnel}: {}", self.what),
            format!("{}; then run the same command again", self.next),
        );
        match self.lines.is_empty() {
            true => failure,
            false => failure.because(self.lines.join("; ")),
        }
    }
}
