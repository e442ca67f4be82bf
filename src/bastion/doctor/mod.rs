//! `doctor`: looks at everything a tunnel depends on, from this host to the database, and says for each
//! failure the one thing to do.
//!
//! A check is a name, an outcome and a [`Finding`]; one whose precondition failed is skipped, and says
//! why. Nothing here changes the host or needs root, every wait is bounded, and the control plane and the
//! tunnel server may both be gone. The checks stand in the order of causes, so that the first failure is
//! the first thing to mend.
//!
//! To add one: a function that returns a [`Finding`], and its line in the group it belongs to.

mod anothers;
mod certificate;
pub mod check;
mod control_plane;
mod database;
mod installation;
mod log;
mod login;
mod network;
mod permissions;
pub mod report;
mod system;
mod tunnel_server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use check::{Check, Finding, Outcome, Watcher};
use check::{Checks, Subject};
use control_plane::Known;
use installation::Installation;
use log::Up;
use system::System;

use super::control_plane::Given;
use super::copies::{self, Sign};
use super::facts::Facts;
use super::failure::{Interrupted, OneLine, advice_of};
use super::host::Host;
use super::host::privilege::Privilege;
use super::layout::Layout;
use super::receipt::{Receipt, TunnelRecord};
use super::ssh::ProxyCommand;
use super::ssh::command_line::bracketed;
use super::steps::host_keys;
use super::steps::temporary_tunnel::enrolled_forward;
use crate::bastion::service::InstalledTunnel;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::TunnelStatus;

/// What is examined.
pub struct Target {
    /// What this host is.
    pub facts: Facts,
    /// What was done to it and where; the error where the receipt cannot be read.
    pub installed: anyhow::Result<Option<(Receipt, Layout)>>,
    /// The tunnels that were asked about.
    pub asked: Vec<TunnelName>,
    /// Those of other users among them; root alone is shown these.
    pub others: Vec<InstalledTunnel>,
    /// What this run was given to reach the control planes.
    pub given: Given,
}

impl Target {
    /// Finds out what this host is.
    pub fn new(
        host: &dyn Host,
        privilege: Privilege,
        installed: anyhow::Result<Option<(Receipt, Layout)>>,
        asked: Vec<TunnelName>,
        others: Vec<InstalledTunnel>,
        given: Given,
    ) -> Self {
        Target {
            facts: system::facts(host, privilege),
            installed,
            asked,
            others,
            given,
        }
    }

    fn tunnels(&self) -> Vec<(TunnelName, &TunnelRecord)> {
        let Ok(Some((receipt, _))) = &self.installed else {
            return Vec::new();
        };
        receipt
            .tunnels
            .iter()
            .filter(|(id, _)| self.asked.contains(id))
            .map(|(id, tunnel)| (*id, tunnel))
            .collect()
    }
}

/// The remedy on a copy of a machine.
const TAKE_OFF: &str =
    "on a copy, take the tunnels off it: `holistics-tunnel uninstall-tunnel --all --local-only`";

/// Makes all checks, in the order of causes.
pub fn examine(
    host: &dyn Host,
    watcher: &dyn Watcher,
    target: &Target,
) -> Result<Vec<Check>, Interrupted> {
    let mut checks = Checks::new(host, watcher);
    examine_host(&mut checks, target)?;
    if let Ok(Some((receipt, layout))) = &target.installed {
        let known = examine_control_planes(&mut checks, target)?;
        examine_tunnel_servers(&mut checks, target, receipt, layout, &known)?;
        for (id, tunnel) in target.tunnels() {
            let installation = Installation {
                facts: &target.facts,
                receipt,
                layout,
                id,
                tunnel,
            };
            examine_tunnel(&mut checks, &installation, known.get(&id))?;
        }
    }
    let layout = Layout::new(host, Path::new("/"));
    for tunnel in &target.others {
        anothers::examine(&mut checks, tunnel, &layout, target.facts.init)?;
    }
    Ok(checks.into_results())
}

fn examine_host(checks: &mut Checks, target: &Target) -> Result<(), Interrupted> {
    let installed = target.installed.as_ref().ok().and_then(Option::as_ref);
    let has_others = !target.others.is_empty();
    let system = System {
        facts: &target.facts,
        init: installed
            .and_then(|(receipt, _)| receipt.init)
            .or(has_others.then_some(target.facts.init)),
        key_type: installed.and_then(|(receipt, _)| receipt.key_type),
        has_tunnels: has_others || !target.tunnels().is_empty(),
        folders: folders(checks.host, installed.map(|(_, layout)| layout)),
    };
    system::examine(checks, &system)?;
    let subject = Subject::shared("This host");
    if let Some((receipt, _)) = installed {
        checks.run("original", &subject, "", |host| original(host, receipt))?;
    }
    checks.run("receipt", &subject, "", |_| match &target.installed {
        Ok(None) => Finding::skip("this user has no tunnels on this host"),
        Ok(Some((receipt, _))) => Finding::pass(match receipt.tunnels.len() {
            1 => "it holds 1 tunnel".to_owned(),
            count => format!("it holds {count} tunnels"),
        }),
        Err(error) => Finding::fail(
            OneLine(error).to_string(),
            advice_of(error).unwrap_or("make the receipt readable for this user"),
        ),
    })?;
    checks.run("permissions", &subject, "", |host| match installed {
        Some((receipt, layout)) => permissions::examine(host, layout, receipt),
        None => Finding::skip("there is nothing to check"),
    })?;
    Ok(())
}

fn folders(host: &dyn Host, layout: Option<&Layout>) -> Vec<PathBuf> {
    let system = |relative: &str| match layout {
        Some(layout) => layout.system(relative),
        None => Path::new("/").join(relative),
    };
    vec![
        host.user().home.clone(),
        system("etc"),
        PathBuf::from("/var/log"),
    ]
}

/// Each control plane once, and what it says of each tunnel.
fn examine_control_planes(
    checks: &mut Checks,
    target: &Target,
) -> Result<BTreeMap<TunnelName, Known>, Interrupted> {
    let mut by_address: BTreeMap<&str, Vec<(TunnelName, &TunnelRecord)>> = BTreeMap::new();
    for (id, tunnel) in target.tunnels() {
        let address = tunnel.control_plane.as_str();
        by_address.entry(address).or_default().push((id, tunnel));
    }
    let mut known = BTreeMap::new();
    for tunnels in by_address.values() {
        let Some((name, first)) = tunnels.first() else {
            continue;
        };
        let seen = control_plane::examine(checks, *name, first, &target.given)?;
        for (id, tunnel) in tunnels {
            let answer = seen.examine_tunnel(checks, *id, tunnel, &target.given)?;
            seen.examine_host_keys(checks, *id, tunnel, &answer)?;
            known.insert(*id, answer);
        }
    }
    Ok(known)
}

/// Each tunnel server once for each way to it: all tunnels share this host's key.
fn examine_tunnel_servers(
    checks: &mut Checks,
    target: &Target,
    receipt: &Receipt,
    layout: &Layout,
    known: &BTreeMap<TunnelName, Known>,
) -> Result<(), Interrupted> {
    type Address<'a> = (&'a str, u16, Option<&'a ProxyCommand>);
    let mut by_address: BTreeMap<Address, Vec<TunnelName>> = BTreeMap::new();
    for (id, tunnel) in target.tunnels() {
        if let Some(enrolled) = &tunnel.enrolled {
            let (server, way) = (&enrolled.server, tunnel.proxy_command.as_ref());
            let address = (server.host.as_str(), server.port, way);
            by_address.entry(address).or_default().push(id);
        }
    }
    for tunnels in by_address.values() {
        // The last one's keys are the ones that are pinned.
        let Some((id, tunnel, enrolled)) = tunnels.last().and_then(|id| {
            let tunnel = receipt.tunnels.get(id)?;
            Some((*id, tunnel, tunnel.enrolled.as_ref()?))
        }) else {
            continue;
        };
        let Ok(forward) = enrolled_forward(checks.host, receipt, layout, id) else {
            continue;
        };
        let all_gone = tunnels
            .iter()
            .all(|id| matches!(known.get(id), Some(Known::Gone)));
        let revoked =
            all_gone.then_some("the tunnel was removed in the browser, and its key with it");
        let kept = tunnel.reach.proxy.as_deref();
        let announced = tunnels.iter().copied().find(|id| {
            let tunnel = receipt.tunnels.get(id);
            matches!((tunnel, known.get(id)), (Some(tunnel), Some(Known::Tunnel(answer)))
                if host_keys::lacks(tunnel, answer))
        });
        tunnel_server::examine(checks, &enrolled.server, &forward, kept, revoked, announced)?;
    }
    Ok(())
}

/// Whether these tunnels are this machine's own.
fn original(host: &dyn Host, receipt: &Receipt) -> Finding {
    match copies::original(host, receipt) {
        None => Finding::pass("it is the one that set the tunnels up"),
        Some(original) => Finding::fail(Sign::CopyOf(original).to_string(), TAKE_OFF),
    }
}

fn examine_tunnel(
    checks: &mut Checks,
    installation: &Installation,
    known: Option<&Known>,
) -> Result<(), Interrupted> {
    let Installation { id, tunnel, .. } = installation;
    let subject = Subject::shared(format!("Tunnel {id} {:?}", tunnel.display_name)).of(*id);
    let (up, why_unknown) = match known {
        Some(Known::Tunnel(answer)) if answer.status == TunnelStatus::Up => {
            let Installation {
                layout, receipt, ..
            } = installation;
            match copies::is_held_elsewhere(checks.host, layout, receipt, *id) {
                Ok(true) => (Up::Elsewhere, ""),
                // A service manager that does not answer fails a check of its own.
                Ok(false) | Err(_) => (Up::Yes, ""),
            }
        }
        Some(Known::Tunnel(_)) => (Up::No, ""),
        Some(Known::Gone) => (Up::Unknown, "it was removed in the browser"),
        Some(Known::Unknown(reason)) => (Up::Unknown, reason.as_str()),
        None => (Up::Unknown, "the control plane was not asked"),
    };
    installation.examine(checks, &subject, up, why_unknown)?;
    checks.run("target", &subject, "", |_| target(*id, tunnel, known))?;
    let kind = match known {
        Some(Known::Tunnel(answer)) => answer.database_type.or(tunnel.database_type),
        _ => tunnel.database_type,
    };
    let (name, port) = (tunnel.target_host.as_str(), tunnel.target_port);
    database::examine(checks, &subject, name, port, kind)
}

/// Whether the tunnel leads to where the browser says.
fn target(id: TunnelName, tunnel: &TunnelRecord, known: Option<&Known>) -> Finding {
    let here = format!("{}:{}", bracketed(&tunnel.target_host), tunnel.target_port);
    let Some(Known::Tunnel(answer)) = known else {
        return Finding::skip(format!("it points to {here}; the browser was not asked"));
    };
    let there = format!("{}:{}", bracketed(&answer.host), answer.port);
    if here == there {
        return Finding::pass(format!("it points to {here}, as in the browser"));
    }
    Finding::fail(
        format!("the tunnel points to {here}, but the data source says {there}"),
        format!("run `holistics-tunnel update-tunnel {id}`"),
    )
}

#[cfg(test)]
mod tests;
