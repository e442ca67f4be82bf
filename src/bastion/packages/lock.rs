//! Waiting while another package manager is at work.
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

/// Runs a command of `manager` once nobody else holds its lock, within bounds.
pub(super) fn run_unlocked(
    host: &dyn Host,
    watcher: &mut dyn Watcher,
    manager: &str,
    command: &Command,
    is_locked: impl Fn(&Output) -> bool,
) -> anyhow::Result<Output> {
    for attempt in 0..ATTEMPTS {
        let output = host.run(command)?;
        if !is_locked(&output) {
            return Ok(output);
        }
        if attempt == 0 {
            watcher.waits_for(&format!(
                "another package manager to give up {manager}'s lock, at most {MINUTES} min"
            ));
        }
        host.sleep(PAUSE)?;
    }
    Err(failures::locked(manager, MINUTES).into())
}
