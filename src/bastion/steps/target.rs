//! Another database behind a tunnel, or another place where it ends: its key stays, and its siblings run on.

use std::time::Duration;

use anyhow::Context as _;

use super::database::Database;
use super::{Outcome, PlannedCommand, Proofs, Step, StepName, place, service_tunnel};
use crate::bastion::change::Change;
use crate::bastion::control_plane::{ApiError, ControlPlane};
use crate::bastion::facts::Init;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Authority, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::restart::{self, WaitResult, not_seen, retry, see_it_through};
use crate::bastion::run::StepContext;
use crate::bastion::service::{self, AtBoot};
use crate::bastion::ssh::command_line::{bracketed, foreground_command};
use crate::bastion::steps::autossh::installed;
use crate::bastion::steps::temporary_tunnel::enrolled_forward;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{DatabaseAddress, Tunnel, TunnelChange, TunnelPlace};

/// How long the control plane may take to take note.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub struct Target {
    pub tunnel: TunnelName,
    pub from: DatabaseAddress,
    pub to: DatabaseAddress,
    /// Whether it was given here, so that the control plane has to take it over.
    pub is_given: bool,
}

/// `host:port`, as a person writes it.
pub fn shown(address: &DatabaseAddress) -> String {
    format!("{}:{}", bracketed(&address.host), address.port)
}

/// Restarts the tunnel with its new target.
pub struct TargetUpdate {
    pub layout: Layout,
    pub target: Target,
    /// Where it is to end, if that is elsewhere than before.
    pub place: Option<TunnelPlace>,
    /// What runs the tunnel; nothing where a supervisor of the user's own does.
    pub init: Option<Init>,
    /// What becomes reachable.
    pub database: Database,
    /// What that takes, for the person who decides.
    pub commands: Vec<PlannedCommand>,
}

impl Step for TargetUpdate {
    fn name(&self) -> StepName {
        StepName::TargetUpdate
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.target.tunnel)
    }

    fn summary(&self) -> String {
        let (tunnel, to) = (self.target.tunnel, shown(&self.target.to));
        match &self.place {
            Some(place) => format!(
                "Restart tunnel {tunnel} at {}:{} with the port {} there, and {to} behind it",
                bracketed(&place.server.host),
                place.server.port,
                place.remote_port
            ),
            None => format!("Restart tunnel {tunnel} with {to} behind it"),
        }
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        self.commands.clone()
    }

    fn needs_root(&self) -> bool {
        self.init.is_some() && self.layout.system_authority() == Authority::Root
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        self.database.prove(host, proofs)
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let tunnel = self.target.tunnel;
        if self.init.is_some() {
            // Undone after what comes now: with the former target back in its place.
            work.record(Change::TunnelRestarted { tunnel })?;
        }
        work.record(Change::TargetChanged {
            from: self.target.from.clone(),
        })?;
        if let Some(place) = &self.place {
            place::take(work, tunnel, place)?;
        }
        if self.init.is_some() {
            self.restart(work)?;
        }
        let tunnel = work.run.receipt.tunnels.get_mut(&self.target.tunnel);
        let tunnel = tunnel.context("the tunnel is not in the receipt")?;
        tunnel.target_host.clone_from(&self.target.to.host);
        tunnel.target_port = self.target.to.port;
        work.run.save()?;
        if self.init.is_none() {
            self.show_command(work)?;
        }
        Ok(Outcome::Changed(format!(
            "tunnel {} points to {}",
            self.target.tunnel,
            shown(&self.target.to)
        )))
    }
}

impl TargetUpdate {
    fn restart(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let tunnel = self.target.tunnel;
        let manager = work.run.manager()?;
        let mut definition = service_tunnel::describe(work.run, tunnel, None)?;
        definition
            .forward
            .target_host
            .clone_from(&self.target.to.host);
        definition.forward.target_port = self.target.to.port.to_string();
        let client = work.run.client(tunnel)?;
        // Another session than this one proves the restart.
        let former = client.tunnel(work.host(), tunnel);
        let former = former.ok().and_then(|known| known.session);
        restart::restart(work.run, manager.as_ref(), &definition)?;
        let is_new = |known: &Tunnel| known.session.is_none() || known.session != former;
        match see_it_through(work.run, &client, manager.as_ref(), &definition, is_new)? {
            WaitResult::Up => Ok(()),
            seen => Err(not_seen(work.host(), work.layout(), tunnel, seen).into()),
        }
    }

    /// A tunnel that a supervisor of the user's own runs: it gets the new command.
    fn show_command(&self, work: &StepContext) -> anyhow::Result<()> {
        let forward = enrolled_forward(
            work.host(),
            &work.run.receipt,
            work.layout(),
            self.target.tunnel,
        )?;
        let program = installed::find(work.host(), work.layout())
            .context("autossh is no longer installed")?;
        let command = foreground_command(&program.to_string_lossy(), &forward);
        work.run.ui.note(&format!(
            "This host has no service manager. Stop the old command, and have your supervisor run this \
             instead:\n\n{command}\n"
        ));
        Ok(())
    }
}

/// Tells the control plane where the tunnel points.
pub struct TargetReport {
    pub target: Target,
    /// Where it ends, for a control plane that may not know yet that it is there.
    pub place: Option<TunnelPlace>,
    /// Whether the tunnel points there by now.
    pub is_applied: bool,
}

impl Step for TargetReport {
    fn name(&self) -> StepName {
        StepName::TargetReport
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.target.tunnel)
    }

    fn summary(&self) -> String {
        "Tell the control plane".to_owned()
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let tunnel = self.target.tunnel;
        let client = work.run.client(tunnel)?;
        let before_move = if self.is_applied {
            place::settle(work.run, tunnel)?
        } else {
            None
        };
        let place = self.place.as_ref();
        let keys = place.map(|place| place.server.host_keys.clone());
        let told = report(
            work.host(),
            &client,
            &self.target,
            self.is_applied,
            place,
            keys,
        );
        let Err(error) = told else {
            return Ok(Outcome::Changed("the browser shows it".to_owned()));
        };
        let goes_back = match before_move {
            // An answer that was lost may have been that the port of before is given up.
            Some(before) if error.is_refusal() => {
                place::unsettle(work.run, before)?;
                true
            }
            Some(_) => false,
            // A target that was given here has to be known on both sides; that one from there is applied
            // may be told later.
            None => self.target.is_given || matches!(error, ApiError::Interrupted(_)),
        };
        if goes_back {
            return Err(error.with_advice());
        }
        let failure = Failure {
            exit: Exit::Partly,
            ..Failure::new(
                format!(
                    "tunnel {tunnel} is up and points to {}, but the control plane could not be told",
                    shown(&self.target.to)
                ),
                "run the same command again once it can be reached",
            )
        };
        Err(match error {
            ApiError::Interrupted(interrupted) => anyhow::Error::from(interrupted).context(failure),
            error => failure.because(error).into(),
        })
    }
}

/// Tells the control plane where the tunnel points, and where it shall point if that was decided here; where it ends, if
/// that may be news; and which host keys are pinned, if it asks for that.
pub fn report(
    host: &dyn Host,
    client: &ControlPlane,
    target: &Target,
    is_applied: bool,
    place: Option<&TunnelPlace>,
    host_keys: Option<Vec<String>>,
) -> Result<(), ApiError> {
    let change = TunnelChange {
        target: target.is_given.then(|| target.to.clone()),
        applied: is_applied.then(|| target.to.clone()),
        host_keys,
        region: place
            .filter(|_| is_applied)
            .map(|place| place.region.clone()),
        ..TunnelChange::default()
    };
    retry(host, REPORT_TIMEOUT, || {
        client.change_tunnel(host, target.tunnel, &change)
    })?;
    Ok(())
}

/// What restarting a tunnel takes, for the person who decides.
pub fn commands(
    init: Option<Init>,
    layout: &Layout,
    tunnel: TunnelName,
    at_boot: AtBoot,
) -> anyhow::Result<Vec<PlannedCommand>> {
    match init {
        Some(init) => Ok(service::manager(init)?.add_commands(layout, tunnel, at_boot)),
        None => Ok(Vec::new()),
    }
}
