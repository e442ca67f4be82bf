//! Tunnels of a former version get their present name: their control plane and their number.
//!
//! Each is away for a reconnect. Until it has happened everything works by the former name, so that only
//! what changes this host anyway does it, and a removal goes without.

use super::{Outcome, Step, StepName, enrollment, service_tunnel};
use crate::bastion::host::Authority;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::service::ServiceManager;
use crate::bastion::tunnel_name::TunnelName;

struct Rename {
    layout: Layout,
    from: TunnelName,
    to: TunnelName,
    /// What the service manager is told, for the person who decides.
    commands: Vec<String>,
}

/// The steps for all tunnels of a receipt.
pub fn steps(receipt: &Receipt, layout: &Layout) -> anyhow::Result<Vec<Box<dyn Step>>> {
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    for from in receipt.tunnels.keys().filter(|name| name.is_former()) {
        let to = receipt.lasting_name(*from);
        steps.push(Box::new(Rename {
            layout: layout.clone(),
            from: *from,
            to,
            commands: super::target::commands(receipt.init, layout, to)?,
        }));
    }
    Ok(steps)
}

/// Gives every tunnel of this user its present name.
///
/// # Errors
/// The step that failed; the tunnels go on by their former names.
pub fn carry_out(run: &mut Run) -> anyhow::Result<()> {
    let steps = steps(&run.receipt, &run.layout)?;
    run.carry_out(&steps, None)?;
    Ok(())
}

impl Step for Rename {
    fn name(&self) -> StepName {
        StepName::Rename
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        format!(
            "Restart tunnel {} under its permanent name, {}",
            self.from,
            self.to.slug()
        )
    }

    fn commands(&self) -> Vec<String> {
        self.commands.clone()
    }

    fn needs_root(&self) -> bool {
        !self.commands.is_empty() && self.layout.system_authority() == Authority::Root
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let run = &mut *work.run;
        let (from, to) = (self.from, self.to);
        let is_run = run
            .receipt
            .is_done(Scope::Tunnel(from), StepName::ServiceTunnel);
        if let Some(record) = run.receipt.tunnels.get(&from).cloned() {
            let entry = run.receipt.tunnels.entry(to);
            let entry = entry.or_insert(record);
            entry
                .steps
                .retain(|record| record.step != StepName::ServiceTunnel);
        }
        run.save()?;
        enrollment::write_known_hosts(run)?;
        if is_run {
            let manager = run.manager()?;
            if let Err(error) = restart(run, manager.as_ref(), from, to) {
                run.receipt.tunnels.remove(&to);
                run.save()?;
                return Err(error);
            }
            run.mark_done(Scope::Tunnel(to), StepName::ServiceTunnel)?;
        }
        run.drop_tunnel(from)?;
        enrollment::write_known_hosts(run)?;
        Ok(Outcome::Changed(to.slug()))
    }
}

fn restart(
    run: &mut Run,
    manager: &dyn ServiceManager,
    from: TunnelName,
    to: TunnelName,
) -> anyhow::Result<()> {
    let definition = service_tunnel::describe(run, to, None)?;
    let scope = Scope::Tunnel(to);
    let mut work = run.context(scope, StepName::ServiceTunnel);
    if let Err(error) = manager.rename(&mut work, from, &definition) {
        // Its files are there until the new ones have taken over.
        manager.restart_one(run.host, &run.layout, from)?;
        return Err(error);
    }
    Ok(())
}
