//! The tunnel server's host keys as the control plane announces them, in place of those that were pinned: a
//! vendor announces its next key some time before it shows it.
//!
//! What is pinned stays so whatever becomes of the steps after it, since the control plane says what holds.

use std::time::Duration;

use anyhow::Context as _;

use super::enrollment::write_known_hosts;
use super::{Outcome, PlannedCommand, Step, StepName, place};
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{EnrolledRecord, Receipt, Scope, TunnelRecord};
use crate::bastion::restart::retry;
use crate::bastion::run::StepContext;
use crate::bastion::ssh::vetting;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{Tunnel, TunnelChange};

/// How long the control plane may take to take note.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

pub struct HostKeys {
    layout: Layout,
    tunnel: TunnelName,
    announced: Vec<String>,
    /// Whether those of the servers from which it has moved are not needed any more.
    has_arrived: bool,
}

/// The steps for those of these tunnels whose control plane announces other keys than are pinned, or which have come to
/// where they were to move.
pub fn steps<'k>(
    receipt: &Receipt,
    layout: &Layout,
    known: impl IntoIterator<Item = (TunnelName, &'k Tunnel)>,
) -> anyhow::Result<Vec<Box<dyn Step>>> {
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    for (tunnel, known) in known {
        let Some(record) = receipt.tunnels.get(&tunnel) else {
            continue;
        };
        let announced = announced(record, known);
        let has_arrived = place::has_arrived(record, known);
        if !is_other(record, announced) && !has_arrived {
            continue;
        }
        vetting::check_host_keys(announced)?;
        steps.push(Box::new(HostKeys {
            layout: layout.clone(),
            tunnel: receipt.lasting_name(tunnel),
            announced: announced.to_vec(),
            has_arrived,
        }));
    }
    Ok(steps)
}

/// Whether these keys are announced, by a server that does, and others are pinned.
fn is_other(tunnel: &TunnelRecord, announced: &[String]) -> bool {
    !announced.is_empty() && pinned(tunnel).is_some_and(|pinned| pinned != announced)
}

/// What is announced for the server to which the tunnel leads by its receipt: the one where it is to be, or else the one
/// where it was, from which it has not moved yet.
fn announced<'k>(tunnel: &TunnelRecord, known: &'k Tunnel) -> &'k [String] {
    let place = known.place.as_ref();
    match place.filter(|place| place::is_there(tunnel, place)) {
        Some(place) => &place.server.host_keys,
        None => &known.host_keys,
    }
}

/// Whether one of the announced keys is not pinned.
pub fn lacks(tunnel: &TunnelRecord, known: &Tunnel) -> bool {
    let announced = announced(tunnel, known);
    pinned(tunnel).is_some_and(|pinned| announced.iter().any(|key| !pinned.contains(key)))
}

/// What is pinned for a tunnel, to be told to a control plane that asks: one that announces keys.
pub fn told_to(tunnel: Option<&TunnelRecord>, known: &Tunnel) -> Option<Vec<String>> {
    let pinned = pinned(tunnel?).filter(|_| !known.host_keys.is_empty());
    pinned.map(<[String]>::to_vec)
}

fn pinned(tunnel: &TunnelRecord) -> Option<&[String]> {
    let enrolled = tunnel.enrolled.as_ref()?;
    Some(&enrolled.server.host_keys)
}

impl Step for HostKeys {
    fn name(&self) -> StepName {
        StepName::HostKeys
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        format!(
            "Pin the host keys that the control plane announces for tunnel {}",
            self.tunnel
        )
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        vec![format!("write {}", self.layout.known_hosts().display()).into()]
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let former = self.put_in_receipt(work)?;
        // The file first: a run that dies here does it again, since the receipt still has the former ones.
        if let Err(error) = write_known_hosts(work.run, None).and_then(|()| work.run.save()) {
            *self.enrolled(work)? = former;
            return Err(error);
        }
        let client = work.run.client(self.tunnel)?;
        let change = TunnelChange {
            host_keys: Some(self.announced.clone()),
            ..TunnelChange::default()
        };
        let told = retry(work.host(), REPORT_TIMEOUT, || {
            client.change_tunnel(work.host(), self.tunnel, &change)
        });
        match told {
            Ok(_) => Ok(Outcome::Changed(format!("{} keys", self.announced.len()))),
            Err(error) => Err(Failure {
                exit: Exit::Partly,
                ..Failure::new(
                    format!(
                        "the host keys of tunnel {} are pinned, but the control plane could not be told",
                        self.tunnel
                    ),
                    "run the same command again once it can be reached",
                )
            }
            .because(error)
            .into()),
        }
    }
}

impl HostKeys {
    /// Returns what stood there.
    fn put_in_receipt(&self, work: &mut StepContext) -> anyhow::Result<EnrolledRecord> {
        let enrolled = self.enrolled(work)?;
        let former = enrolled.clone();
        enrolled.server.host_keys.clone_from(&self.announced);
        if self.has_arrived {
            enrolled.former_servers.clear();
        }
        Ok(former)
    }

    fn enrolled<'w>(&self, work: &'w mut StepContext) -> anyhow::Result<&'w mut EnrolledRecord> {
        let tunnel = work.run.receipt.tunnels.get_mut(&self.tunnel);
        let enrolled = tunnel.and_then(|tunnel| tunnel.enrolled.as_mut());
        enrolled.context("the tunnel is not enrolled")
    }
}
