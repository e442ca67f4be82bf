//! A new key pair for all tunnels of this user.
//!
//! The new pair is made beside the present one and announced for every tunnel, so that both open it.
//! Then it takes the present one's place by one rename, and the tunnels are restarted one after another.
//! Only when each has come up with the new key is the old one ended, on the tunnel server and here.
//! Wherever a run dies, the key that stands on this host opens every tunnel, and the next run goes on.

mod new_key;
mod retire_key;
mod switch_key;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use new_key::announce_present;
pub use switch_key::put_back;

use new_key::NewKey;
use retire_key::RetireKey;
use switch_key::SwitchKey;

use super::{PlannedCommand, Step, StepName};
use crate::bastion::change::Change;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::Authority;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::ssh::KeyType;
use crate::bastion::tunnel_name::TunnelName;

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
        changes(receipt).find_map(|change| match *change {
            Change::KeyRotation { from, to } => Some(Rotation { from, to }),
            _ => None,
        })
    }

    /// Whether the new key is in the present one's place.
    fn is_switched(receipt: &Receipt) -> bool {
        changes(receipt).any(|change| matches!(change, Change::KeySwitched { .. }))
    }

    /// Whether every tunnel has come up with the new key.
    fn is_proved(receipt: &Receipt) -> bool {
        let mut steps = receipt.steps(Scope::Host).iter();
        steps.any(|record| record.step == StepName::RetireKey)
    }
}

fn changes(receipt: &Receipt) -> impl Iterator<Item = &Change> {
    let steps = receipt.steps(Scope::Host).iter();
    steps.flat_map(|step| &step.changes)
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
    restarts: Vec<PlannedCommand>,
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
