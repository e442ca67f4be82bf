//! `service`: starts, stops or restarts all tunnels of this host, whatever its service manager.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Context as _;

use super::{others, status, tunnels};
use crate::bastion::cli::{Service, ServiceAction, Status, Which};
use crate::bastion::control_plane::{ControlPlane, Given};
use crate::bastion::copies::{self, Sign};
use crate::bastion::facts;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope, StepName};
use crate::bastion::restart::{self, WaitResult};
use crate::bastion::service::{self, Action, InstalledTunnel, ServiceManager, ServiceState};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;
use crate::protocol::{Tunnel, TunnelSession};

/// How long the control plane may take to say which session holds a tunnel before it is started.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

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
                authority: command.authority.clone(),
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
    if let Some(original) = copies::original(host, &receipt).filter(|_| action != Action::Stop) {
        return Err(Sign::CopyOf(original).refusal("nothing was started").into());
    }
    if layout.system_authority() == Authority::Root {
        host.acquire_root("Managing the service", &[])?;
    }
    // Where root governs, it governs everybody's.
    let own = receipt.tunnels.keys().copied();
    let ids: Vec<TunnelName> = own.chain(others.iter().map(|tunnel| tunnel.name)).collect();
    if action == Action::Stop {
        manager.control(host, &layout, &ids, action)?;
        return Ok(Exit::Done);
    }
    let given = Given::read(host, command.authority.file())?;
    let mut awaited = Vec::new();
    for id in receipt.tunnels.keys() {
        let installed = (&receipt, &layout);
        awaited.extend(Awaited::before(host, &given, installed, *id, action)?);
    }
    manager.control(host, &layout, &ids, action)?;
    if !awaited.is_empty() {
        ui.note(&format!(
            "Waiting for the tunnel server to see the tunnels, at most {} s each.",
            restart::UP_TIMEOUT.as_secs()
        ));
    }
    for tunnel in &awaited {
        tunnel.wait(host, &layout, manager.as_ref())?;
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
    let layout = others::layout(host);
    let deadline = host.uptime() + RUN_TIMEOUT;
    loop {
        let state = manager.status(host, &layout, *name)?;
        let is_running = state == ServiceState::Running;
        let failure = if is_running {
            None
        } else {
            manager.start_failure(host, &layout, *name)?
        };
        if is_running || failure.is_some() || host.uptime() >= deadline {
            let state = format!("{state:?}").to_lowercase();
            let why = failure.map_or_else(String::new, |failure| {
                format!("; {}. Next: {}", failure.told(), failure.next)
            });
            ui.note(&format!("Tunnel {name} of {user} ({name:?}): {state}{why}"));
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

/// A tunnel that is started. A service that was started is not yet a tunnel that is up, and one that is up
/// may be held by another machine: the tunnel server is asked for a session that was not there before.
struct Awaited {
    id: TunnelName,
    client: ControlPlane,
    former: Option<TunnelSession>,
    /// How long its log was.
    logged: usize,
}

impl Awaited {
    /// As it is before it is started; nothing where it is not enrolled.
    fn before(
        host: &dyn Host,
        given: &Given,
        (receipt, layout): (&Receipt, &Layout),
        id: TunnelName,
        action: Action,
    ) -> anyhow::Result<Option<Self>> {
        let tunnel = tunnels::find(receipt, id)?;
        let Some(client) = tunnel.client(host, given)? else {
            return Ok(None);
        };
        // A control plane that is away does not hold up the start.
        let known = client.tunnel_within(host, id, LOOK_TIMEOUT).ok();
        let former = known.and_then(|known| known.session);
        let stays = match service_state(host, receipt, layout, id)? {
            // Setup's temporary tunnel is none of the service's.
            None => true,
            Some(ServiceState::Running) if action == Action::Start => {
                !copies::is_held_elsewhere(host, layout, receipt, id)?
            }
            Some(_) => false,
        };
        Ok(Some(Awaited {
            id,
            client,
            former: former.filter(|_| !stays),
            logged: log_of(host, layout, id).len(),
        }))
    }

    fn wait(
        &self,
        host: &dyn Host,
        layout: &Layout,
        manager: &dyn ServiceManager,
    ) -> anyhow::Result<()> {
        let is_ours = |known: &Tunnel| known.session.is_none() || known.session != self.former;
        let is_refused = || {
            let log = log_of(host, layout, self.id);
            let new = log.get(self.logged..).unwrap_or(&log);
            String::from_utf8_lossy(new).contains(copies::REFUSED)
        };
        let is_held = Cell::new(false);
        let is_decided = |known: &Tunnel| {
            is_held.set(!is_ours(known) && is_refused());
            is_held.get() || is_ours(known)
        };
        let limit = restart::UP_TIMEOUT;
        match restart::wait_until_up(
            host,
            layout,
            &self.client,
            manager,
            self.id,
            limit,
            is_decided,
        )? {
            WaitResult::Up if is_held.get() => Err(Sign::HeldElsewhere
                .refusal(&format!(
                    "tunnel {} is started, and refused while that one is alive",
                    self.id
                ))
                .into()),
            WaitResult::Up => Ok(()),
            seen => Err(restart::not_seen(host, layout, self.id, seen).into()),
        }
    }
}

/// How the service stands; nothing for a tunnel that it does not run yet.
fn service_state(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    id: TunnelName,
) -> anyhow::Result<Option<ServiceState>> {
    if !receipt.is_done(Scope::Tunnel(id), StepName::ServiceTunnel) {
        return Ok(None);
    }
    let manager = service::manager(receipt.init.with_context(no_service)?)?;
    manager.status(host, layout, id).map(Some)
}

fn log_of(host: &dyn Host, layout: &Layout, id: TunnelName) -> Vec<u8> {
    let log = host.read_if_present(&layout.tunnel_log(id));
    log.ok().flatten().unwrap_or_default()
}

fn no_service() -> Failure {
    Failure::new(
        "this user has no tunnels under a service on this host",
        "`holistics-tunnel list` shows this user's tunnels; run it as the user who set them up",
    )
}
