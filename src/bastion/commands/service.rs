//! `service`: starts, stops or restarts all tunnels of this host, whatever its service manager.

use anyhow::Context as _;

use super::{refuse_sudo, status, tunnels};
use crate::bastion::cli::{Service, ServiceAction, Status};
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Authority, Host};
use crate::bastion::service::{self, Action};
use crate::protocol::TunnelId;

pub(super) fn run(host: &dyn Host, command: &Service) -> anyhow::Result<Exit> {
    let action = match command.action {
        ServiceAction::Start => Action::Start,
        ServiceAction::Stop => Action::Stop,
        ServiceAction::Restart => Action::Restart,
        ServiceAction::Status => {
            let all = Status {
                id: None,
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
        host.acquire_root("Governing the service", &[])?;
    }
    let ids: Vec<TunnelId> = receipt.tunnels.keys().copied().collect();
    manager.govern(host, &layout, &ids, action)?;
    Ok(Exit::Done)
}

fn no_service() -> Failure {
    Failure::new(
        "this user has no tunnels under a service on this host",
        "`holistics-tunnel list` shows this user's tunnels; run it as the user who set them up",
    )
}
