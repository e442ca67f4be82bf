//! The end of a tunnel, and of what all tunnels share. What cannot be taken away is told and stays in the
//! receipt; everything else goes all the same.

use super::remains::{Remains, Signs};
use super::{Outcome, PlannedCommand, Step, StepName, enrollment, temporary_tunnel};
use crate::bastion::change::UndoReason;
use crate::bastion::control_plane::ControlPlane;
use crate::bastion::failure::is_interruption;
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope, TunnelRecord};
use crate::bastion::run::{Problem, Run, StepContext, Unfinished};
use crate::bastion::service;
use crate::bastion::tunnel_name::TunnelName;

pub struct RemoveTunnel {
    pub tunnel: TunnelName,
    pub vendor: Vendor,
    pub reason: UndoReason,
}

/// Who has to hear of a removal.
pub enum Vendor {
    Told(ControlPlane),
    /// The tunnel is gone there, or is to be removed from this host alone.
    NeedNotKnow,
    /// It should be told, and for this reason nobody can.
    OutOfReach(String),
}

impl Vendor {
    /// Tells it, and returns what has come in the way of that.
    pub fn tell(
        &self,
        host: &dyn Host,
        tunnel: TunnelName,
        whose: &str,
    ) -> anyhow::Result<Option<Problem>> {
        let error = match self {
            Vendor::NeedNotKnow => return Ok(None),
            Vendor::OutOfReach(reason) => anyhow::anyhow!("{reason}"),
            Vendor::Told(client) => match client.delete_tunnel(host, tunnel) {
                Ok(()) => return Ok(None),
                Err(error) => error.with_advice(),
            },
        };
        if is_interruption(&error) {
            return Err(error);
        }
        let what = format!("{whose}, telling the control plane");
        Ok(Some(Problem::new(&what, &error)))
    }
}

impl Step for RemoveTunnel {
    fn name(&self) -> StepName {
        StepName::Removal
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        format!("Remove tunnel {}", self.tunnel)
    }

    fn is_transactional(&self) -> bool {
        true
    }

    /// The service lets go of the tunnel before the control plane forgets it: should this run end in
    /// between, the next one still knows both.
    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let run = &mut *work.run;
        let whose = format!("tunnel {}", self.tunnel);
        let record = run.receipt.tunnels.get(&self.tunnel).cloned();
        let mut problems = run.undo_recorded(self.scope(), self.reason, &whose)?;
        if problems.is_empty()
            && let Some(record) = &record
        {
            problems.extend(remains(run, self.tunnel, record)?);
        }
        problems.extend(self.vendor.tell(run.host, self.tunnel, &whose)?);
        if !problems.is_empty() {
            return Err(Unfinished(problems).into());
        }
        run.drop_tunnel(self.tunnel)?;
        Ok(Outcome::Changed(format!("tunnel {} is gone", self.tunnel)))
    }
}

/// What undoing all that is recorded in a scope takes.
pub fn commands(receipt: &Receipt, layout: &Layout, scope: Scope) -> Vec<PlannedCommand> {
    let manager = receipt.init.and_then(|init| service::manager(init).ok());
    let records = receipt.steps(scope).iter();
    let changes = records.flat_map(|record| &record.changes);
    changes
        .flat_map(|change| change.removal_commands(manager.as_deref(), layout, scope))
        .collect()
}

/// What is left of a tunnel that was taken away, as far as this host shows it.
fn remains(run: &Run, tunnel: TunnelName, record: &TunnelRecord) -> anyhow::Result<Vec<Problem>> {
    let layout = &run.layout;
    let remains = Remains {
        run,
        tunnel,
        whose: format!("tunnel {tunnel}"),
    };
    let mut left = remains.files(&[layout.tunnel_file(tunnel), layout.tunnel_log(tunnel)]);
    left.extend(remains.files(&temporary_tunnel::sockets(record)));
    let manager = run.receipt.init.map(service::manager).transpose()?;
    let signs = Signs::of(layout, record);
    left.extend(remains.running(manager.as_deref(), layout, signs.as_ref())?);
    Ok(left)
}

/// What all tunnels of this user share: pinned keys while one is left, else everything.
pub struct RemoveShared {
    pub reason: UndoReason,
}

impl Step for RemoveShared {
    fn name(&self) -> StepName {
        StepName::Removal
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        "Remove what no tunnel needs any more".to_owned()
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let run = &mut *work.run;
        if !run.receipt.tunnels.is_empty() {
            enrollment::write_known_hosts(run, None)?;
            return Ok(Outcome::AlreadyPresent("other tunnels need it".to_owned()));
        }
        let problems = run.undo_recorded(Scope::Host, self.reason, "the service")?;
        if problems.is_empty() {
            Ok(Outcome::Changed("nothing is left".to_owned()))
        } else {
            Err(Unfinished(problems).into())
        }
    }
}
