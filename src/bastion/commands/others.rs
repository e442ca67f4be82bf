//! What root sees and removes of other users' tunnels.
//!
//! It is taken from files that root alone can have written. A user's own receipt is read for the token by
//! which the vendor is told, and for nothing else: root does not do what a user's file says.

use std::path::Path;

use serde_json::json;

use super::questions;
use crate::bastion::cli::UninstallTunnel;
use crate::bastion::control_plane::ControlPlane;
use crate::bastion::facts::{self, Init};
use crate::bastion::failure::{Exit, Failure, OneLine};
use crate::bastion::host::{Host, HostExt as _, Kind};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, TunnelRecord};
use crate::bastion::service::{self, InstalledTunnel, ServiceManager, ServiceState};
use crate::bastion::ui::Ui;

/// The tunnels of this host that are not the caller's own; root alone is shown them.
pub fn tunnels(host: &dyn Host) -> anyhow::Result<Vec<InstalledTunnel>> {
    if host.user().uid != 0 || facts::init_of(host) == Init::None {
        return Ok(Vec::new());
    }
    let mut tunnels = manager(host)?.installed(host, &layout(host))?;
    tunnels.retain(|tunnel| tunnel.user != host.user().name);
    Ok(tunnels)
}

/// Those that a removal means.
pub fn meant(host: &dyn Host, command: &UninstallTunnel) -> anyhow::Result<Vec<InstalledTunnel>> {
    let caller = host.user().sudo_user.clone();
    let mut tunnels = tunnels(host)?;
    // Whoever came through sudo removes their own tunnels as themselves.
    tunnels.retain(|tunnel| Some(&tunnel.user) != caller.as_ref());
    if !command.all {
        tunnels.retain(|tunnel| tunnel.name.number() == command.id);
    }
    Ok(tunnels)
}

/// Whether the service runs it.
pub fn state(host: &dyn Host, tunnel: &InstalledTunnel) -> anyhow::Result<ServiceState> {
    manager(host)?.status(host, &layout(host), tunnel.name)
}

/// Removes tunnels of other users from the service, and tells their vendors.
///
/// # Errors
/// It was not confirmed, or the host refuses.
pub fn remove(
    host: &dyn Host,
    ui: &Ui,
    command: &UninstallTunnel,
    tunnels: &[InstalledTunnel],
) -> anyhow::Result<Exit> {
    let names: Vec<String> = tunnels
        .iter()
        .map(|tunnel| format!("{} of {} ({})", tunnel.name, tunnel.user, tunnel.target))
        .collect();
    let question = format!("Remove tunnel {}?", names.join(", "));
    if !command.yes {
        let unasked = Failure::usage(
            "cannot confirm the removal without a terminal",
            "pass --yes to remove without asking; nothing was changed",
        );
        questions::require_yes(host.yes_or_no(&question, false)?, unasked)?;
    }
    let (manager, layout) = (manager(host)?, layout(host));
    let mut summary = Vec::new();
    let mut exit = Exit::Done;
    for tunnel in tunnels {
        manager.stop(host, &layout, tunnel.name)?;
        service::remove_tunnel(manager.as_ref(), host, ui, &layout, tunnel.name)?;
        summary.push(format!(
            "Tunnel {} of {} is removed.",
            tunnel.name, tunnel.user
        ));
        if let Err(error) = tell(host, command, tunnel) {
            exit = Exit::Partly;
            summary.push(format!(
                "Its vendor could not be told ({}): have the data source deleted in the browser.",
                OneLine(&error)
            ));
        }
        if let Some(own) = tunnel.logs_dir().parent().filter(|own| host.exists(own)) {
            summary.push(format!("{} stays: it is the user's own.", own.display()));
        }
    }
    service::undo_installed(manager.as_ref(), host, ui, &layout)?;
    let numbers: Vec<_> = tunnels.iter().map(|tunnel| tunnel.name.number()).collect();
    ui.finished(&summary, json!({ "removed": numbers, "problems": [] }));
    Ok(exit)
}

fn tell(
    host: &dyn Host,
    command: &UninstallTunnel,
    tunnel: &InstalledTunnel,
) -> anyhow::Result<()> {
    if command.local_only {
        return Ok(());
    }
    let record = record(host, tunnel)?;
    let enrolled = record
        .enrolled
        .ok_or_else(|| anyhow::anyhow!("it was never enrolled"))?;
    let client = ControlPlane::new(
        &record.control_plane,
        &enrolled.tunnel_token,
        command.ca_cert.as_deref(),
    )?;
    client.delete_tunnel(host, tunnel.name)?;
    Ok(())
}

/// What the owner's receipt holds of a tunnel.
fn record(host: &dyn Host, tunnel: &InstalledTunnel) -> anyhow::Result<TunnelRecord> {
    let folder = tunnel.logs_dir().parent().unwrap_or(Path::new("/"));
    let path = folder.join("receipt.json");
    let is_file = host
        .stat(&path)?
        .is_some_and(|stat| stat.kind == Kind::File);
    anyhow::ensure!(is_file, "{} is not there", path.display());
    let receipt = Receipt::load(host, &path)?;
    let record = receipt.and_then(|mut receipt| receipt.tunnels.remove(&tunnel.name));
    record.ok_or_else(|| anyhow::anyhow!("{} does not know it", path.display()))
}

fn layout(host: &dyn Host) -> Layout {
    Layout::new(host, Path::new("/"))
}

fn manager(host: &dyn Host) -> anyhow::Result<Box<dyn ServiceManager>> {
    service::manager(facts::init_of(host))
}
