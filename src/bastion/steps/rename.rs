//! Tunnels of a former version get their present name: their control plane and their number.
//!
//! Each is away for a reconnect. Until it has happened everything works by the former name, so that only
//! what changes this host anyway does it, and a removal goes without.

use super::{Outcome, PlannedCommand, Step, StepName, enrollment, service_tunnel};
use crate::bastion::change::Change;
use crate::bastion::host::Authority;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::restart::{WaitResult, not_seen, see_it_through};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::service::AtBoot;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::Tunnel;

struct Rename {
    layout: Layout,
    from: TunnelName,
    to: TunnelName,
    /// What the service manager is told, for the person who decides.
    commands: Vec<PlannedCommand>,
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
            commands: super::target::commands(receipt.init, layout, to, AtBoot::WithTheService)?,
        }));
    }
    Ok(steps)
}

/// Gives every tunnel of this user its present name. Each stands for itself: what comes after it does not
/// take it back.
///
/// # Errors
/// The step that failed; that tunnel goes on by its former name.
pub fn carry_out(run: &mut Run) -> anyhow::Result<()> {
    for step in steps(&run.receipt, &run.layout)? {
        run.without_going_back_on(|run| {
            run.carry_out(std::slice::from_ref(&step), None)?;
            Ok(())
        })?;
    }
    Ok(())
}

impl Step for Rename {
    fn name(&self) -> StepName {
        StepName::Rename
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.from)
    }

    fn summary(&self) -> String {
        format!(
            "Restart tunnel {} under its permanent name, {}",
            self.from,
            self.to.slug()
        )
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        self.commands.clone()
    }

    fn needs_root(&self) -> bool {
        !self.commands.is_empty() && self.layout.system_authority() == Authority::Root
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let from = Scope::Tunnel(self.from);
        if work.run.receipt.is_done(from, StepName::ServiceTunnel) {
            self.take_over(work)?;
        }
        self.rename_in_receipt(work.run)?;
        Ok(Outcome::Changed(self.to.slug()))
    }
}

impl Rename {
    /// Lets the service run the tunnel under its new name.
    fn take_over(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let (host, layout) = (work.host(), &self.layout);
        let manager = work.run.manager()?;
        let mut definition = service_tunnel::describe(work.run, self.from, None)?;
        definition.id = self.to;
        definition.log = layout.tunnel_log(self.to);
        definition.forward.host_key_alias = self.to.host_key_alias();
        let client = work.run.client(self.from)?;
        let known = client.tunnel(host, self.from);
        let former = known.ok().and_then(|known| known.session);

        let tunnel = work.run.receipt.tunnels.get(&self.from);
        let server = tunnel.and_then(|tunnel| Some(&tunnel.enrolled.as_ref()?.server));
        enrollment::write_known_hosts(work.run, server.map(|server| (self.to, server)))?;
        manager.rename(work, self.from, &definition)?;
        // One that was up has to be up again before the next one is touched.
        if former.is_some() {
            let is_new = |known: &Tunnel| known.session != former;
            let manager = manager.as_ref();
            match see_it_through(work.run, &client, manager, &definition, is_new)? {
                WaitResult::Up | WaitResult::Unanswered(_) => {}
                seen => return Err(not_seen(host, layout, self.to, seen).into()),
            }
        }
        let lock = manager.lock(host, work.run.ui, layout)?;
        manager.remove_files(&lock, host, layout, self.from)
    }

    /// The receipt has the tunnel by one name at any time.
    fn rename_in_receipt(&self, run: &mut Run) -> anyhow::Result<()> {
        let former = run.receipt.clone();
        if let Some(mut tunnel) = run.receipt.tunnels.remove(&self.from) {
            let renamed = tunnel
                .steps
                .iter()
                .find(|step| step.step == StepName::Rename);
            let mut changes = renamed.map_or_else(Vec::new, |step| step.changes.clone());
            changes.retain(|change| !matches!(change, Change::TunnelRenamed { .. }));
            changes.push(Change::ServiceTunnelStarted);
            tunnel.steps.retain(|step| step.step != StepName::Rename);
            let service = tunnel.steps.iter_mut();
            for step in service.filter(|step| step.step == StepName::ServiceTunnel) {
                step.changes.clone_from(&changes);
            }
            run.receipt.tunnels.insert(self.to, tunnel);
        }
        let written = enrollment::write_known_hosts(run, None).and_then(|()| run.save());
        if written.is_err() {
            run.receipt = former;
        }
        written
    }
}
