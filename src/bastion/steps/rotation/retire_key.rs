//! The end of the old key, on the tunnel server and here.

use super::{CALL_LIMIT, Rotation, created, later, with_public};
use crate::bastion::change::Change;
use crate::bastion::control_plane::is_gone;
use crate::bastion::host::Authority;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::restart::retry;
use crate::bastion::run::StepContext;
use crate::bastion::ssh::keys;
use crate::bastion::steps::{Outcome, Step, StepName};
use crate::bastion::tunnel_name::TunnelName;

pub(super) struct RetireKey {
    pub rotation: Rotation,
    pub layout: Layout,
    pub tunnels: Vec<TunnelName>,
}

impl Step for RetireKey {
    fn name(&self) -> StepName {
        StepName::RetireKey
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        "Revoke the old key and delete it".to_owned()
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        self.retire(work).map_err(later)?;
        let place = self.layout.private_key(self.rotation.to);
        Ok(Outcome::Changed(format!("{} alone", place.display())))
    }
}

impl RetireKey {
    fn retire(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let (host, layout) = (work.host(), &self.layout);
        let Rotation { from, to } = self.rotation;
        let public_key = keys::public_key(host, &layout.private_key(to))?;
        for tunnel in &self.tunnels {
            let client = work.run.client(*tunnel)?;
            let call = || client.confirm_key(host, *tunnel, &public_key);
            match retry(host, CALL_LIMIT, call) {
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.with_advice()),
            }
        }
        let mut old = vec![layout.former_key()];
        old.extend(with_public(layout.next_key()));
        if from != to {
            old.extend(with_public(layout.private_key(from)));
        }
        for file in &old {
            host.remove_file(file, Authority::User)?;
        }
        // The pair that goes with the last tunnel is the new one.
        let gone: Vec<Change> = old.iter().map(|file| created(file)).collect();
        work.run.forget(Scope::Host, StepName::KeyPair, &gone)?;
        for file in with_public(layout.private_key(to)) {
            work.run
                .context(Scope::Host, StepName::KeyPair)
                .record(created(&file))?;
        }
        work.run.mark_done(Scope::Host, StepName::KeyPair)?;
        // There is nothing to go back to any more.
        for step in [StepName::NewKey, StepName::SwitchKey] {
            let changes = work.run.changes_of(Scope::Host, step);
            work.run.forget(Scope::Host, step, &changes)?;
        }
        Ok(())
    }
}
