//! The new key in the present one's place, and every tunnel up with it.

use std::path::Path;

use anyhow::Context as _;

use super::{CALL_LIMIT, Rotation, created, later, with_public};
use crate::bastion::change::Change;
use crate::bastion::control_plane::{ApiError, is_gone};
use crate::bastion::failure::is_interruption;
use crate::bastion::host::{Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::restart::{self, WaitResult, not_seen, retry, see_it_through};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ssh::{KeyType, keys};
use crate::bastion::steps::{Outcome, PlannedCommand, Step, StepName, service_tunnel};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::Tunnel;

pub(super) struct SwitchKey {
    pub rotation: Rotation,
    pub layout: Layout,
    pub tunnels: Vec<TunnelName>,
    /// What a restart takes, for the person who decides.
    pub commands: Vec<PlannedCommand>,
}

impl Step for SwitchKey {
    fn name(&self) -> StepName {
        StepName::SwitchKey
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        let place = self.layout.private_key(self.rotation.to);
        let place = place.display();
        format!("Put it in place, {place}, and restart the tunnels, one at a time")
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        self.commands.clone()
    }

    fn needs_root(&self) -> bool {
        self.layout.system_authority() == Authority::Root
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        self.switch(work)?;
        let host = work.host();
        let public_key = keys::public_key(host, &self.layout.private_key(self.rotation.to))?;
        for tunnel in &self.tunnels {
            work.run
                .ui
                .progress(&format!("Tunnel {tunnel}: restarting"));
            match self.restart(work, *tunnel, &public_key) {
                Ok(WaitResult::Up) => {}
                Ok(WaitResult::Down) => {
                    return Err(not_seen(host, &self.layout, *tunnel, WaitResult::Down).into());
                }
                Ok(seen) => return Err(later(not_seen(host, &self.layout, *tunnel, seen).into())),
                // An interruption is no reason to go back.
                Err(error) if is_interruption(&error) => return Err(later(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Changed("every tunnel runs with it".to_owned()))
    }
}

impl SwitchKey {
    /// Wherever it dies, it may be repeated, and the old key is not lost.
    fn switch(&self, work: &mut StepContext) -> anyhow::Result<()> {
        let (host, layout) = (work.host(), &self.layout);
        let Rotation { from, to } = self.rotation;
        if !Rotation::is_switched(&work.run.receipt) {
            // Undone last, when the old key is back.
            for tunnel in &self.tunnels {
                work.record(Change::TunnelRestarted { tunnel: *tunnel })?;
            }
            work.record(created(&layout.former_key()))?;
            let key = host
                .read(&layout.private_key(from))
                .context("cannot read the current key")?;
            host.write(&layout.former_key(), &key, 0o600, Authority::User)?;
            if from != to {
                for file in with_public(layout.private_key(to)) {
                    work.record(created(&file))?;
                }
            }
            // From here on what stands in the present key's place may be the new one already.
            work.record(Change::KeySwitched { from })?;
        }
        let key = host
            .read(&layout.next_key())
            .context("cannot read the new key")?;
        put_in_place(host, &layout.private_key(to), &key)?;
        work.run.receipt.key_type = Some(to);
        work.run.save()
    }

    fn restart(
        &self,
        work: &mut StepContext,
        tunnel: TunnelName,
        public_key: &str,
    ) -> anyhow::Result<WaitResult> {
        let host = work.host();
        let client = work.run.client(tunnel)?;
        let key = without_comment(public_key);
        let has_key = |known: &Tunnel| {
            let session = known.session.as_ref();
            session.is_some_and(|session| session.public_key == key)
        };
        match retry(host, CALL_LIMIT, || client.tunnel(host, tunnel)) {
            Ok(known) if has_key(&known) => return Ok(WaitResult::Up),
            Err(error) if is_gone(&error) => return Ok(WaitResult::Up),
            // Nothing is restarted that cannot be seen to come up.
            Err(error) if error.is_transient() => return Ok(WaitResult::Unanswered(error)),
            Err(ApiError::Interrupted(error)) => return Err(error.into()),
            _ => {}
        }
        let manager = work.run.manager()?;
        let definition = service_tunnel::describe(work.run, tunnel, None)?;
        restart::restart(work.run, manager.as_ref(), &definition)?;
        see_it_through(work.run, &client, manager.as_ref(), &definition, has_key)
    }
}

/// Puts the old key back in its place.
pub fn put_back(run: &mut Run, from: KeyType) -> anyhow::Result<()> {
    let (host, place) = (run.host, run.layout.private_key(from));
    // Without it, an earlier run has put it back and was cleaning up.
    let key = host
        .read_if_present(&run.layout.former_key())
        .context("cannot read the old key")?;
    if let Some(key) = key {
        put_in_place(host, &place, &key)?;
    }
    run.receipt.key_type = Some(from);
    run.save()
}

/// Writes a private key and its public half. ssh refuses a private key beside another one's public
/// half, and needs none: so wherever this dies, ssh can use what stands there.
fn put_in_place(host: &dyn Host, place: &Path, key: &[u8]) -> anyhow::Result<()> {
    let file = place.with_extension("pub");
    host.remove_file(&file, Authority::User)?;
    host.write(place, key, 0o600, Authority::User)?;
    let public_key = format!("{}\n", keys::public_key(host, place)?);
    host.write(&file, public_key.as_bytes(), 0o644, Authority::User)
}

/// The form in which the control plane names keys.
fn without_comment(public_key: &str) -> String {
    let words: Vec<&str> = public_key.split_whitespace().take(2).collect();
    words.join(" ")
}
