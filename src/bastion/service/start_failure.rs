//! A program that its service manager could not start, or that ended as soon as it was: then it has logged
//! nothing, and the reason is known to the service manager alone.

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
    /// Whether it may be that this host cannot give the program a view of the file system of its own.
    pub may_be_mounts: bool,
}

impl StartFailure {
    /// In one line, with the manager's own.
    pub fn told(&self) -> String {
        if self.lines.is_empty() {
            self.what.clone()
        } else {
            format!("{}: {}", self.what, self.lines.join("; "))
        }
    }

    /// As the end of a command.
    pub fn into_failure(self, tunnel: TunnelName) -> Failure {
        let failure = Failure::new(
            format!("tunnel {tunnel}: {}", self.what),
            format!("{}; then run the same command again", self.next),
        );
        if self.lines.is_empty() {
            failure
        } else {
            failure.because(self.lines.join("; "))
        }
    }
}
