//! This tunnel under the service, in place of the temporary one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::autossh::installed;
use super::temporary_tunnel::{self, enrolled_forward};
use super::{Outcome, Step, StepName};
use crate::bastion::changes::Change;
use crate::bastion::control_plane::ApiError;
use crate::bastion::facts::Init;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::service::{self, ServiceManager, ServiceState, ServiceTunnel};
use crate::bastion::session::{Session, Work};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{DatabaseAddress, TunnelChange, TunnelStatus};

/// How long the service may take until the control plane sees its tunnel.
const UP_TIMEOUT: Duration = Duration::from_secs(60);
const UP_PAUSE: Duration = Duration::from_millis(250);

/// The step.
pub struct ServiceTunnelStep {
    /// The paths.
    pub layout: Layout,
    /// The tunnel.
    pub tunnel: TunnelName,
    /// The service manager's name.
    pub init: Init,
    /// The service manager.
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

    fn commands(&self) -> Vec<String> {
        self.manager.add_commands(&self.layout, self.tunnel)
    }

    fn needs_root(&self) -> bool {
        self.layout.system_authority() == Authority::Root
    }

    fn apply(&self, work: &mut Work) -> anyhow::Result<Outcome> {
        let host = work.host();
        let tunnel = describe(work.session, self.tunnel, self.autossh.clone())?;
        let manager = self.manager.as_ref();
        if service::is_in_place(manager, host, &self.layout, &tunnel)?
            && self.manager.status(host, &self.layout, self.tunnel)? == ServiceState::Running
            && is_up(work.session, self.tunnel)?
        {
            self.report_installed(work.session)?;
            return Ok(Outcome::AlreadyPresent("the tunnel is up".to_owned()));
        }
        // The port passes from one session to the other, so the first one has to let go of it.
        let socket = temporary_tunnel::end(host, &self.layout, self.tunnel)?;
        work.forget(StepName::TemporaryTunnel, &Change::MasterStarted { socket })?;
        self.manager.add(work, &tunnel)?;
        self.wait_until_up(work.session)?;
        self.report_installed(work.session)?;
        Ok(Outcome::Changed(format!("tunnel {} is up", self.tunnel)))
    }
}

impl ServiceTunnelStep {
    fn wait_until_up(&self, session: &Session) -> anyhow::Result<()> {
        let host = session.host;
        let deadline = host.uptime() + UP_TIMEOUT;
        while !is_up(session, self.tunnel)? {
            if host.uptime() >= deadline {
                return Err(self.not_up(host).into());
            }
            host.sleep(UP_PAUSE)?;
        }
        Ok(())
    }

    fn not_up(&self, host: &dyn Host) -> Failure {
        let log = self.layout.tunnel_log(self.tunnel);
        let said = host
            .read_if_present(&log)
            .ok()
            .flatten()
            .unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let last = said
            .lines()
            .next_back()
            .unwrap_or("nothing was logged")
            .to_owned();
        Failure::new(
            format!(
                "the service was started, and its tunnel is not up after {} s",
                UP_TIMEOUT.as_secs()
            ),
            "run the same command again; everything done before this step is kept",
        )
        .because(format!("last line of its log: {last}"))
    }

    fn report_installed(&self, session: &Session) -> anyhow::Result<()> {
        let tunnel = session.receipt.tunnels.get(&self.tunnel);
        let change = TunnelChange {
            service_installed: Some(true),
            applied: tunnel.map(|tunnel| DatabaseAddress {
                host: tunnel.target_host.clone(),
                port: tunnel.target_port,
            }),
            ..TunnelChange::default()
        };
        session
            .control_plane
            .change_tunnel(session.host, self.tunnel.number(), change)
            .map_err(ApiError::advised)?;
        Ok(())
    }
}

/// A tunnel as the service runs it, from what the receipt says. `autossh` is looked for where none is
/// given.
///
/// # Errors
/// The tunnel is not enrolled, or a program is not installed any more.
pub fn describe(
    session: &Session,
    tunnel: TunnelName,
    autossh: Option<PathBuf>,
) -> anyhow::Result<ServiceTunnel> {
    let (host, layout) = (session.host, &session.layout);
    let autossh = autossh.or_else(|| installed::find(host, layout));
    Ok(ServiceTunnel {
        id: tunnel,
        user: host.user().name.clone(),
        autossh: autossh.context("autossh is not installed any more")?,
        ssh: host.which("ssh").context("ssh is not installed any more")?,
        forward: enrolled_forward(&session.receipt, layout, tunnel)?,
        log: layout.tunnel_log(tunnel),
    })
}

/// Whether the control plane sees the tunnel's own session. A control plane that is away for a
/// moment is no answer, and asked again.
fn is_up(session: &Session, tunnel: TunnelName) -> anyhow::Result<bool> {
    match session.control_plane.tunnel(session.host, tunnel.number()) {
        Ok(answer) => Ok(answer.status == TunnelStatus::Up),
        Err(error) if error.is_passing() => Ok(false),
        Err(error) => Err(error.advised()),
    }
}

pub(super) fn revert(session: &Session, scope: Scope, change: &Change) -> anyhow::Result<()> {
    let Scope::Tunnel(tunnel) = scope else {
        return Ok(());
    };
    let (host, ui, layout) = (session.host, session.ui, &session.layout);
    let Some(init) = session.receipt.init else {
        return change.undo_file(host);
    };
    let manager = service::manager(init)?;
    match change {
        Change::ServiceTunnelStarted => {
            service::undo_tunnel_started(manager.as_ref(), host, layout, tunnel)
        }
        _ => service::undo_tunnel_file(manager.as_ref(), host, ui, layout, tunnel, change),
    }
}
