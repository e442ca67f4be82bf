//! `rotate-key`: a new key pair for all tunnels of this user, one reconnect for each.

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{acquire_root, key_comment, questions, refuse_sudo, tunnels};
use crate::bastion::cli::RotateKey;
use crate::bastion::control_plane::{ApiError, Given};
use crate::bastion::copies;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Host, HostExt as _, WayToRoot};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope};
use crate::bastion::run::Run;
use crate::bastion::service::{self, AtBoot};
use crate::bastion::steps::rotation::{self, Rotation};
use crate::bastion::steps::{Audience, Step, StepName, host_keys, planned, prove, rename};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::{Event, Ui};
use crate::protocol::{Tunnel, TunnelStatus};

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &RotateKey) -> anyhow::Result<Exit> {
    refuse_sudo(host.user())?;
    let (receipt, layout) = tunnels::installed(host)?
        .filter(|(receipt, _)| !receipt.tunnels.is_empty())
        .with_context(tunnels::none)?;
    check(&receipt)?;
    let given = Given::read(host, command.authority.file())?;
    let known = known(host, &receipt, &given)?;
    let up = known
        .iter()
        .filter(|(_, known)| known.status == TunnelStatus::Up);
    let up: Vec<_> = up.map(|(name, _)| *name).collect();
    copies::refuse(host, &layout, &receipt, &up)?;
    let rotation = rotation_for(&receipt, &layout, host, command)?;
    let renames = rename::steps(&receipt, &layout)?;
    let steps = steps(host, &receipt, &layout, rotation, &known)?;
    ui.show(&Event::Plan {
        introduction: &introduction(&receipt, &layout, rotation),
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
        ui.finished(
            &["Nothing was changed.".to_owned()],
            json!({"changed": false}),
        );
        return Ok(Exit::Done);
    }
    questions::confirm_change(host, command.yes)?;
    let all_steps = renames.iter().chain(&steps);
    acquire_root(host, "Restarting the tunnels", all_steps)?;
    let mut run = Run::begin(host, ui, layout, given)?;
    // Another run may have ended while this one asked.
    check(&run.receipt)?;
    rename::carry_out(&mut run)?;
    let lasting = |(name, known)| (receipt.lasting_name(name), known);
    let known: Vec<_> = known.into_iter().map(lasting).collect();
    let rotation = rotation_for(&run.receipt, &run.layout, host, command)?;
    let steps = self::steps(host, &run.receipt, &run.layout, rotation, &known)?;
    let tunnels: Vec<_> = enrolled(&run.receipt).map(TunnelName::number).collect();
    run.carry_out(&steps, None)?;
    let enrolled = run
        .receipt
        .tunnels
        .values()
        .filter(|tunnel| tunnel.enrolled.is_some());
    let control_planes: Vec<_> = enrolled
        .map(|tunnel| tunnel.control_plane.clone())
        .collect();
    run.keep_reach(&control_planes)?;
    let place = run.layout.private_key(rotation.to);
    ui.finished(
        &[format!(
            "Done: every tunnel runs with the new key {}; the old one is refused and deleted.",
            place.display()
        )],
        json!({ "changed": true, "key": place, "tunnels": tunnels }),
    );
    Ok(Exit::Done)
}

fn steps(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    rotation: Rotation,
    known: &[(TunnelName, Tunnel)],
) -> anyhow::Result<Vec<Box<dyn Step>>> {
    let manager = service::manager(receipt.init.with_context(no_service)?)?;
    let tunnels: Vec<TunnelName> = enrolled(receipt).collect();
    let restarts = tunnels
        .iter()
        .flat_map(|tunnel| manager.add_commands(layout, *tunnel, AtBoot::AsItIs))
        .collect();
    // A tunnel that is restarted must know the tunnel server.
    let known = known.iter().map(|(name, known)| (*name, known));
    let mut steps = host_keys::steps(receipt, layout, known)?;
    steps.extend(rotation::steps(
        rotation,
        &tunnels,
        receipt,
        layout,
        &key_comment(host),
        restarts,
    ));
    Ok(steps)
}

/// The tunnels that have the present key.
fn enrolled(receipt: &Receipt) -> impl Iterator<Item = TunnelName> {
    let tunnels = receipt.tunnels.iter();
    tunnels
        .filter(|(_, tunnel)| tunnel.enrolled.is_some())
        .map(|(name, _)| receipt.lasting_name(*name))
}

/// What the control planes say of the tunnels. One that cannot be asked about is asked about again before
/// anything is changed.
fn known(
    host: &dyn Host,
    receipt: &Receipt,
    given: &Given,
) -> anyhow::Result<Vec<(TunnelName, Tunnel)>> {
    let mut known = Vec::new();
    for (name, tunnel) in &receipt.tunnels {
        let Some(client) = tunnel.client(host, given)? else {
            continue;
        };
        match client.tunnel(host, *name) {
            Ok(answer) => known.push((*name, answer)),
            Err(ApiError::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(_) => {}
        }
    }
    Ok(known)
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
                    "the setup of tunnel {id} is not finished, and it uses the current key; nothing was changed"
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
    if let Some(rotation) = Rotation::begun(receipt) {
        ensure!(
            command.key_type.is_none_or(|asked| asked == rotation.to),
            Failure::usage(
                format!(
                    "a rotation to a key of type {:?} is not finished",
                    rotation.to
                ),
                "leave --key-type out to finish it, then rotate again",
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
                "{} already exists, and no tunnel uses it; nothing was changed",
                place.display()
            ),
            "move it and its .pub file aside, then run the same command again",
        )
    );
    Ok(Rotation { from, to })
}

fn introduction(receipt: &Receipt, layout: &Layout, rotation: Rotation) -> String {
    let begun = match Rotation::begun(receipt) {
        Some(_) => "This continues a key rotation that was not finished. ",
        None => "",
    };
    format!(
        "{begun}A new key pair takes the place of {}; tunnels reconnect one at a time. These are the steps:",
        layout.private_key(rotation.from).display(),
    )
}

fn no_service() -> Failure {
    Failure::new(
        "this host has no service that runs the tunnels, so they cannot be restarted with a new key; nothing \
         was changed",
        "remove the tunnel and set it up again with a new command from the browser: that makes a new key",
    )
}
