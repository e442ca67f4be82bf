//! `update-tunnel`: leads a tunnel to another database host or port. Its remote port and its key
//! stay, and its siblings run on.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{questions, refuse_sudo, tunnels};
use crate::bastion::cli::UpdateTunnel;
use crate::bastion::control_plane::{ApiError, ControlPlane, is_gone};
use crate::bastion::failure::{Exit, Failure, Interrupted, OneLine, advice_of};
use crate::bastion::host::{Authority, Host, ProbeError};
use crate::bastion::layout::Layout;
use crate::bastion::lock;
use crate::bastion::receipt::{Receipt, Scope, TunnelRecord};
use crate::bastion::restart::{self, Seen, UP_TIMEOUT, insist, not_seen, wait_until_up};
use crate::bastion::rotation;
use crate::bastion::service::{self, ServiceManager};
use crate::bastion::session::Session;
use crate::bastion::ssh::command_line::{autossh_command, bracketed};
use crate::bastion::ssh::vetting;
use crate::bastion::steps::autossh::installed;
use crate::bastion::steps::temporary_tunnel::enrolled_forward;
use crate::bastion::steps::{StepName, service_tunnel};
use crate::bastion::ui::Ui;
use crate::protocol::{DatabaseAddress, Tunnel, TunnelChange, TunnelId, TunnelSession};

/// How long the database may take to accept a connection.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the control plane may take to take note.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

/// What is to be done.
struct Update {
    id: TunnelId,
    from: DatabaseAddress,
    to: DatabaseAddress,
    /// Whether the target was given here, so that the control plane has to be told.
    is_given: bool,
}

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &UpdateTunnel) -> anyhow::Result<Exit> {
    refuse_sudo(host.user())?;
    let installed = tunnels::installed(host)?;
    let id = tunnels::only_or(installed.as_ref().map(|(receipt, _)| receipt), command.id)?;
    let (receipt, layout) = installed.context("the receipt names this tunnel")?;
    rotation::refuse_unfinished(&receipt)?;
    let client = client(&receipt, id, command)?;
    let known = ask(host, &client, id)?;
    let update = target(&receipt, id, command, &known)?;
    vetting::check_target_host(&update.to.host)?;
    if is_applied(&receipt, &update) {
        return already(host, ui, &client, &update, &known);
    }
    if !command.no_database_check {
        check_database(host, &update.to)?;
    }
    ui.note(&format!(
        "Tunnel {id} ({:?}) leads to {}, and will lead to {}. Its remote port and its key stay; no other \
         tunnel is touched.",
        known.display_name,
        shown(&update.from),
        shown(&update.to),
    ));
    if command.dry_run {
        return dry_run(ui, &receipt, &layout, &update);
    }
    questions::confirm_change(host, command.yes)?;
    if receipt.init.is_some() && layout.system_authority() == Authority::Root {
        host.acquire_root("Restarting the tunnel", &commands(&receipt, &layout, id)?)?;
    }
    let _lock = lock::acquire(host, &layout)?;
    // Another run may have ended between the question and the lock.
    let receipt = Receipt::load(host, &layout.receipt())?.context("the receipt is gone")?;
    rotation::refuse_unfinished(&receipt)?;
    let update = Update {
        from: address(tunnels::find(&receipt, id)?),
        ..update
    };
    let mut session = Session::new(host, ui, layout, receipt, client);
    match session.receipt.init {
        Some(init) => {
            let manager = service::manager(init)?;
            under_the_service(&mut session, manager.as_ref(), &update, known.session)
        }
        None => in_the_foreground(&mut session, &update),
    }
}

fn client(receipt: &Receipt, id: TunnelId, command: &UpdateTunnel) -> anyhow::Result<ControlPlane> {
    let tunnel = tunnels::find(receipt, id)?;
    let is_set_up = [StepName::ServiceTunnel, StepName::Foreground]
        .iter()
        .any(|step| receipt.is_done(Scope::Tunnel(id), *step));
    let enrolled = tunnel.enrolled.as_ref().filter(|_| is_set_up);
    let enrolled = enrolled.with_context(|| {
        Failure::new(
            format!("the setup of tunnel {id} is not finished"),
            "run the setup command from the browser again: it takes the present host and port from there",
        )
    })?;
    ControlPlane::new(
        &tunnel.control_plane,
        &enrolled.tunnel_token,
        command.ca_cert.as_deref(),
    )
}

fn ask(host: &dyn Host, client: &ControlPlane, id: TunnelId) -> anyhow::Result<Tunnel> {
    client.tunnel(host, id).map_err(|error| {
        if !is_gone(&error) {
            return error.advised();
        }
        Failure::new(
            format!("tunnel {id} was deleted in the browser"),
            format!("`holistics-tunnel uninstall-tunnel {id}` removes what this host keeps of it"),
        )
        .because(error)
        .into()
    })
}

fn target(
    receipt: &Receipt,
    id: TunnelId,
    command: &UpdateTunnel,
    known: &Tunnel,
) -> anyhow::Result<Update> {
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
    Ok(Update {
        id,
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

fn shown(address: &DatabaseAddress) -> String {
    format!("{}:{}", bracketed(&address.host), address.port)
}

/// Whether the tunnel leads there, and no update of it has died half-way.
fn is_applied(receipt: &Receipt, update: &Update) -> bool {
    let steps = receipt.steps(Scope::Tunnel(update.id));
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
    update: &Update,
    known: &Tunnel,
) -> anyhow::Result<Exit> {
    let is_known = wanted(known) == update.to;
    let told = report(host, client, update);
    if let Err(error) = told {
        return Err(error.advised());
    }
    let said = if is_known {
        "already as in the browser"
    } else {
        "there already; the browser shows it now too"
    };
    ui.finished(
        &[format!(
            "Tunnel {} leads to {}, {said}. Nothing was changed.",
            update.id,
            shown(&update.to)
        )],
        result(update, false),
    );
    Ok(Exit::Done)
}

fn result(update: &Update, changed: bool) -> serde_json::Value {
    json!({
        "tunnel_id": update.id,
        "changed": changed,
        "from": update.from,
        "to": update.to,
    })
}

fn check_database(host: &dyn Host, target: &DatabaseAddress) -> anyhow::Result<()> {
    host.check_interrupt()?;
    let error = match host.probe_tcp(&target.host, target.port, DATABASE_TIMEOUT) {
        Ok(()) => return Ok(()),
        Err(ProbeError::Interrupted(interrupted)) => return Err(interrupted.into()),
        Err(ProbeError::Io(error)) => error,
    };
    bail!(
        Failure::new(
            format!("the database {} cannot be reached from this host; nothing was changed", shown(target)),
            "correct host and port, start the database, or open the firewall between this host and it; then \
             run the same command again (--no-database-check goes on without it)",
        )
        .because(error)
    )
}

fn commands(receipt: &Receipt, layout: &Layout, id: TunnelId) -> anyhow::Result<Vec<String>> {
    match receipt.init {
        Some(init) => Ok(service::manager(init)?.add_commands(layout, &id.to_string())),
        None => Ok(Vec::new()),
    }
}

fn dry_run(ui: &Ui, receipt: &Receipt, layout: &Layout, update: &Update) -> anyhow::Result<Exit> {
    let mut summary = vec!["This would be done:".to_owned()];
    summary.extend(
        commands(receipt, layout, update.id)?
            .iter()
            .map(|command| format!("  {command}")),
    );
    ui.finished(&summary, result(update, false));
    Ok(Exit::Done)
}

/// A tunnel that a supervisor of the user's own runs: it gets the new command.
fn in_the_foreground(session: &mut Session, update: &Update) -> anyhow::Result<Exit> {
    if update.is_given {
        let change = TunnelChange {
            target: Some(update.to.clone()),
            ..TunnelChange::default()
        };
        session
            .control_plane
            .change_tunnel(session.host, update.id, change)
            .map_err(ApiError::advised)?;
    }
    settle(session, update)?;
    let forward = enrolled_forward(&session.receipt, &session.layout, update.id)?;
    let program = installed::find(session.host, &session.layout)
        .context("autossh is not installed any more")?;
    let log = session.layout.tunnel_log(update.id);
    let command = autossh_command(&program.to_string_lossy(), &forward, &log);
    session.ui.note(&format!(
        "This host has no service manager: have your supervisor run this in place of the former \
         command, which it has to end first:\n\n{command}\n"
    ));
    session.ui.finished(
        &[format!(
            "Tunnel {} leads to {} once the command above runs.",
            update.id,
            shown(&update.to)
        )],
        result(update, true),
    );
    Ok(Exit::Done)
}

fn under_the_service(
    session: &mut Session,
    manager: &dyn ServiceManager,
    update: &Update,
    former: Option<TunnelSession>,
) -> anyhow::Result<Exit> {
    let told = match apply(session, manager, update, former.as_ref()) {
        Ok(told) => told,
        Err(error) => return Err(go_back(session, manager, update, error)),
    };
    settle(session, update)?;
    let mut summary = vec![format!(
        "Done: tunnel {} is up and leads to {} now.",
        update.id,
        shown(&update.to)
    )];
    if let Err(error) = &told {
        summary.push(format!(
            "The control plane could not be told that it is done ({error}); run the same command again."
        ));
    }
    session.ui.finished(&summary, result(update, true));
    Ok(if told.is_ok() {
        Exit::Done
    } else {
        Exit::Partly
    })
}

/// Restarts the tunnel with its new target, and tells the control plane once it is up. A target that
/// was given here has to be known on both sides; that one from there is applied may be told later.
fn apply(
    session: &mut Session,
    manager: &dyn ServiceManager,
    update: &Update,
    former: Option<&TunnelSession>,
) -> anyhow::Result<Result<(), ApiError>> {
    let mut tunnel = service_tunnel::describe(session, update.id, None)?;
    tunnel.forward.target_host.clone_from(&update.to.host);
    tunnel.forward.target_port = update.to.port.to_string();
    session.ui.progress("Restarting the tunnel");
    let scope = Scope::Tunnel(update.id);
    // The file's former content is recorded with it, before it is written.
    restart::restart(
        &mut session.work(scope, StepName::TargetUpdate),
        manager,
        &tunnel,
    )?;
    let (host, client) = (session.host, &session.control_plane);
    let is_new = |known: &Tunnel| known.session.is_none() || known.session.as_ref() != former;
    match wait_until_up(host, client, update.id, UP_TIMEOUT, is_new)? {
        Seen::Up => {}
        seen => return Err(not_seen(host, &session.layout, update.id, seen).into()),
    }
    match report(host, client, update) {
        Err(error) if update.is_given || matches!(error, ApiError::Interrupted(_)) => {
            Err(error.advised())
        }
        told => Ok(told),
    }
}

/// Tells the control plane where the tunnel leads, and where it shall lead if that was decided here.
fn report(host: &dyn Host, client: &ControlPlane, update: &Update) -> Result<(), ApiError> {
    let change = TunnelChange {
        target: update.is_given.then(|| update.to.clone()),
        applied: Some(update.to.clone()),
        ..TunnelChange::default()
    };
    insist(host, REPORT_TIMEOUT, || {
        client.change_tunnel(host, update.id, change.clone())
    })?;
    Ok(())
}

/// The new target is the tunnel's own; there is nothing to go back to any more.
fn settle(session: &mut Session, update: &Update) -> anyhow::Result<()> {
    let tunnel = session.receipt.tunnels.get_mut(&update.id);
    let tunnel = tunnel.context("the tunnel is not in the receipt")?;
    tunnel.target_host.clone_from(&update.to.host);
    tunnel.target_port = update.to.port;
    forget_record(session, update.id)
}

fn forget_record(session: &mut Session, id: TunnelId) -> anyhow::Result<()> {
    let scope = Scope::Tunnel(id);
    let changes: Vec<_> = session
        .receipt
        .steps(scope)
        .iter()
        .filter(|record| record.step == StepName::TargetUpdate)
        .flat_map(|record| record.changes.clone())
        .collect();
    session.forget(scope, StepName::TargetUpdate, &changes)
}

/// Puts the former target back and the tunnel up again.
fn go_back(
    session: &mut Session,
    manager: &dyn ServiceManager,
    update: &Update,
    error: anyhow::Error,
) -> anyhow::Error {
    let from = shown(&update.from);
    match restore(session, manager, update) {
        Ok(is_seen) => {
            let seen = if is_seen {
                "is up again"
            } else {
                "was started again; whether it is up could not be seen"
            };
            let what = format!("the tunnel leads to {from} as before and {seen}");
            if error.chain().any(|cause| cause.is::<Interrupted>()) {
                return error.context(what);
            }
            let next = advice_of(&error)
                .unwrap_or("run the same command again once the reason is gone")
                .to_owned();
            error.context(Failure {
                exit: Exit::RolledBack,
                ..Failure::new(format!("the update failed: {what}"), next)
            })
        }
        Err(left) => error.context(Failure {
            exit: Exit::Partly,
            ..Failure::new(
                format!(
                    "the update failed, and the way back to {from} too: {}",
                    OneLine(&left)
                ),
                "run the same command again; the receipt knows what is left",
            )
        }),
    }
}

/// Returns whether the control plane sees the tunnel.
fn restore(
    session: &mut Session,
    manager: &dyn ServiceManager,
    update: &Update,
) -> anyhow::Result<bool> {
    let tunnel = service_tunnel::describe(session, update.id, None)?;
    let scope = Scope::Tunnel(update.id);
    restart::restart(
        &mut session.work(scope, StepName::TargetUpdate),
        manager,
        &tunnel,
    )?;
    forget_record(session, update.id)?;
    let (host, client) = (session.host, &session.control_plane);
    // A control plane that is away does not hold up the way back.
    let limit = match client.tunnel(host, update.id) {
        Ok(_) => UP_TIMEOUT,
        Err(_) => Duration::ZERO,
    };
    let seen = wait_until_up(host, client, update.id, limit, |_| true)?;
    Ok(matches!(seen, Seen::Up))
}
