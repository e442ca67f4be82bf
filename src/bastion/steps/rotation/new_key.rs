//! The new pair, made beside the present one and announced to the control planes.

use anyhow::Context as _;

use super::{CALL_LIMIT, Rotation, created, later, with_public};
use crate::bastion::change::Change;
use crate::bastion::control_plane::is_gone;
use crate::bastion::host::{Authority, CommandError, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::restart::retry;
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ssh::{Forward, keys, proof};
use crate::bastion::steps::temporary_tunnel::enrolled_forward;
use crate::bastion::steps::{Outcome, PlannedCommand, Proofs, Step, StepName, system_files};
use crate::bastion::tunnel_name::TunnelName;

pub(super) struct NewKey {
    pub rotation: Rotation,
    pub layout: Layout,
    pub tunnels: Vec<TunnelName>,
    /// Stands in the public key, for people: `user@host`.
    pub comment: String,
}

impl Step for NewKey {
    fn name(&self) -> StepName {
        StepName::NewKey
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        "Make a new key pair, register it beside the current one, and log in with it".to_owned()
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        let next = self.layout.next_key();
        vec![keys::keygen(self.rotation.to, &next, &self.comment).into()]
    }

    /// The pair, the old one beside it, and the new one in its place.
    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        keys::prove(host, self.rotation.to)?;
        let layout = &self.layout;
        let keys = [
            layout.next_key(),
            layout.former_key(),
            layout.private_key(self.rotation.to),
        ];
        system_files::prove_writable(host, keys, Authority::User, proofs)
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let Rotation { from, to } = self.rotation;
        work.record(Change::KeyRotation { from, to })?;
        self.make_pair(work)?;
        // Once the new key is in its place, the present one is only a way back.
        let is_switched = Rotation::is_switched(&work.run.receipt);
        let announced = self.announce(work);
        if is_switched {
            announced.map_err(later)?;
        } else {
            announced?;
        }
        Ok(Outcome::Changed("both keys are accepted".to_owned()))
    }
}

impl NewKey {
    fn make_pair(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let host = work.host();
        let next = self.layout.next_key();
        for file in with_public(next.clone()) {
            work.record(created(&file))?;
        }
        let is_made = || host.exists(&next) && keys::public_key(host, &next).is_ok();
        if is_made() {
            return Ok(());
        }
        // What a run that died in ssh-keygen has left is no key, and was announced to nobody.
        for file in with_public(next.clone()) {
            host.remove_file(&file, Authority::User)?;
        }
        match host.expect(&keys::keygen(self.rotation.to, &next, &self.comment)) {
            // The ssh-keygen of a run that was killed goes on alone, and was quicker.
            Err(CommandError::Status { .. }) if is_made() => Ok(()),
            made => made.map(drop).map_err(Into::into),
        }
    }

    /// No tunnel is restarted with a key that does not open it. One that runs with it already needs no proof.
    fn prove_login(&self, run: &Run, tunnel: TunnelName) -> anyhow::Result<()> {
        if Rotation::is_switched(&run.receipt) {
            return Ok(());
        }
        let forward = Forward {
            private_key: self.layout.next_key(),
            ..enrolled_forward(run.host, &run.receipt, &self.layout, tunnel)?
        };
        proof::prove_login(run.host, &forward).with_context(|| format!("tunnel {tunnel}"))
    }

    fn announce(&self, work: &mut StepContext) -> anyhow::Result<()> {
        work.record(Change::KeyAnnounced)?;
        let host = work.host();
        let public_key = keys::public_key(host, &self.layout.next_key())?;
        for tunnel in &self.tunnels {
            let client = work.run.client(*tunnel)?;
            let call = || client.announce_key(host, *tunnel, &public_key);
            match retry(host, CALL_LIMIT, call) {
                Ok(_) => self.prove_login(work.run, *tunnel)?,
                Err(error) if is_gone(&error) => work.run.ui.note(&format!(
                    "Tunnel {tunnel} was deleted in the browser; skipping it."
                )),
                Err(error) => return Err(error.with_advice()),
            }
        }
        Ok(())
    }
}

/// Has the control planes forget a new key that is not to be used: the present one takes its place. One
/// that cannot be told does no harm: that key is removed here, and the next announcement replaces it.
pub fn announce_present(run: &Run) -> anyhow::Result<()> {
    let key_type = run
        .receipt
        .key_type
        .context("the receipt names no key pair")?;
    let public_key = keys::public_key(run.host, &run.layout.private_key(key_type))?;
    for tunnel in run.receipt.tunnels.keys() {
        let Ok(client) = run.client(*tunnel) else {
            continue;
        };
        let call = || client.announce_key(run.host, *tunnel, &public_key);
        match retry(run.host, CALL_LIMIT, call) {
            Err(error) if !is_gone(&error) => run.ui.note(&format!("tunnel {tunnel}: {error}")),
            _ => {}
        }
    }
    Ok(())
}
