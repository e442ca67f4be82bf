//! This tunnel under the service, in place of the temporary one.

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::Context as _;

use super::autossh::installed;
use super::temporary_tunnel::{self, enrolled_forward};
use super::{Outcome, PlannedCommand, Proofs, Step, StepName, host_keys, system_files};
use crate::bastion::control_plane::ApiError;
use crate::bastion::host::{Authority, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::restart::{WaitResult, not_seen, see_it_through};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::service::{self, ServiceManager, ServiceState, ServiceTunnel};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{DatabaseAddress, Tunnel, TunnelChange, TunnelStatus};

pub struct ServiceTunnelStep {
    pub layout: Layout,
    pub tunnel: TunnelName,
    pub manager: Box<dyn ServiceManager>,
    /// An autossh that was there when the plan was made and can be used.
    pub autossh: Option<PathBuf>,
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
        self.manager.add_commands(&self.layout, self.tunnel)
    }

    fn needs_root(&self) -> bool {
        self.layout.system_authority() == Authority::Root
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        service::check_user(&host.user().name)?;
        let files = self.manager.paths(&self.layout, self.tunnel);
        system_files::prove_writable(host, files, self.layout.system_authority(), proofs)?;
        self.manager.foresee(host, proofs)
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let host = work.host();
        let tunnel = describe(work.run, self.tunnel, self.autossh.clone())?;
        let manager = self.manager.as_ref();
        if service::is_in_place(manager, host, &self.layout, &tunnel)?
            && self.manager.status(host, &self.layout, self.tunnel)? == ServiceState::Running
            && let Some(known) = up(work.run, self.tunnel)?
        {
            self.report_installed(work.run, self.pinned(work.run, &known))?;
            return Ok(Outcome::AlreadyPresent("the tunnel is up".to_owned()));
        }
        // The port passes from one session to the other, so the first one has to let go of it.
        temporary_tunnel::end(work.run, self.tunnel)?;
        self.manager.add(work, &tunnel)?;
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
        self.report_installed(work.run, pinned.take())?;
        Ok(Outcome::Changed(format!("tunnel {} is up", self.tunnel)))
    }
}

impl ServiceTunnelStep {
    fn pinned(&self, run: &Run, known: &Tunnel) -> Option<Vec<String>> {
        host_keys::told_to(run.receipt.tunnels.get(&self.tunnel), known)
    }

    fn report_installed(&self, run: &Run, host_keys: Option<Vec<String>>) -> anyhow::Result<()> {
        let tunnel = run.receipt.tunnels.get(&self.tunnel);
        let change = TunnelChange {
            service_installed: Some(true),
            applied: tunnel.map(|tunnel| DatabaseAddress {
                host: tunnel.target_host.clone(),
                port: tunnel.target_port,
            }),
            host_keys,
            ..TunnelChange::default()
        };
        run.client(self.tunnel)?
            .change_tunnel(run.host, self.tunnel, &change)
            .map_err(ApiError::with_advice)?;
        Ok(())
    }
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
