//! `uninstall-tunnel`: removes a tunnel from this host and from the control plane. With the last
//! tunnel, the service and this user's folder go too. root removes the tunnels of others as well.

mod own_tunnel;
mod questions;
mod target;

use std::path::Path;

use serde_json::json;
use url::Url;

use super::tunnels::Meant;
use super::{others, token, tunnels};
use crate::bastion::change::UndoReason;
use crate::bastion::cli::{UninstallTunnel, Which};
use crate::bastion::control_plane::{ApiError, ControlPlane, Given, parse_address};
use crate::bastion::facts;
use crate::bastion::failure::Exit;
use crate::bastion::host::{self, Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::run::{Problem, Run};
use crate::bastion::service::{self, InstalledTunnel};
use crate::bastion::steps::directory::{self, Directory};
use crate::bastion::steps::removal::{RemoveShared, RemoveTunnel};
use crate::bastion::steps::removal_by_root::RemoveAnothersTunnel;
use crate::bastion::steps::{PlannedCommand, Proofs, Step, planned, removal};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;
use target::{Finder, Target};

/// What root is needed for.
const PURPOSE: &str = "Removing the tunnel from the service";

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &UninstallTunnel) -> anyhow::Result<Exit> {
    let exit = remove_what_is_meant(host, ui, command)?;
    if exit == Exit::Done {
        // Only now: a removal that is interrupted goes on by the same command.
        token::remove_file(host, command.token_file.as_deref())?;
    }
    Ok(exit)
}

fn remove_what_is_meant(
    host: &dyn Host,
    ui: &Ui,
    command: &UninstallTunnel,
) -> anyhow::Result<Exit> {
    let installed = tunnels::installed(host);
    let receipt = installed.as_ref().ok().and_then(Option::as_ref);
    let receipt = receipt.map(|(receipt, _)| receipt);
    let others = others::tunnels(host, receipt)?;
    let is_meant = |tunnel: &&InstalledTunnel| is_meant(command, tunnel);
    if !is_left_of_an_earlier_one(receipt) {
        others::refuse_sudo(host, others.iter().filter(is_meant))?;
    }
    let removal = Removal::read(host, command)?;
    let given = Given::read(host, command.authority.file())?;
    let installed = installed?;
    let receipt = installed.as_ref().map(|(receipt, _)| receipt);
    if let (Some(removal), Some(id)) = (&removal, command.id) {
        let tunnel = TunnelName::new(&removal.server, id);
        if !is_here(receipt, &others, tunnel) {
            let client = removal.client(host, receipt, &given)?;
            return tell_only(host, ui, &client, tunnel);
        }
    }
    if installed.is_none()
        && !others.iter().any(|tunnel| is_meant(&tunnel))
        && directory::remove_empty(host, &Layout::new(host, Path::new("/")))?
    {
        ui.finished(
            &["What an earlier removal left behind is removed.".to_owned()],
            json!({"removed": []}),
        );
        return Ok(Exit::Done);
    }
    let meant = chosen(host, ui, receipt, others, command)?;
    if installed.is_none() && meant.others.is_empty() {
        ui.finished(
            &["This user has no tunnels on this host.".to_owned()],
            json!({"removed": []}),
        );
        return Ok(Exit::Done);
    }
    let finder = Finder {
        host,
        ui,
        command,
        given: &given,
        removal,
    };
    let mut targets = Vec::new();
    if let Some((receipt, _)) = &installed {
        for name in &meant.own {
            targets.push(finder.own(receipt, *name)?);
        }
    }
    for tunnel in meant.others {
        targets.push(finder.of_another(tunnel)?);
    }
    let own = meant.own.len();
    let takes_service = receipt.is_some_and(|receipt| own > 0 && own == receipt.tunnels.len());
    let commands = match &installed {
        Some((receipt, layout)) => prove_root(host, receipt, layout, &meant.own)?,
        None => Vec::new(),
    };
    questions::confirm(host, command, &targets, takes_service)?;
    questions::confirm_copy(host, command, &targets)?;
    questions::confirm_own_tunnel(host, command, &targets)?;
    let layout = installed.map_or_else(|| others::layout(host), |(_, layout)| layout);
    remove(host, ui, command, layout, targets, given, &commands)
}

/// Proves that root may be given what this removal takes, and returns it.
fn prove_root(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    own: &[TunnelName],
) -> anyhow::Result<Vec<host::Command>> {
    let of = |scope| removal::commands(receipt, layout, scope);
    let mut commands: Vec<PlannedCommand> = own
        .iter()
        .flat_map(|name| of(Scope::Tunnel(*name)))
        .collect();
    if own.len() == receipt.tunnels.len() {
        let manager = receipt.init.map(service::manager).transpose()?;
        let installed = manager
            .map(|manager| manager.installed(host, layout))
            .transpose()?;
        let mut installed = installed.into_iter().flatten();
        let is_last = installed.all(|tunnel| own.contains(&tunnel.name));
        let shared = of(Scope::Host).into_iter();
        commands.extend(shared.map(|command| {
            if is_last {
                command
            } else {
                command.only("with the last tunnel of anybody")
            }
        }));
    }
    // What may turn out not to be allowed is told when it does.
    planned::prove_commands(host, PURPOSE, commands, &mut Proofs::default())
}

/// Removes what was agreed on.
fn remove(
    host: &dyn Host,
    ui: &Ui,
    command: &UninstallTunnel,
    layout: Layout,
    targets: Vec<Target>,
    given: Given,
    commands: &[host::Command],
) -> anyhow::Result<Exit> {
    let takes_root = !commands.is_empty() || targets.iter().any(|target| target.another.is_some());
    if layout.system_authority() == Authority::Root && takes_root {
        host.acquire_root(PURPOSE, commands)?;
    }
    let mut run = Run::begin(host, ui, layout, given)?;
    let packages = run.receipt.installed_packages();
    let reason = UndoReason::Removal {
        keep_keys: command.keep_keys,
    };
    let mut asked = Vec::new();
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    if targets.iter().any(|target| target.another.is_some()) {
        // The receipt has a place before anything is changed; where root had none, it goes with the service.
        let layout = run.layout.clone();
        run.carry_out(&[Box::new(Directory { layout })], None)?;
    }
    for target in targets {
        // Another run may have ended while this one asked: what is the last tunnel is seen only now.
        if is_left(&run, target.tunnel, target.another.as_ref())? {
            asked.push((target.tunnel, target.another.clone()));
            steps.push(step(host, target, reason));
        }
    }
    steps.push(Box::new(RemoveShared { reason }));
    let problems = run.carry_out_what_can_be(&steps)?;
    let mut removed = Vec::new();
    for (tunnel, another) in asked {
        if !is_left(&run, tunnel, another.as_ref())? {
            removed.push((tunnel, another));
        }
    }
    let packages = if run.receipt.tunnels.is_empty() {
        packages
    } else {
        Vec::new()
    };
    Ok(report(host, ui, &removed, &problems, &packages))
}

fn is_left(
    run: &Run,
    tunnel: TunnelName,
    another: Option<&InstalledTunnel>,
) -> anyhow::Result<bool> {
    if another.is_none() {
        return Ok(run.receipt.tunnels.contains_key(&tunnel));
    }
    let seen = others::tunnels(run.host, None)?;
    Ok(seen.iter().any(|other| other.name == tunnel))
}

fn step(host: &dyn Host, target: Target, reason: UndoReason) -> Box<dyn Step> {
    match target.another {
        Some(tunnel) => Box::new(RemoveAnothersTunnel {
            tunnel,
            layout: others::layout(host),
            init: facts::init_of(host),
            vendor: target.vendor,
        }),
        None => Box::new(RemoveTunnel {
            tunnel: target.tunnel,
            vendor: target.vendor,
            reason,
        }),
    }
}

fn is_meant(command: &UninstallTunnel, tunnel: &InstalledTunnel) -> bool {
    command.id.is_none() || command.id == tunnel.name.number()
}

fn is_here(receipt: Option<&Receipt>, others: &[InstalledTunnel], name: TunnelName) -> bool {
    receipt.is_some_and(|receipt| receipt.tunnels.contains_key(&name))
        || others.iter().any(|tunnel| tunnel.name == name)
}

/// Whether an earlier removal took the last tunnel, and had to leave what the tunnels shared.
fn is_left_of_an_earlier_one(receipt: Option<&Receipt>) -> bool {
    receipt.is_some_and(|receipt| receipt.tunnels.is_empty())
}

/// The tunnels to remove; asked for where it is not said.
fn chosen(
    host: &dyn Host,
    ui: &Ui,
    receipt: Option<&Receipt>,
    mut others: Vec<InstalledTunnel>,
    command: &UninstallTunnel,
) -> anyhow::Result<Meant> {
    if command.all
        && let Some(caller) = &host.user().sudo_user
        && others.iter().any(|tunnel| tunnel.user == *caller)
    {
        others.retain(|tunnel| tunnel.user != *caller);
        ui.note(&format!(
            "The tunnels of {caller} stay: {caller} removes them by the same command without sudo."
        ));
    }
    let which = Which {
        id: command.id,
        server: command.server.clone(),
    };
    let is_meant = |tunnel| is_meant(command, tunnel);
    if is_left_of_an_earlier_one(receipt) && !others.iter().any(is_meant) {
        return Ok(Meant::default());
    }
    let meant = tunnels::meant_of_all(host, receipt, others, &which)?;
    let is_empty = meant.own.is_empty() && meant.others.is_empty();
    let meant = if command.all || command.id.is_some() || is_empty {
        meant
    } else {
        let unasked = "give its number (`holistics-tunnel list` shows them), or --all";
        tunnels::choose(host, receipt, meant, "Remove which tunnel", unasked)?
    };
    others::refuse_sudo(host, meant.others.iter())?;
    Ok(meant)
}

/// What the removal command from the browser says.
struct Removal {
    server: Url,
    token: String,
}

impl Removal {
    fn read(host: &dyn Host, command: &UninstallTunnel) -> anyhow::Result<Option<Self>> {
        let (Some(server), Some(file)) = (&command.server, &command.token_file) else {
            return Ok(None);
        };
        let token = token::read(host, None, Some(file))?;
        let server = parse_address(server)?;
        Ok(Some(Removal { server, token }))
    }

    /// The control plane with its token, reached as this receipt says.
    fn client(
        &self,
        host: &dyn Host,
        receipt: Option<&Receipt>,
        given: &Given,
    ) -> anyhow::Result<ControlPlane> {
        let kept = receipt.and_then(|receipt| receipt.reach_of(&self.server));
        let kept = kept.cloned().unwrap_or_default();
        let reach = kept.in_run(host, given, &self.server);
        ControlPlane::new(&self.server, &self.token, reach)
    }
}

/// A tunnel whose bastion was reinstalled, or lost its receipt: the control plane is told all the same.
fn tell_only(
    host: &dyn Host,
    ui: &Ui,
    client: &ControlPlane,
    tunnel: TunnelName,
) -> anyhow::Result<Exit> {
    client
        .delete_tunnel(host, tunnel)
        .map_err(ApiError::with_advice)?;
    if tunnels::installed(host)?.is_none() {
        let layout = Layout::new(host, Path::new("/"));
        if let Err(error) = directory::remove_program(host, &layout) {
            host.log_line(&format!("the program stays: {error:#}"));
        }
    }
    ui.finished(
        &[format!(
            "This user has no tunnel {tunnel} on this host; the control plane has removed it."
        )],
        json!({ "removed": [tunnel.number()] }),
    );
    Ok(Exit::Done)
}

fn report(
    host: &dyn Host,
    ui: &Ui,
    removed: &[(TunnelName, Option<InstalledTunnel>)],
    problems: &[Problem],
    packages: &[String],
) -> Exit {
    let mut summary = Vec::new();
    for (name, another) in removed {
        let Some(tunnel) = another else {
            summary.push(format!("Tunnel {name} is removed."));
            continue;
        };
        let user = &tunnel.user;
        summary.push(format!("Tunnel {name} of {user} is removed."));
        let own = tunnel.user_dir();
        if host.exists(own) {
            summary.push(format!("{} stays: it belongs to {user}.", own.display()));
        }
    }
    if !packages.is_empty() && problems.is_empty() {
        let packages = packages.join(", ");
        summary.push(format!("What setup installed stays: {packages}."));
    }
    for problem in problems {
        summary.push(format!("Not done: {}: {}", problem.what, problem.error));
        summary.push(format!("    next: {}", problem.next));
    }
    let numbers: Vec<_> = removed.iter().map(|(name, _)| name.number()).collect();
    ui.finished(
        &summary,
        json!({ "removed": numbers, "problems": problems, "packages_kept": packages }),
    );
    if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Partly
    }
}
