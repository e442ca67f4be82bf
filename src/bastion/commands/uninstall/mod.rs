//! `uninstall-tunnel`: removes a tunnel from this host and from the control plane. With the last
//! tunnel, the service and this user's folder go too.

use std::path::Path;

use serde_json::json;

mod own_tunnel;

use super::{others, questions, refuse_sudo, token, tunnels};
use crate::bastion::change::UndoReason;
use crate::bastion::cli::{UninstallTunnel, Which};
use crate::bastion::control_plane::{
    ApiError, ControlPlane, is_gone, is_unauthorized, parse_address,
};
use crate::bastion::copies;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, TunnelRecord};
use crate::bastion::run::{Problem, Run};
use crate::bastion::steps::removal::{RemoveShared, RemoveTunnel};
use crate::bastion::steps::{Step, directory};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;
use crate::protocol::TunnelId;

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &UninstallTunnel) -> anyhow::Result<Exit> {
    let others = others::meant(host, command)?;
    if others.is_empty() {
        refuse_sudo(host.user())?;
    }
    // Read first, since the file has to go whatever follows.
    let removal = removal_call(host, command)?;
    let installed = tunnels::installed(host)?;
    let receipt = installed.as_ref().map(|(receipt, _)| receipt);
    let is_own = receipt.is_some_and(|receipt| {
        let mut own = receipt.tunnels.keys();
        own.any(|own| own.number() == command.id)
    });
    if !others.is_empty() && !is_own {
        return others::remove(host, ui, command, &others);
    }
    if let (Some(client), Some(id)) = (&removal, command.id) {
        let tunnel = TunnelName::new(client.address(), id);
        if !receipt.is_some_and(|receipt| receipt.tunnels.contains_key(&tunnel)) {
            return tell_only(host, ui, client, tunnel);
        }
    }
    let ids = chosen(host, receipt, command)?;
    let Some((receipt, layout)) = installed else {
        ui.finished(
            &["This user has no tunnels on this host.".to_owned()],
            json!({"removed": []}),
        );
        return Ok(Exit::Done);
    };
    let clients = ids
        .iter()
        .map(|id| check_control_plane(host, ui, command, &receipt, *id))
        .collect::<anyhow::Result<Vec<_>>>()?;
    confirm(host, command, &receipt, &ids)?;
    confirm_copy(host, command, &receipt, &ids)?;
    confirm_own_tunnel(host, command, &receipt, &ids)?;
    if layout.system_authority() == Authority::Root {
        host.acquire_root("Removing the tunnel from the service", &[])?;
    }
    let mut run = Run::begin(host, ui, layout, command.ca_cert.as_deref())?;
    // Another run may have ended while this one asked: what is the last tunnel is seen only now.
    let targets: Vec<_> = ids.into_iter().zip(clients).collect();
    let targets = targets
        .into_iter()
        .filter(|(tunnel, _)| run.receipt.tunnels.contains_key(tunnel));
    let packages = run.receipt.installed_packages();
    let reason = UndoReason::Removal {
        keep_keys: command.keep_keys,
    };
    let mut asked = Vec::new();
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    for (tunnel, client) in targets {
        asked.push(tunnel);
        steps.push(Box::new(RemoveTunnel {
            tunnel,
            client,
            reason,
        }));
    }
    steps.push(Box::new(RemoveShared { reason }));
    let problems = run.carry_out_what_can_be(&steps)?;
    let left = &run.receipt.tunnels;
    asked.retain(|tunnel| !left.contains_key(tunnel));
    let packages = if left.is_empty() {
        packages
    } else {
        Vec::new()
    };
    Ok(report(ui, &asked, &problems, &packages))
}

/// The tunnels to remove; asked for where it is not said.
fn chosen(
    host: &dyn Host,
    receipt: Option<&Receipt>,
    command: &UninstallTunnel,
) -> anyhow::Result<Vec<TunnelName>> {
    // An earlier removal took the last tunnel, and had to leave what the tunnels shared.
    if receipt.is_some_and(|receipt| receipt.tunnels.is_empty()) {
        return Ok(Vec::new());
    }
    let which = Which {
        id: command.id,
        server: command.server.clone(),
    };
    let meant = tunnels::meant(host, receipt, &which)?;
    if command.all || command.id.is_some() || meant.is_empty() {
        return Ok(meant);
    }
    Ok(vec![tunnels::choose(
        host,
        receipt,
        "Remove which tunnel",
        "give its number (`holistics-tunnel list` shows them), or --all",
        &meant,
    )?])
}

/// The control plane as the removal command from the browser reaches it.
fn removal_call(
    host: &dyn Host,
    command: &UninstallTunnel,
) -> anyhow::Result<Option<ControlPlane>> {
    let (Some(server), Some(file)) = (&command.server, &command.token_file) else {
        return Ok(None);
    };
    let token = token::read(host, None, Some(file))?;
    ControlPlane::new(&parse_address(server)?, &token, command.ca_cert.as_deref()).map(Some)
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
        json!({ "removed": numbers(&[tunnel]) }),
    );
    Ok(Exit::Done)
}

/// Before anything is changed: will the control plane take the removal? Nothing where it cannot be
/// told and need not be.
fn check_control_plane(
    host: &dyn Host,
    ui: &Ui,
    command: &UninstallTunnel,
    receipt: &Receipt,
    id: TunnelName,
) -> anyhow::Result<Option<ControlPlane>> {
    let tunnel = tunnels::find(receipt, id)?;
    let Some(client) = client(command, tunnel)?.filter(|_| !command.local_only) else {
        return Ok(None);
    };
    match client.tunnel(host, id) {
        Ok(_) => Ok(Some(client)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) if command.force && (error.is_transient() || is_unauthorized(&error)) => {
            ui.note(&format!("{error}; removing tunnel {id} from this host alone (--force)"));
            Ok(None)
        }
        Err(error) if is_unauthorized(&error) => Err(Failure::new(
            format!("the control plane does not accept the token of tunnel {id}; nothing was changed"),
            "look whether the data source is still there in the browser; add --force to remove the tunnel from this \
             host alone",
        )
        .because(error)
        .into()),
        Err(error) if error.is_transient() => Err(Failure::new(
            format!("the control plane cannot be reached to be told that tunnel {id} goes; nothing was changed"),
            "try again once it can be reached; or add --force to remove the tunnel from this host alone, and \
             delete the data source in the browser",
        )
        .because(error)
        .into()),
        Err(error) => Err(error.with_advice()),
    }
}

fn client(
    command: &UninstallTunnel,
    tunnel: &TunnelRecord,
) -> anyhow::Result<Option<ControlPlane>> {
    let Some(enrolled) = &tunnel.enrolled else {
        return Ok(None);
    };
    ControlPlane::new(
        &tunnel.control_plane,
        &enrolled.tunnel_token,
        command.ca_cert.as_deref(),
    )
    .map(Some)
}

fn confirm(
    host: &dyn Host,
    command: &UninstallTunnel,
    receipt: &Receipt,
    ids: &[TunnelName],
) -> anyhow::Result<()> {
    if command.yes {
        return Ok(());
    }
    let names: Vec<String> = ids
        .iter()
        .filter_map(|id| Some(format!("{id} ({})", receipt.tunnels.get(id)?.display_name)))
        .collect();
    let what = if ids.len() == receipt.tunnels.len() {
        ", and with it the service"
    } else {
        ""
    };
    let question = match names.as_slice() {
        [] => "Remove what an earlier removal had to leave?".to_owned(),
        names => format!("Remove tunnel {}{what}?", names.join(", ")),
    };
    let unasked = Failure::usage(
        "cannot confirm the removal without a terminal",
        "pass --yes to remove without asking; nothing was changed",
    );
    questions::require_yes(host.yes_or_no(&question, false)?, unasked)
}

/// On a copy of a machine, a removal would end the tunnel of the original.
fn confirm_copy(
    host: &dyn Host,
    command: &UninstallTunnel,
    receipt: &Receipt,
    ids: &[TunnelName],
) -> anyhow::Result<()> {
    if command.local_only || command.force {
        return Ok(());
    }
    let Some(original) = copies::original(host, receipt) else {
        return Ok(());
    };
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    let warning = format!(
        "{}: removing tunnel {names} would end it there",
        copies::described(Some(original))
    );
    let question = format!("Note that {warning}. Remove it there, too?");
    let unasked = Failure::usage(
        warning,
        "add --local-only to take its files off this host alone, or --force to end it there, too; nothing was \
         changed",
    );
    questions::require_yes(host.yes_or_no(&question, false)?, unasked)
}

/// Somebody who came to this host through a tunnel cannot come back once it is gone.
fn confirm_own_tunnel(
    host: &dyn Host,
    command: &UninstallTunnel,
    receipt: &Receipt,
    ids: &[TunnelName],
) -> anyhow::Result<()> {
    let Some(id) = ids.iter().find(|id| {
        let tunnel = receipt.tunnels.get(id);
        tunnel.is_some_and(|tunnel| own_tunnel::carries_this_session(host, tunnel))
    }) else {
        return Ok(());
    };
    let warning = format!(
        "This session seems to have come in through tunnel {id}: it would end, and this host could not \
         be reached that way any more"
    );
    // With a yes, the removal comes to its end without its terminal.
    host.outlive_terminal();
    if command.force {
        return Ok(());
    }
    let question = format!("{warning}. Remove it all the same?");
    let unasked = Failure::usage(
        warning,
        "run it from a session that came another way, or add --force; nothing was changed",
    );
    questions::require_yes(host.confirm(&question)?, unasked)
}

fn numbers(tunnels: &[TunnelName]) -> Vec<TunnelId> {
    tunnels
        .iter()
        .filter_map(|tunnel| tunnel.number())
        .collect()
}

fn report(ui: &Ui, removed: &[TunnelName], problems: &[Problem], packages: &[String]) -> Exit {
    let mut summary: Vec<String> = removed
        .iter()
        .map(|tunnel| format!("Tunnel {tunnel} is removed."))
        .collect();
    if !packages.is_empty() && problems.is_empty() {
        let packages = packages.join(", ");
        summary.push(format!("What setup installed stays: {packages}."));
    }
    for problem in problems {
        summary.push(format!("Not done: {}: {}", problem.what, problem.error));
        summary.push(format!("    next: {}", problem.next));
    }
    ui.finished(
        &summary,
        json!({ "removed": numbers(removed), "problems": problems, "packages_kept": packages }),
    );
    if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Partly
    }
}
