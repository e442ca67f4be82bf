//! `rotate-key`: a new key pair for all tunnels of this user, one reconnect for each.

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{key_comment, questions, refuse_sudo, tunnels};
use crate::bastion::cli::RotateKey;
use crate::bastion::control_plane::ControlPlane;
use crate::bastion::failure::{Exit, Failure, OneLine, advice_of, is_interruption};
use crate::bastion::host::{Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::lock;
use crate::bastion::receipt::{Phase, Receipt, Rotation, Scope};
use crate::bastion::rotation::{self, Member, Stop};
use crate::bastion::service::{self, ServiceManager};
use crate::bastion::session::Session;
use crate::bastion::ssh::keys;
use crate::bastion::steps::StepName;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &RotateKey) -> anyhow::Result<Exit> {
    refuse_sudo(host.user())?;
    let (receipt, layout) = tunnels::installed(host)?
        .filter(|(receipt, _)| !receipt.tunnels.is_empty())
        .with_context(tunnels::none)?;
    check(&receipt)?;
    let rotation = rotation_for(&receipt, &layout, host, command)?;
    let init = receipt.init.with_context(no_service)?;
    let manager = service::manager(init)?;
    introduce(ui, &receipt, &layout, rotation, command);
    if command.dry_run {
        ui.finished(
            &["Nothing was changed.".to_owned()],
            json!({"changed": false}),
        );
        return Ok(Exit::Done);
    }
    questions::confirm_change(host, command.yes)?;
    if layout.system_authority() == Authority::Root {
        let commands: Vec<String> = receipt
            .tunnels
            .keys()
            .flat_map(|id| manager.add_commands(&layout, *id))
            .collect();
        host.acquire_root("Restarting the tunnels", &commands)?;
    }
    let _lock = lock::acquire(host, &layout)?;
    // Another run may have ended between the question and the lock.
    let receipt = Receipt::load(host, &layout.receipt())?.with_context(tunnels::none)?;
    check(&receipt)?;
    let rotation = rotation_for(&receipt, &layout, host, command)?;
    let members = members(&receipt, command)?;
    let first = members.first().with_context(tunnels::none)?.client.clone();
    let mut session = Session::new(host, ui, layout, receipt, first);
    carry_out(&mut session, manager.as_ref(), rotation, members)
}

/// Every tunnel with a key has to be one that the service runs.
fn check(receipt: &Receipt) -> anyhow::Result<()> {
    ensure!(receipt.init.is_some(), no_service());
    for (id, tunnel) in &receipt.tunnels {
        let is_done = receipt.is_done(Scope::Tunnel(*id), StepName::ServiceTunnel);
        ensure!(
            is_done || tunnel.enrolled.is_none(),
            Failure::new(
                format!(
                    "the setup of tunnel {id} is not finished, and it has the present key; nothing was changed"
                ),
                format!(
                    "run its setup command from the browser again, or remove it with `holistics-tunnel \
                     uninstall-tunnel {id}`; then rotate the key"
                ),
            )
        );
    }
    Ok(())
}

/// The change that is under way, or a new one.
fn rotation_for(
    receipt: &Receipt,
    layout: &Layout,
    host: &dyn Host,
    command: &RotateKey,
) -> anyhow::Result<Rotation> {
    if let Some(rotation) = receipt.rotation {
        ensure!(
            command.key_type.is_none_or(|asked| asked == rotation.to),
            Failure::usage(
                format!(
                    "a change to a key of the kind {:?} is not finished",
                    rotation.to
                ),
                "leave --key-type out to finish it, then change the key again",
            )
        );
        return Ok(rotation);
    }
    let from = receipt.key_type.context("the receipt names no key pair")?;
    let to = command.key_type.unwrap_or(from);
    let place = layout.private_key(to);
    ensure!(
        to == from || !host.exists(&place),
        Failure::new(
            format!(
                "{} is there already, and no tunnel uses it; nothing was changed",
                place.display()
            ),
            "move it and its .pub file aside, then run the same command again",
        )
    );
    Ok(Rotation {
        from,
        to,
        phase: Phase::Announcing,
    })
}

fn members(receipt: &Receipt, command: &RotateKey) -> anyhow::Result<Vec<Member>> {
    let enrolled = receipt
        .tunnels
        .iter()
        .filter_map(|(id, tunnel)| Some((*id, tunnel, tunnel.enrolled.as_ref()?)));
    enrolled
        .map(|(id, tunnel, enrolled)| {
            let client = ControlPlane::new(
                &tunnel.control_plane,
                &enrolled.tunnel_token,
                command.ca_cert.as_deref(),
            )?;
            Ok(Member { id, client })
        })
        .collect()
}

fn introduce(ui: &Ui, receipt: &Receipt, layout: &Layout, rotation: Rotation, command: &RotateKey) {
    let place = layout.private_key(rotation.to);
    let ids: Vec<String> = receipt.tunnels.keys().map(ToString::to_string).collect();
    let begun = match receipt.rotation {
        Some(_) => "This goes on with a change of the key pair that was not finished. ",
        None => "",
    };
    ui.note(&format!(
        "{begun}A new key pair takes the place of {}: it is made, announced at the control plane, and put at \
         {}; tunnel {} is restarted, one after another; then the old key is refused and deleted.",
        layout.private_key(rotation.from).display(),
        place.display(),
        ids.join(", "),
    ));
    if command.dry_run {
        ui.note(&keys::keygen(rotation.to, &layout.next_key(), "<user>@<host>").to_string());
    }
}

fn carry_out(
    session: &mut Session,
    manager: &dyn ServiceManager,
    rotation: Rotation,
    mut members: Vec<Member>,
) -> anyhow::Result<Exit> {
    if rotation.phase == Phase::GoingBack {
        let begun = anyhow::anyhow!("an earlier run had begun to put the old key back");
        return Err(go_back(session, manager, rotation, &members, begun));
    }
    if rotation.phase != Phase::Proved {
        match prepare(session, rotation, &members) {
            Ok(there) => members.retain(|member| there.contains(&member.id)),
            Err(error) if rotation.phase == Phase::Announcing => {
                return Err(go_back(session, manager, rotation, &members, error));
            }
            Err(error) => return Err(later(error)),
        }
        let rotation = rotation::switch(session, rotation).map_err(later)?;
        match rotation::restart_all(session, manager, rotation, &members) {
            Ok(()) => {}
            Err(Stop::Later(error)) => return Err(later(error)),
            Err(Stop::Refused(error)) => {
                return Err(go_back(session, manager, rotation, &members, error));
            }
        }
    }
    rotation::retire(session, rotation, &members).map_err(later)?;
    let place = session.layout.private_key(rotation.to);
    let ids: Vec<_> = members.iter().map(|member| member.id.number()).collect();
    session.ui.finished(
        &[format!(
            "Done: every tunnel runs with the new key {}; the old one is refused and deleted.",
            place.display()
        )],
        json!({ "changed": true, "key": place, "tunnels": ids }),
    );
    Ok(Exit::Done)
}

/// The new pair is there, and opens the tunnels that are returned.
fn prepare(
    session: &mut Session,
    rotation: Rotation,
    members: &[Member],
) -> anyhow::Result<Vec<TunnelName>> {
    session.ui.progress("Making the new key pair");
    let comment = key_comment(session.host);
    rotation::make_pair(session, rotation, &comment)?;
    rotation::announce(session, members)
}

/// Goes back, and says so with the reason.
fn go_back(
    session: &mut Session,
    manager: &dyn ServiceManager,
    rotation: Rotation,
    members: &[Member],
    error: anyhow::Error,
) -> anyhow::Error {
    session.ui.progress("Going back to the old key");
    const BACK: &str = "everything goes on with the old key";
    match rotation::go_back(session, manager, rotation, members) {
        Ok(()) if is_interruption(&error) => error.context(BACK),
        Ok(()) => {
            let next = advice_of(&error)
                .unwrap_or("run the same command again once the reason is gone")
                .to_owned();
            error.context(Failure {
                exit: Exit::RolledBack,
                ..Failure::new(format!("the key was not changed; {BACK}"), next)
            })
        }
        Err(left) => error.context(Failure {
            exit: Exit::Partly,
            ..Failure::new(
                format!(
                    "the key was not changed, and not everything could be put back: {}",
                    OneLine(&left)
                ),
                "run the same command again; the receipt knows what is left",
            )
        }),
    }
}

/// It stops where the next run goes on; until then both keys open every tunnel.
fn later(error: anyhow::Error) -> anyhow::Error {
    let what = "the change of the key pair is not finished; both keys are accepted until it is, and the \
                tunnels go on";
    if is_interruption(&error) {
        return error.context(what);
    }
    error.context(Failure {
        exit: Exit::Partly,
        ..Failure::new(what, "run `holistics-tunnel rotate-key` again to finish it")
    })
}

fn no_service() -> Failure {
    Failure::new(
        "this host has no service that runs the tunnels, so they cannot be restarted with a new key; nothing \
         was changed",
        "remove the tunnel and set it up again with a new command from the browser: that makes a new key",
    )
}
