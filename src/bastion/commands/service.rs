//! `service`: starts, stops or restarts all tunnels of this host, whatever its service manager.

use anyhow::Context as _;

use super::{refuse_sudo, status, tunnels};
use crate::bastion::cli::{Service, ServiceAction, Status, Which};
use crate::bastion::control_plane::ControlPlane;
use crate::bastion::copies;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Authority, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{HostIdentity, Receipt};
use crate::bastion::restart::{self, WaitResult};
use crate::bastion::service::{self, Action, ServiceManager};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;

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
    refuse_sudo(host.user())?;
    let (receipt, layout) = tunnels::installed(host)?.with_context(no_service)?;
    let manager = service::manager(receipt.init.with_context(no_service)?)?;
    if layout.system_authority() == Authority::Root {
        host.acquire_root("Managing the service", &[])?;
    }
    if let Some(original) = copies::original(host, &receipt).filter(|_| action != Action::Stop) {
        return Err(on_a_copy(original).into());
    }
    let ids: Vec<TunnelName> = receipt.tunnels.keys().copied().collect();
    manager.control(host, &layout, &ids, action)?;
    if action != Action::Stop {
        wait_until_up(host, ui, command, &receipt, &layout, manager.as_ref())?;
    }
    Ok(Exit::Done)
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
