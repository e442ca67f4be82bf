//! One tunnel started anew under the service, and waited for. Its siblings are not touched.

use std::time::Duration;

use super::control_plane::{ApiError, ControlPlane};
use super::failure::Failure;
use super::host::{Host, HostExt as _, Pauses};
use super::layout::Layout;
use super::receipt::{Scope, StepName};
use super::run::Run;
use super::service::{self, AtBoot, ServiceManager, ServiceTunnel, StartFailure};
use super::steps::{enrollment, service_tunnel};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{Tunnel, TunnelStatus};

/// How long a tunnel may take until the control plane sees its new session.
pub const UP_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause until it is asked again.
const UP_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a question that was not answered.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Puts the tunnel's files in place, and ends and starts the tunnel. Whether it starts at boot is not touched.
pub fn restart(
    run: &mut Run,
    manager: &dyn ServiceManager,
    tunnel: &ServiceTunnel,
) -> anyhow::Result<()> {
    // A file that is as it has to be does not say that the process has read it.
    if service::is_in_place(manager, run.host, &run.layout, tunnel)? {
        return manager.restart_one(run.host, &run.layout, tunnel.id);
    }
    let scope = Scope::Tunnel(tunnel.id);
    manager.add(
        &mut run.context(scope, StepName::ServiceTunnel),
        tunnel,
        AtBoot::AsItIs,
    )
}

/// Restarts a tunnel as the receipt has it again, and says so where it is not seen to come up: the way back
/// comes to its end all the same.
pub fn restart_as_before(run: &mut Run, tunnel: TunnelName) -> anyhow::Result<()> {
    let manager = run.manager()?;
    let definition = service_tunnel::describe(run, tunnel, None)?;
    run.without_going_back_on(|run| restart(run, manager.as_ref(), &definition))?;
    see_it_up(run, manager.as_ref(), &definition)
}

/// The same for a tunnel whose files may be gone, and which may not start at boot any more.
pub fn start_as_before(run: &mut Run, tunnel: TunnelName) -> anyhow::Result<()> {
    enrollment::write_known_hosts(run, None)?;
    let manager = run.manager()?;
    let definition = service_tunnel::describe(run, tunnel, None)?;
    let scope = Scope::Tunnel(tunnel);
    run.without_going_back_on(|run| {
        manager.add(
            &mut run.context(scope, StepName::ServiceTunnel),
            &definition,
            AtBoot::WithTheService,
        )
    })?;
    see_it_up(run, manager.as_ref(), &definition)
}

fn see_it_up(
    run: &Run,
    manager: &dyn ServiceManager,
    tunnel: &ServiceTunnel,
) -> anyhow::Result<()> {
    let (host, client) = (run.host, run.client(tunnel.id)?);
    // A control plane that is away does not hold up the way back.
    let limit = match client.tunnel(host, tunnel.id) {
        Ok(_) => UP_TIMEOUT,
        Err(_) => Duration::ZERO,
    };
    let (layout, id) = (&run.layout, tunnel.id);
    run.ui.note(
        &match wait_until_up(host, layout, &client, manager, id, limit, |_| true) {
            Ok(WaitResult::Up) => format!("Tunnel {id} is up again as before."),
            Ok(WaitResult::NotStarted(failure)) => format!(
                "Tunnel {id} has its former files again, and does not start: {}. Next: {}.",
                failure.told(),
                failure.next
            ),
            _ => format!(
                "Tunnel {id} was started again as before; whether it is up could not be checked."
            ),
        },
    );
    Ok(())
}

/// What a wait for a tunnel came to.
pub enum WaitResult {
    /// The control plane sees the session that was waited for.
    Up,
    /// It answers, and does not see it.
    Down,
    /// The service manager could not start it.
    NotStarted(StartFailure),
    Unanswered(ApiError),
}

/// Waits for a tunnel that this run has started. One that systemd cannot give a view of the file system of its
/// own goes on without.
pub fn see_it_through(
    run: &mut Run,
    client: &ControlPlane,
    manager: &dyn ServiceManager,
    tunnel: &ServiceTunnel,
    is_it: impl Fn(&Tunnel) -> bool,
) -> anyhow::Result<WaitResult> {
    let (host, layout) = (run.host, run.layout.clone());
    let wait = || {
        wait_until_up(
            host, &layout, client, manager, tunnel.id, UP_TIMEOUT, &is_it,
        )
    };
    let first = match wait()? {
        WaitResult::NotStarted(failure) if failure.may_be_mounts => failure,
        seen => return Ok(seen),
    };
    let told = first.told();
    host.log_line(&format!("without mounts of its own, since {told}"));
    let start = |run: &mut Run, has_own_mounts| {
        let tunnel = ServiceTunnel {
            has_own_mounts: Some(has_own_mounts),
            ..tunnel.clone()
        };
        let scope = Scope::Tunnel(tunnel.id);
        manager.add(
            &mut run.context(scope, StepName::ServiceTunnel),
            &tunnel,
            AtBoot::AsItIs,
        )
    };
    start(run, false)?;
    match wait()? {
        // It was something else.
        WaitResult::NotStarted(failure) if failure.may_be_mounts => {
            start(run, true)?;
            Ok(WaitResult::NotStarted(first))
        }
        seen => {
            run.ui.note(&without_mounts(tunnel.id, &first));
            Ok(seen)
        }
    }
}

/// What is said of a tunnel that has the host's own view of the file system, since it could not start otherwise.
pub fn without_mounts(tunnel: TunnelName, failure: &StartFailure) -> String {
    format!(
        "This host cannot give tunnel {tunnel} a view of the file system of its own ({}), so it runs without mount \
         sandboxing; everything else of its sandbox stays.",
        failure.what
    )
}

/// Waits until the control plane sees the session that `is_it` describes.
pub fn wait_until_up(
    host: &dyn Host,
    layout: &Layout,
    client: &ControlPlane,
    manager: &dyn ServiceManager,
    tunnel: TunnelName,
    limit: Duration,
    is_it: impl Fn(&Tunnel) -> bool,
) -> anyhow::Result<WaitResult> {
    let deadline = host.uptime() + limit;
    let mut pauses = Pauses::up_to(UP_PAUSE);
    loop {
        let (seen, pause) = match client.tunnel(host, tunnel) {
            Ok(answer) if answer.status == TunnelStatus::Up && is_it(&answer) => {
                return Ok(WaitResult::Up);
            }
            Ok(_) => (WaitResult::Down, pauses.next()),
            Err(error) if error.is_transient() => (WaitResult::Unanswered(error), RETRY_PAUSE),
            Err(error) => return Err(error.with_advice()),
        };
        if let Some(failure) = manager.start_failure(host, layout, tunnel)? {
            return Ok(WaitResult::NotStarted(failure));
        }
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
pub fn retry<T>(
    host: &dyn Host,
    limit: Duration,
    call: impl Fn() -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let deadline = host.uptime() + limit;
    loop {
        match call() {
            Err(error) if error.is_transient() && host.uptime() < deadline => {
                host.sleep(RETRY_PAUSE)?;
            }
            other => return other,
        }
    }
}

/// The failure of a tunnel that was started and is not seen.
pub fn not_seen(host: &dyn Host, layout: &Layout, tunnel: TunnelName, seen: WaitResult) -> Failure {
    let seconds = UP_TIMEOUT.as_secs();
    if let WaitResult::NotStarted(failure) = seen {
        return failure.into_failure(tunnel);
    }
    if let WaitResult::Unanswered(error) = seen {
        return Failure::new(
            format!("tunnel {tunnel} was started, but the control plane could not be asked whether it is up"),
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
        format!("tunnel {tunnel} was started but is not up after {seconds} s"),
        format!("see its log: {}", layout.tunnel_log(tunnel).display()),
    )
    .because(format!("last line of its log: {last}"))
}
