//! A new key pair for all tunnels of this user.
//!
//! The new pair is made beside the present one and announced for every tunnel, so that both open it.
//! Then it takes the present one's place by one rename, and the tunnels are restarted one after another.
//! Only when each has come up with the new key is the old one ended, on the tunnel server and here.
//! Wherever a run dies, the key that stands on this host opens every tunnel, and the next run goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::{Outcome, Step, StepName, service_tunnel};
use crate::bastion::change::Change;
use crate::bastion::control_plane::{ApiError, is_gone};
use crate::bastion::failure::{Exit, Failure, is_interruption};
use crate::bastion::host::{Authority, CommandError, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::restart::{self, UP_TIMEOUT, WaitResult, not_seen, retry, wait_until_up};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ssh::{KeyType, keys};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::Tunnel;

/// How long a control plane that is away may hold up a single call.
const CALL_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    pub from: KeyType,
    pub to: KeyType,
}

impl Rotation {
    /// The one that is under way.
    pub fn begun(receipt: &Receipt) -> Option<Self> {
        let changes = receipt
            .steps(Scope::Host)
            .iter()
            .flat_map(|step| &step.changes);
        changes.into_iter().find_map(|change| match change {
            Change::KeyRotation { from, to } => Some(Rotation {
                from: *from,
                to: *to,
            }),
            _ => None,
        })
    }

    /// Whether the new key is in the present one's place.
    fn is_switched(receipt: &Receipt) -> bool {
        let mut changes = receipt
            .steps(Scope::Host)
            .iter()
            .flat_map(|step| &step.changes);
        changes.any(|change| matches!(change, Change::KeySwitched { .. }))
    }

    /// Whether every tunnel has come up with the new key.
    fn is_proved(receipt: &Receipt) -> bool {
        let mut steps = receipt.steps(Scope::Host).iter();
        steps.any(|record| record.step == StepName::RetireKey)
    }
}

/// Refuses what would meet a change of the key pair half-way.
pub fn refuse_unfinished(receipt: &Receipt) -> anyhow::Result<()> {
    anyhow::ensure!(
        Rotation::begun(receipt).is_none(),
        Failure::new(
            "a key rotation is not finished",
            "finish it with `holistics-tunnel rotate-key`, then run the same command again",
        )
    );
    Ok(())
}

/// The steps of a change that are still to be taken.
pub fn steps(
    rotation: Rotation,
    tunnels: &[TunnelName],
    receipt: &Receipt,
    layout: &Layout,
    comment: &str,
    restarts: Vec<String>,
) -> Vec<Box<dyn Step>> {
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    if !Rotation::is_proved(receipt) {
        steps.push(Box::new(NewKey {
            rotation,
            layout: layout.clone(),
            tunnels: tunnels.to_vec(),
            comment: comment.to_owned(),
        }));
        steps.push(Box::new(SwitchKey {
            rotation,
            layout: layout.clone(),
            tunnels: tunnels.to_vec(),
            commands: restarts,
        }));
    }
    steps.push(Box::new(RetireKey {
        rotation,
        layout: layout.clone(),
        tunnels: tunnels.to_vec(),
    }));
    steps
}

/// The new pair, made and announced.
struct NewKey {
    rotation: Rotation,
    layout: Layout,
    tunnels: Vec<TunnelName>,
    /// Stands in the public key, for people: `user@host`.
    comment: String,
}

impl Step for NewKey {
    fn name(&self) -> StepName {
        StepName::NewKey
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        "Make a new key pair and register it beside the current one".to_owned()
    }

    fn commands(&self) -> Vec<String> {
        let next = self.layout.next_key();
        vec![keys::keygen(self.rotation.to, &next, &self.comment).to_string()]
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
        self.announce(work).map_err(|error| match is_switched {
            true => later(error),
            false => error,
        })?;
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

    fn announce(&self, work: &mut StepContext) -> anyhow::Result<()> {
        work.record(Change::KeyAnnounced)?;
        let host = work.host();
        let public_key = keys::public_key(host, &self.layout.next_key())?;
        for tunnel in &self.tunnels {
            let client = work.run.client(*tunnel)?;
            let call = || client.announce_key(host, *tunnel, &public_key);
            match retry(host, CALL_LIMIT, call) {
                Ok(_) => {}
                Err(error) if is_gone(&error) => work.run.ui.note(&format!(
                    "Tunnel {tunnel} was deleted in the browser; skipping it."
                )),
                Err(error) => return Err(error.with_advice()),
            }
        }
        Ok(())
    }
}

/// The new key in the present one's place, and every tunnel up with it.
struct SwitchKey {
    rotation: Rotation,
    layout: Layout,
    tunnels: Vec<TunnelName>,
    /// What a restart takes, for the person who decides.
    commands: Vec<String>,
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

    fn commands(&self) -> Vec<String> {
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
        wait_until_up(host, &client, manager.as_ref(), tunnel, UP_TIMEOUT, has_key)
    }
}

/// The end of the old key, on the tunnel server and here.
struct RetireKey {
    rotation: Rotation,
    layout: Layout,
    tunnels: Vec<TunnelName>,
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

/// It stops where the next run goes on; until then both keys open every tunnel.
fn later(error: anyhow::Error) -> anyhow::Error {
    error.context(Failure {
        exit: Exit::Partly,
        ..Failure::new(
            "the key rotation is not finished; both keys are accepted until it is, and the tunnels keep running",
            "run `holistics-tunnel rotate-key` again to finish it",
        )
    })
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

fn created(path: &Path) -> Change {
    Change::FileCreated {
        path: path.to_owned(),
        authority: Authority::User,
    }
}

/// A private key and its public half.
fn with_public(private_key: PathBuf) -> [PathBuf; 2] {
    let public_key = private_key.with_extension("pub");
    [private_key, public_key]
}

/// The form in which the control plane names keys.
fn without_comment(public_key: &str) -> String {
    let words: Vec<&str> = public_key.split_whitespace().take(2).collect();
    words.join(" ")
}
