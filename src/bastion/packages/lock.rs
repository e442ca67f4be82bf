//! Waiting while another package manager is running.
//!
//! A package manager that waits by itself does so in silence and cannot be interrupted, since it must
//! not be cut short. So they are told not to wait, and are asked again.

use std::time::Duration;

use super::{Watcher, failures};
use crate::bastion::host::{Command, Host, Output};

/// How often a command is tried: unattended upgrades hold the lock for minutes after a boot.
pub(super) const ATTEMPTS: u32 = 24;
const PAUSE: Duration = Duration::from_secs(5);
const MINUTES: u64 = 2;

/// Runs a package manager's commands, each once nobody else holds its lock, within bounds.
pub(super) struct Runner<'a> {
    pub host: &'a dyn Host,
    pub watcher: &'a mut dyn Watcher,
    pub manager: &'static str,
    pub is_locked: fn(&Output) -> bool,
}

impl Runner<'_> {
    pub(super) fn run(&mut self, command: &Command) -> anyhow::Result<Output> {
        for attempt in 0..ATTEMPTS {
            let output = self.host.run(command)?;
            if !(self.is_locked)(&output) {
                return Ok(output);
            }
            if attempt == 0 {
                self.watcher.waits_for(&format!(
                    "another package manager to release {}'s lock (at most {MINUTES} min)",
                    self.manager
                ));
            }
            self.host.sleep(PAUSE)?;
        }
        Err(failures::locked(self.manager, MINUTES).into())
    }
}
