//! `service`: starts, stops or restarts all tunnels of this host, whatever its service manager.

use std::time::Duration;

use anyhow::Context as _;

use super::{others, status, tunnels};
use crate::bastion::cli::{Service, ServiceAction, Status, Which};
use crate::bastion::control_plane::ControlPlane;
use crate::bastion::copies;
use crate::bastion::facts;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Authority, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{HostIdentity, Receipt};
use crate::bastion::restart::{self, WaitResult};
use crate::bastion::service::{self, Action, InstalledTunnel, ServiceManager, ServiceState};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;

/// How long a tunnel that was started may take until it runs.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);
const RUN_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &Service) -> anyhow::Result<Exit> {
    let action = match command.action {
        ServiceAction::Start => Action::Start,
        ServiceAction::Stop => Action::Stop,
        ServiceAction::Restart => Action::Restart,
        ServiceAction::Status => {
            let all = Status {
                which: Which::default(),
                json: false,
                watch: false,
                ca_cert: command.ca_cert.clone(),
            };
            return status::run(host, &all);
        }
    };
    let installed = tunnels::installed(host)?;
    let others = others::tunnels(host, installed.as_ref().map(|(receipt, _)| receipt))?;
    others::refuse_sudo(host, others.iter())?;
    let (receipt, layout) = installed
        .or_else(|| of_root_without_tunnels(host, &others))
        .with_context(no_service)?;
    let manager = service::manager(receipt.init.with_context(no_service)?)?;
    if layout.system_authority() == Authority::Root {
        host.acquire_root("Managing the service", &[])?;
    }
    if let Some(original) = copies::original(host, &receipt).filter(|_| action != Action::Stop) {
        return Err(on_a_copy(original).into());
    }
    // Where root governs, it governs everybody's.
    let own = receipt.tunnels.keys().copied();
    let ids: Vec<TunnelName> = own.chain(others.iter().map(|tunnel| tunnel.name)).collect();
    manager.control(host, &layout, &ids, action)?;
    if action == Action::Stop {
        return Ok(Exit::Done);
    }
    if !receipt.tunnels.is_empty() {
        wait_until_up(host, ui, command, &receipt, &layout, manager.as_ref())?;
    }
    let mut exit = Exit::Done;
    for tunnel in &others {
        if !comes_to_run(host, ui, manager.as_ref(), tunnel)? {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// Whether another user's tunnel runs in a while. Whether it is up, its owner's token would tell.
fn comes_to_run(
    host: &dyn Host,
    ui: &Ui,
    manager: &dyn ServiceManager,
    tunnel: &InstalledTunnel,
) -> anyhow::Result<bool> {
    let InstalledTunnel { name, user, .. } = tunnel;
    let deadline = host.uptime() + RUN_TIMEOUT;
    loop {
        let state = manager.status(host, &others::layout(host), *name)?;
        let is_running = state == ServiceState::Running;
        if is_running || host.uptime() >= deadline {
            let state = format!("{state:?}").to_lowercase();
            ui.note(&format!("Tunnel {name} of {user} ({name:?}): {state}"));
            return Ok(is_running);
        }
        host.sleep(RUN_PAUSE)?;
    }
}

/// root governs the tunnels of others also where it has none.
fn of_root_without_tunnels(
    host: &dyn Host,
    others: &[InstalledTunnel],
) -> Option<(Receipt, Layout)> {
    let layout = others::layout(host);
    let mut receipt = Receipt::new(layout.prefix());
    receipt.init = Some(facts::init_of(host));
    (!others.is_empty()).then_some((receipt, layout))
}

/// A service that was started is not yet a tunnel that is up: the tunnel server is asked.
fn wait_until_up(
    host: &dyn Host,
    ui: &Ui,
    command: &Service,
    receipt: &Receipt,
    layout: &Layout,
    manager: &dyn ServiceManager,
) -> anyhow::Result<()> {
    ui.note(&format!(
        "Waiting for the tunnel server to see the tunnels, at most {} s each.",
        restart::UP_TIMEOUT.as_secs()
    ));
    for (id, tunnel) in &receipt.tunnels {
        let Some(enrolled) = &tunnel.enrolled else {
            continue;
        };
        let client = ControlPlane::new(
            &tunnel.control_plane,
            &enrolled.tunnel_token,
            command.ca_cert.as_deref(),
        )?;
        match restart::wait_until_up(host, &client, manager, *id, restart::UP_TIMEOUT, |_| true)? {
            WaitResult::Up => {}
            seen => return Err(restart::not_seen(host, layout, *id, seen).into()),
        }
    }
    Ok(())
}

fn on_a_copy(original: &HostIdentity) -> Failure {
    Failure::new(
        format!("{}; nothing was started", copies::described(Some(original))),
        format!(
            "start them on {0}. If that machine is gone for good, set each tunnel up on this one: \
             `holistics-tunnel uninstall-tunnel --all --local-only`, then a new command from the browser",
            original.name
        ),
    )
}

fn no_service() -> Failure {
    Failure::new(
        "this user has no tunnels under a service on this host",
        "`holistics-tunnel list` shows this user's tunnels; run it as the user who set them up",
    )
}
