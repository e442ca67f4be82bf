//! What systemd is told.

use std::time::Duration;

use super::units::{instance, umbrella};
use crate::bastion::host::{Authority, Command};
use crate::bastion::service::AtBoot;
use crate::bastion::tunnel_name::TunnelName;

/// systemd waits up to 90 s for a unit that does not end; autossh ends at once.
const TIMEOUT: Duration = Duration::from_secs(120);

/// When more is enabled than was meant to be.
pub(super) const PUT_BACK: [(AtBoot, &str); 2] = [
    (AtBoot::WithTheService, "if its file is gone"),
    (AtBoot::Enabled, "if the service is gone"),
];

pub(super) fn systemctl(action: &str, unit: &str) -> Command {
    Command::new("systemctl")
        .args([action, unit])
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

pub(super) fn daemon_reload() -> Command {
    Command::new("systemctl")
        .arg("daemon-reload")
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

/// Has units started at boot. All of systemd, from 219 on, reads every unit anew with that, as for `daemon-reload`,
/// whether or not something was left to be enabled.
pub(super) fn enable(units: &[String]) -> Command {
    Command::new("systemctl")
        .arg("enable")
        .args(units)
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

/// Has systemd read a tunnel's units anew.
pub(super) fn read_anew(tunnel: TunnelName, at_boot: AtBoot) -> Command {
    match at_boot {
        AtBoot::AsItIs => daemon_reload(),
        AtBoot::WithTheService => enable(&[instance(tunnel)]),
        AtBoot::Enabled => enable(&[umbrella(), instance(tunnel)]),
    }
}

/// Starts the umbrella. What it wants is left as it is: somebody may have stopped tunnels that are not this user's.
pub(super) fn start_alone() -> Command {
    Command::new("systemctl")
        .args(["start", "--job-mode", "ignore-dependencies", &umbrella()])
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}
