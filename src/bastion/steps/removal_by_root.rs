//! The end of another user's tunnel, which root takes out of the service. What is in that user's home is
//! left there.

use anyhow::Context as _;

use super::remains::{Remains, Signs};
use super::removal::Vendor;
use super::{Outcome, Step, StepName};
use crate::bastion::change::Change;
use crate::bastion::facts::Init;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::run::{Problem, Run, StepContext, Unfinished};
use crate::bastion::service::{self, InstalledTunnel};

/// The step.
pub struct RemoveAnothersTunnel {
    pub tunnel: InstalledTunnel,
    /// Where all users' tunnels have their files.
    pub layout: Layout,
    /// What runs them.
    pub init: Init,
    pub vendor: Vendor,
}

impl Step for RemoveAnothersTunnel {
    fn name(&self) -> StepName {
        StepName::Removal
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        format!("Remove {}", self.whose())
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let problems = self.remove(work.run).with_context(|| self.whose())?;
        if !problems.is_empty() {
            return Err(Unfinished(problems).into());
        }
        Ok(Outcome::Changed(format!("{} is gone", self.whose())))
    }
}

impl RemoveAnothersTunnel {
    fn whose(&self) -> String {
        format!("tunnel {} of {}", self.tunnel.name, self.tunnel.user)
    }

    /// The tunnel's file goes when all else is done: by it, the same command finds the tunnel again.
    fn remove(&self, run: &mut Run) -> anyhow::Result<Vec<Problem>> {
        let (host, ui, layout) = (run.host, run.ui, &self.layout);
        let name = self.tunnel.name;
        let manager = service::manager(self.init)?;
        let is_shared_with_own = run.layout == *layout;
        if is_shared_with_own {
            self.note_what_is_shared(run)?;
        }
        manager.stop(host, layout, name)?;
        let remains = Remains {
            run,
            tunnel: name,
            whose: self.whose(),
        };
        let signs = Signs::of_another(&self.tunnel);
        let mut problems = remains.running(Some(manager.as_ref()), layout, Some(&signs))?;
        let is_over = problems.is_empty();
        let untold = self.vendor.tell(host, name, &self.whose())?;
        problems.extend(untold.map(|problem| Problem {
            next: "have the data source deleted in the browser".to_owned(),
            ..problem
        }));
        if is_over {
            service::remove_tunnel(manager.as_ref(), host, ui, layout, name)?;
            problems.extend(remains.files(&[manager.tunnel_file(layout, name)]));
            if !is_shared_with_own {
                service::undo_installed(manager.as_ref(), host, ui, layout)?;
            }
        }
        Ok(problems)
    }

    /// With the last tunnel of anybody the service goes, in this run or in the one that goes on from it.
    fn note_what_is_shared(&self, run: &mut Run) -> anyhow::Result<()> {
        run.receipt.init.get_or_insert(self.init);
        run.context(Scope::Host, StepName::Service)
            .record(Change::ServiceInstalled)
    }
}
