//! `update-tunnel`: points a tunnel at another database host or port, takes it to the server and port where the control
//! plane has it end, and pins the host keys that it announces. Its key stays, and its siblings run on.

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{acquire_root, questions, refuse_sudo, tunnels};
use crate::bastion::cli::UpdateTunnel;
use crate::bastion::control_plane::{ControlPlane, Given, is_gone};
use crate::bastion::copies;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Host, WayToRoot};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope, TunnelRecord};
use crate::bastion::run::{Run, has_half_receipt};
use crate::bastion::service::AtBoot;
use crate::bastion::ssh::vetting;
use crate::bastion::steps::database::Database;
use crate::bastion::steps::target::{self, Target, TargetReport, TargetUpdate, shown};
use crate::bastion::steps::{
    Audience, Step, StepName, host_keys, place, planned, prove, rename, rotation, service_tunnel,
};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::{Event, Ui};
use crate::protocol::{DatabaseAddress, Tunnel, TunnelPlace, TunnelStatus};

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &UpdateTunnel) -> anyhow::Result<Exit> {
    refuse_sudo(host.user())?;
    let installed = tunnels::installed(host)?;
    let id = tunnels::only(
        host,
        installed.as_ref().map(|(receipt, _)| receipt),
        &command.which,
    )?;
    let (receipt, layout) = installed.context("the receipt names this tunnel")?;
    rotation::refuse_unfinished(&receipt)?;
    let given = Given::read(host, command.authority.file())?;
    let client = client(host, &receipt, id, &given)?;
    let known = ask(host, &client, id)?;
    let update = wanted_target(&receipt, id, command, &known)?;
    vetting::check_target_host(&update.to.host)?;
    let place = place::other(tunnels::find(&receipt, id)?, &known)?;
    // A tunnel that its service cannot start, or has other files of, is put in place anew.
    let is_in_place = place.is_none()
        && is_applied(&receipt, &update)
        && service_tunnel::is_sound(host, &receipt, &layout, id)?;
    let mut steps = match place {
        // Its host keys come with it.
        Some(_) => Vec::new(),
        None => host_keys::steps(&receipt, &layout, [(id, &known)])?,
    };
    let has_service = receipt.init.is_some();
    if is_in_place && steps.is_empty() {
        already(
            host,
            ui,
            &client,
            &update,
            &known,
            tunnels::find(&receipt, id)?,
            has_service,
        )?;
        let kept = &tunnels::find(&receipt, id)?.reach;
        let is_reach_new = kept.renewed(host, &given, client.address())? != *kept;
        if !command.dry_run && (is_reach_new || has_half_receipt(host, &layout)) {
            Run::begin(host, ui, layout, given)?.keep_reach(&[client.address().clone()])?;
        }
        return Ok(Exit::Done);
    }
    let up: Vec<_> = is_up(&known).then_some(id).into_iter().collect();
    copies::refuse(host, &layout, &receipt, &up)?;
    let renames = rename::steps(&receipt, &layout)?;
    if is_in_place {
        steps.push(Box::new(TargetReport {
            target: update.clone(),
            place: told_place(has_service, &known),
            is_applied: true,
        }));
    } else {
        let database = database(command, &update);
        steps.extend(self::steps(
            &receipt,
            &layout,
            &update,
            place.as_ref(),
            known.place.as_ref(),
            database,
        )?);
    }
    let introduction = format!(
        "Tunnel {id} ({:?}) points to {}. {}; no other tunnel is touched. These are the steps:",
        known.display_name,
        shown(&update.from),
        match &place {
            Some(place) => move_told(tunnels::find(&receipt, id)?, place),
            None => "Its remote port and its key stay".to_owned(),
        }
    );
    ui.show(&Event::Plan {
        introduction: &introduction,
        steps: &planned(&WayToRoot::of(host), renames.iter().chain(&steps)),
        with_commands: command.dry_run,
    });
    let proofs = prove(
        host,
        renames.iter().chain(&steps),
        Audience::of(command.dry_run),
    )?;
    if command.dry_run {
        ui.show(&Event::Proofs(&proofs));
        ui.finished(&[], result(&update, false));
        return Ok(Exit::Done);
    }
    questions::confirm_change(host, command.yes)?;
    let all_steps = renames.iter().chain(&steps);
    acquire_root(host, "Restarting the tunnel", all_steps)?;
    let mut run = Run::begin(host, ui, layout, given)?;
    rotation::refuse_unfinished(&run.receipt)?;
    // Another run may have ended while this one asked.
    rename::carry_out(&mut run)?;
    let now = address(tunnels::find(&run.receipt, update.tunnel)?);
    ensure!(
        now == update.from,
        Failure::new(
            format!(
                "tunnel {id} now points to {}; nothing was changed",
                shown(&now)
            ),
            "run the same command again",
        )
    );
    run.carry_out(&steps, None)?;
    run.keep_reach(&[client.address().clone()])?;
    let done = if is_in_place {
        format!(
            "Done: the tunnel server's host keys are pinned. Tunnel {id} was not restarted; if it is down for \
             them, it comes up at its next try."
        )
    } else if has_service {
        format!(
            "Done: tunnel {id} is up and points to {}.",
            shown(&update.to)
        )
    } else {
        format!(
            "Tunnel {id} points to {} once the command above runs.",
            shown(&update.to)
        )
    };
    ui.finished(&[done], result(&update, true));
    Ok(Exit::Done)
}

/// What the plan says of a tunnel that is to end elsewhere.
pub(super) fn move_told(record: &TunnelRecord, place: &TunnelPlace) -> String {
    let present = record
        .enrolled
        .as_ref()
        .map(|enrolled| enrolled.remote_port);
    if present == Some(place.remote_port) {
        return "Its server has another address; its remote port and its key stay".to_owned();
    }
    format!(
        "It moves to the region {} of the vendor, to another port there; its key stays",
        place.region
    )
}

fn database(command: &UpdateTunnel, target: &Target) -> Database {
    let skip = "--no-database-check goes on without it";
    Database {
        address: target.to.clone(),
        correct: "correct host and port".to_owned(),
        skip: (!command.no_database_check).then_some(skip),
    }
}

/// A target that was given here has to be known to the control plane, which may refuse it, before a
/// supervisor is to take it over; one that the service takes over is told once it is up, and where that is, which an
/// earlier run may not have been able to tell.
fn steps(
    receipt: &Receipt,
    layout: &Layout,
    target: &Target,
    place: Option<&TunnelPlace>,
    wanted_place: Option<&TunnelPlace>,
    database: Database,
) -> anyhow::Result<Vec<Box<dyn Step>>> {
    let has_service = receipt.init.is_some();
    let update: Box<dyn Step> = Box::new(TargetUpdate {
        layout: layout.clone(),
        target: target.clone(),
        place: place.cloned(),
        init: receipt.init,
        database,
        commands: target::commands(receipt.init, layout, target.tunnel, AtBoot::AsItIs)?,
    });
    let report: Box<dyn Step> = Box::new(TargetReport {
        target: target.clone(),
        place: wanted_place.filter(|_| has_service).cloned(),
        is_applied: has_service,
    });
    Ok(match (has_service, target.is_given) {
        (true, _) => vec![update, report],
        (false, true) => vec![report, update],
        (false, false) => vec![update],
    })
}

fn client(
    host: &dyn Host,
    receipt: &Receipt,
    id: TunnelName,
    given: &Given,
) -> anyhow::Result<ControlPlane> {
    let tunnel = tunnels::find(receipt, id)?;
    let client = tunnel.client(host, given)?;
    let client = client.filter(|_| receipt.is_set_up(id));
    client.with_context(|| {
        Failure::new(
            format!("the setup of tunnel {id} is not finished"),
            "run the setup command from the browser again: it takes the current host and port from there",
        )
    })
}

fn ask(host: &dyn Host, client: &ControlPlane, id: TunnelName) -> anyhow::Result<Tunnel> {
    client.tunnel(host, id).map_err(|error| {
        if !is_gone(&error) {
            return error.with_advice();
        }
        Failure::new(
            format!("tunnel {id} was deleted in the browser"),
            format!("`holistics-tunnel uninstall-tunnel {id}` removes what this host keeps of it"),
        )
        .because(error)
        .into()
    })
}

fn wanted_target(
    receipt: &Receipt,
    id: TunnelName,
    command: &UpdateTunnel,
    known: &Tunnel,
) -> anyhow::Result<Target> {
    let from = address(tunnels::find(receipt, id)?);
    let is_given = command.host.is_some() || command.port.is_some();
    let to = if is_given {
        let host = command.host.as_deref().unwrap_or(&from.host);
        DatabaseAddress {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: command.port.unwrap_or(from.port),
        }
    } else {
        wanted(known)
    };
    Ok(Target {
        tunnel: receipt.lasting_name(id),
        from,
        to,
        is_given,
    })
}

fn address(tunnel: &TunnelRecord) -> DatabaseAddress {
    DatabaseAddress {
        host: tunnel.target_host.clone(),
        port: tunnel.target_port,
    }
}

/// What the control plane has.
fn wanted(known: &Tunnel) -> DatabaseAddress {
    DatabaseAddress {
        host: known.host.clone(),
        port: known.port,
    }
}

/// Where it ends, for a control plane that may not know yet that it is there. Where a supervisor of the user's own runs
/// it, nobody here knows when that is so.
fn told_place(has_service: bool, known: &Tunnel) -> Option<TunnelPlace> {
    let is_told = has_service && is_up(known);
    known.place.clone().filter(|_| is_told)
}

fn is_up(known: &Tunnel) -> bool {
    known.status == TunnelStatus::Up
}

/// Whether the tunnel leads there, and no update of it has died half-way.
fn is_applied(receipt: &Receipt, update: &Target) -> bool {
    let steps = receipt.steps(Scope::Tunnel(update.tunnel));
    let is_unfinished = steps
        .iter()
        .any(|record| record.step == StepName::TargetUpdate);
    update.from == update.to && !is_unfinished
}

/// Nothing is to be done here; the control plane may still have to hear of it.
fn already(
    host: &dyn Host,
    ui: &Ui,
    client: &ControlPlane,
    update: &Target,
    known: &Tunnel,
    record: &TunnelRecord,
    has_service: bool,
) -> anyhow::Result<()> {
    let is_known = wanted(known) == update.to;
    let pinned = host_keys::told_to(Some(record), known);
    let place = told_place(has_service, known);
    let told = target::report(host, client, update, true, place.as_ref(), pinned);
    if let Err(error) = told {
        return Err(error.with_advice());
    }
    let said = if is_known {
        "already as in the browser"
    } else {
        "there already; the browser shows it now too"
    };
    ui.finished(
        &[format!(
            "Tunnel {} points to {}, {said}. Nothing was changed.",
            update.tunnel,
            shown(&update.to)
        )],
        result(update, false),
    );
    Ok(())
}

fn result(update: &Target, changed: bool) -> serde_json::Value {
    json!({
        "tunnel_id": update.tunnel.number(),
        "changed": changed,
        "from": update.from,
        "to": update.to,
    })
}
