//! One tunnel started anew under the service, and waited for. Its siblings are not touched.

use std::time::Duration;

use super::control_plane::{ApiError, ControlPlane};
use super::failure::Failure;
use super::host::{Host, HostExt as _};
use super::layout::Layout;
use super::service::{self, ServiceManager, ServiceTunnel};
use super::session::Work;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{Tunnel, TunnelStatus};

/// How long a tunnel may take until the control plane sees its new session.
pub const UP_TIMEOUT: Duration = Duration::from_secs(60);
const UP_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a question that was not answered.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Puts the tunnel's file in place, and ends and starts the tunnel.
///
/// # Errors
/// The host refuses, or the receipt cannot be written.
pub fn restart(
    work: &mut Work,
    manager: &dyn ServiceManager,
    tunnel: &ServiceTunnel,
) -> anyhow::Result<()> {
    let (host, layout) = (work.host(), work.layout().clone());
    // A file that is as it has to be does not say that the process has read it.
    if service::is_in_place(manager, host, &layout, tunnel)? {
        return manager.restart_one(host, &layout, tunnel.id);
    }
    manager.add(work, tunnel)
}

/// What a wait for a tunnel came to.
pub enum Seen {
    /// The control plane sees the session that was waited for.
    Up,
    /// It answers, and does not see it.
    Down,
    /// It does not answer.
    Unanswered(ApiError),
}

/// Waits until the control plane sees the session that `is_it` describes.
///
/// # Errors
/// The control plane refuses to say, or the run is interrupted.
pub fn wait_until_up(
    host: &dyn Host,
    client: &ControlPlane,
    tunnel: TunnelName,
    limit: Duration,
    is_it: impl Fn(&Tunnel) -> bool,
) -> anyhow::Result<Seen> {
    let deadline = host.uptime() + limit;
    loop {
        let (seen, pause) = match client.tunnel(host, tunnel.number()) {
            Ok(answer) if answer.status == TunnelStatus::Up && is_it(&answer) => {
                return Ok(Seen::Up);
            }
            Ok(_) => (Seen::Down, UP_PAUSE),
            Err(error) if error.is_passing() => (Seen::Unanswered(error), RETRY_PAUSE),
            Err(error) => return Err(error.advised()),
        };
        if host.uptime() >= deadline {
            return Ok(seen);
        }
        host.sleep(pause)?;
    }
}

/// Repeats a call to the control plane while its failure may pass.
///
/// # Errors
/// The call's own, when the time is over or it is certain.
pub fn insist<T>(
    host: &dyn Host,
    limit: Duration,
    call: impl Fn() -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let deadline = host.uptime() + limit;
    loop {
        match call() {
            Err(error) if error.is_passing() && host.uptime() < deadline => {
                host.sleep(RETRY_PAUSE)?;
            }
            other => return other,
        }
    }
}

/// The failure of a tunnel that was started and is not seen.
pub fn not_seen(host: &dyn Host, layout: &Layout, tunnel: TunnelName, seen: Seen) -> Failure {
    let seconds = UP_TIMEOUT.as_secs();
    if let Seen::Unanswered(error) = seen {
        return Failure::new(
            format!("tunnel {tunnel} was started, and the control plane cannot be asked whether it is up"),
            "run the same command again once the control plane can be reached",
        )
        .because(error);
    }
    let log = host
        .read_if_present(&layout.tunnel_log(tunnel))
        .ok()
        .flatten()
        .unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let last = log.lines().next_back().unwrap_or("nothing was logged");
    Failure::new(
        format!("tunnel {tunnel} was started, and is not up after {seconds} s"),
        format!("see its log: {}", layout.tunnel_log(tunnel).display()),
    )
    .because(format!("last line of its log: {last}"))
}
