//! This tunnel under the service, in place of the temporary one.

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::Context as _;

use super::autossh::installed;
use super::temporary_tunnel::{self, enrolled_forward};
use super::{Outcome, PlannedCommand, Proofs, Step, StepName, host_keys};
use crate::bastion::control_plane::ApiError;
use crate::bastion::failure::OneLine;
use crate::bastion::host::{Authority, Command, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::restart::{WaitResult, not_seen, see_it_through, without_mounts};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::service::{
    self, AtBoot, ServiceManager, ServiceState, ServiceTunnel, StartFailure, Trial,
};
use crate::bastion::ssh::Forward;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{DatabaseAddress, Tunnel, TunnelChange, TunnelStatus};

/// When the rehearsals are held.
const REHEARSED_WHEN: [&str; 2] = [
    "before the key is registered: whether the service can start it",
    "if it can have no mounts of its own",
];

pub struct ServiceTunnelStep {
    pub layout: Layout,
    pub tunnel: TunnelName,
    pub manager: Box<dyn ServiceManager>,
    /// An autossh that was there when the plan was made and can be used.
    pub autossh: Option<PathBuf>,
    /// The command line as far as it is known before enrollment.
    pub preview: Forward,
    /// What shows before the key is registered that the tunnel can be started here.
    pub rehearsals: Vec<Command>,
    /// When the first of them was begun.
    pub begun: Cell<Option<jiff::Timestamp>>,
    /// Whether it can have mounts of its own, as they have shown.
    pub has_own_mounts: Cell<Option<bool>>,
}

impl Step for ServiceTunnelStep {
    fn name(&self) -> StepName {
        StepName::ServiceTunnel
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        "End the temporary tunnel and start this one under the service".to_owned()
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        let rehearsals = self.rehearsals.iter().zip(REHEARSED_WHEN);
        let rehearsals = rehearsals.map(|(command, when)| {
            PlannedCommand::from(command.clone())
                .spare(when, "whether the tunnel can be started here")
        });
        rehearsals
            .chain(
                self.manager
                    .add_commands(&self.layout, self.tunnel, AtBoot::Enabled),
            )
            .collect()
    }

    fn undo_commands(&self) -> Vec<PlannedCommand> {
        self.manager.remove_commands(&self.layout, self.tunnel)
    }

    fn needs_root(&self) -> bool {
        self.layout.system_authority() == Authority::Root
    }

    fn prove(&self, host: &dyn Host, _: &mut Proofs) -> anyhow::Result<()> {
        service::check_user(&host.user().name)
    }

    fn rehearsal(&self, work: &StepContext) -> Option<Command> {
        let first = self.rehearsals.first().filter(|_| !self.is_done(work))?;
        self.begun.set(Some(work.host().now()));
        may_run(work.host(), first).then(|| first.clone())
    }

    fn rehearse(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let host = work.host();
        if self.is_done(work) {
            return Ok(());
        }
        let trial = Trial::of(host, &self.layout, self.tunnel, &self.preview);
        let mut first: Option<StartFailure> = None;
        for command in &self.rehearsals {
            let since = self.begun.take().unwrap_or_else(|| host.now());
            let output = if may_run(host, command) {
                host.run(command)?
            } else {
                return Ok(());
            };
            if output.success() {
                self.has_own_mounts.set(Some(first.is_none()));
                if let Some(failure) = first {
                    work.run.ui.note(&without_mounts(self.tunnel, &failure));
                }
                return Ok(());
            }
            let failure =
                self.manager
                    .rehearsal_failure(host, &self.layout, &trial, &output, since)?;
            let Some(failure) = failure else {
                let said = OneLine(&anyhow::anyhow!(output.stderr)).to_string();
                host.log_line(&format!("the service's start could not be tried: {said}"));
                return Ok(());
            };
            let may_be_mounts = failure.may_be_mounts;
            first.get_or_insert(failure);
            if !may_be_mounts {
                break;
            }
        }
        match first {
            Some(failure) => Err(failure.into_failure(self.tunnel).into()),
            None => Ok(()),
        }
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let host = work.host();
        let tunnel = ServiceTunnel {
            has_own_mounts: self.has_own_mounts.get(),
            ..describe(work.run, self.tunnel, self.autossh.clone())?
        };
        let manager = self.manager.as_ref();
        if service::is_in_place(manager, host, &self.layout, &tunnel)?
            && self.manager.status(host, &self.layout, self.tunnel)? == ServiceState::Running
            && let Some(known) = up(work.run, self.tunnel)?
        {
            report_installed(work.run, self.tunnel, self.pinned(work.run, &known))?;
            return Ok(Outcome::AlreadyPresent("the tunnel is up".to_owned()));
        }
        // The port passes from one session to the other, so the first one has to let go of it.
        temporary_tunnel::end(work.run, self.tunnel)?;
        self.manager.add(work, &tunnel, AtBoot::Enabled)?;
        let client = work.run.client(self.tunnel)?;
        let (pinned, record) = (
            Cell::new(None),
            work.run.receipt.tunnels.get(&self.tunnel).cloned(),
        );
        let is_up = |known: &Tunnel| {
            pinned.set(host_keys::told_to(record.as_ref(), known));
            true
        };
        match see_it_through(work.run, &client, manager, &tunnel, is_up)? {
            WaitResult::Up => {}
            seen => return Err(not_seen(host, &self.layout, self.tunnel, seen).into()),
        }
        report_installed(work.run, self.tunnel, pinned.take())?;
        Ok(Outcome::Changed(format!("tunnel {} is up", self.tunnel)))
    }
}

impl ServiceTunnelStep {
    fn is_done(&self, work: &StepContext) -> bool {
        work.run.receipt.is_done(self.scope(), self.name())
    }

    fn pinned(&self, run: &Run, known: &Tunnel) -> Option<Vec<String>> {
        host_keys::told_to(run.receipt.tunnels.get(&self.tunnel), known)
    }
}

/// Tells the control plane that somebody looks after the tunnel from now on: whether it is up or down is known then.
pub fn report_installed(
    run: &Run,
    tunnel: TunnelName,
    host_keys: Option<Vec<String>>,
) -> anyhow::Result<()> {
    let record = run.receipt.tunnels.get(&tunnel);
    let change = TunnelChange {
        service_installed: Some(true),
        applied: record.map(|record| DatabaseAddress {
            host: record.target_host.clone(),
            port: record.target_port,
        }),
        host_keys,
        ..TunnelChange::default()
    };
    run.client(tunnel)?
        .change_tunnel(run.host, tunnel, &change)
        .map_err(ApiError::with_advice)?;
    Ok(())
}

fn may_run(host: &dyn Host, rehearsal: &Command) -> bool {
    let allowed = host.prove_root("Trying the service", std::slice::from_ref(rehearsal));
    allowed.is_ok()
}

/// A tunnel as the service runs it, from what the receipt says. `autossh` is looked for where none is
/// given.
pub fn describe(
    run: &Run,
    tunnel: TunnelName,
    autossh: Option<PathBuf>,
) -> anyhow::Result<ServiceTunnel> {
    describe_as(run.host, &run.receipt, &run.layout, tunnel, autossh)
}

fn describe_as(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    tunnel: TunnelName,
    autossh: Option<PathBuf>,
) -> anyhow::Result<ServiceTunnel> {
    let autossh = autossh.or_else(|| installed::find(host, layout));
    Ok(ServiceTunnel {
        id: tunnel,
        user: host.user().name.clone(),
        autossh: autossh.context("autossh is no longer installed")?,
        ssh: host.which("ssh").context("ssh is no longer installed")?,
        forward: enrolled_forward(host, receipt, layout, tunnel)?,
        log: layout.tunnel_log(tunnel),
        has_own_mounts: None,
    })
}

/// Whether the service, if there is one, has the tunnel's files as they have to be and can start it.
pub fn is_sound(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    tunnel: TunnelName,
) -> anyhow::Result<bool> {
    let is_run = receipt.is_done(Scope::Tunnel(tunnel), StepName::ServiceTunnel);
    let Some(init) = receipt.init.filter(|_| is_run) else {
        return Ok(true);
    };
    let manager = service::manager(init)?;
    let manager = manager.as_ref();
    let definition = describe_as(host, receipt, layout, tunnel, None)?;
    Ok(
        (tunnel.is_former() || service::is_in_place(manager, host, layout, &definition)?)
            && manager.start_failure(host, layout, tunnel)?.is_none(),
    )
}

/// The tunnel, where the control plane sees its own run. A control plane that is away for a
/// moment is no answer, and asked again.
fn up(run: &Run, tunnel: TunnelName) -> anyhow::Result<Option<Tunnel>> {
    match run.client(tunnel)?.tunnel(run.host, tunnel) {
        Ok(answer) => Ok(Some(answer).filter(|known| known.status == TunnelStatus::Up)),
        Err(error) if error.is_transient() => Ok(None),
        Err(error) => Err(error.with_advice()),
    }
}
