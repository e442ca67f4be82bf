//! Where a tunnel ends: the server, the port there and the host keys, as the control plane says. A vendor moves tunnels
//! from one region to another, and calls servers by other names.

use anyhow::Context as _;

use super::StepName;
use super::enrollment::write_known_hosts;
use crate::bastion::change::Change;
use crate::bastion::receipt::{EnrolledRecord, Receipt, Scope, TunnelRecord};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ssh::vetting;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{Tunnel, TunnelPlace, TunnelServerAddress, TunnelStatus};

/// Where the tunnel is to end, if that is not where the receipt has it.
///
/// # Errors
/// What the control plane says of the server is not what can be one.
pub fn other(record: &TunnelRecord, known: &Tunnel) -> anyhow::Result<Option<TunnelPlace>> {
    let place = known
        .place
        .as_ref()
        .filter(|place| !is_there(record, place));
    if let Some(place) = place {
        vetting::check_server(&place.server)?;
    }
    Ok(place.cloned())
}

/// Whether the receipt has the tunnel there. Which host keys are pinned is another matter.
pub fn is_there(record: &TunnelRecord, place: &TunnelPlace) -> bool {
    record.enrolled.as_ref().is_some_and(|enrolled| {
        let (own, wanted) = (&enrolled.server, &place.server);
        let is_called_so = own.host == wanted.host || Some(&own.host) == wanted.other_host.as_ref();
        enrolled.remote_port == place.remote_port
            && is_called_so
            && (own.port, &own.user) == (wanted.port, &wanted.user)
    })
}

/// Whether a tunnel that has moved is seen where it is to be, so that nothing leads to the servers of before any more.
pub fn has_arrived(record: &TunnelRecord, known: &Tunnel) -> bool {
    let is_there = known
        .place
        .as_ref()
        .is_some_and(|place| is_there(record, place));
    let is_up = known.status == TunnelStatus::Up;
    record.enrolled.as_ref().is_some_and(|enrolled| {
        let has_moved = !enrolled.former_servers.is_empty();
        has_moved && is_there && is_up && known.remote_port == enrolled.remote_port
    })
}

/// Puts it into the receipt and pins its host keys, too; the tunnel takes it over when it is restarted, and until then
/// leads to the server of before.
pub fn take(work: &mut StepContext, tunnel: TunnelName, place: &TunnelPlace) -> anyhow::Result<()> {
    let enrolled = enrolled(work.run, tunnel)?;
    let (from_port, from_server) = (enrolled.remote_port, enrolled.server.clone());
    work.record(Change::PlaceChanged {
        from_port,
        from_server: from_server.clone(),
    })?;
    let enrolled = self::enrolled(work.run, tunnel)?;
    if !enrolled.former_servers.contains(&from_server) {
        enrolled.former_servers.push(from_server);
    }
    enrolled.remote_port = place.remote_port;
    enrolled.server.clone_from(&place.server);
    write_known_hosts(work.run, None)?;
    work.run.save()
}

/// The receipt has the tunnel where it was, and what is pinned is that server's.
pub fn put_back(
    run: &mut Run,
    tunnel: TunnelName,
    remote_port: u16,
    server: &TunnelServerAddress,
) -> anyhow::Result<()> {
    let enrolled = enrolled(run, tunnel)?;
    enrolled.remote_port = remote_port;
    enrolled.server.clone_from(server);
    enrolled.former_servers.retain(|former| former != server);
    write_known_hosts(run, None)
}

/// Has a tunnel that is up where it has moved to stay there, whatever becomes of this run: once the control plane
/// knows, the port of before is given up. Returns the receipt with which [`unsettle`] has this run able to go back,
/// where the tunnel has moved at all.
pub fn settle(run: &mut Run, tunnel: TunnelName) -> anyhow::Result<Option<Receipt>> {
    let scope = Scope::Tunnel(tunnel);
    let changes = run.changes_of(scope, StepName::TargetUpdate);
    let is_move = |change: &Change| matches!(change, Change::PlaceChanged { .. });
    if !changes.iter().any(is_move) {
        return Ok(None);
    }
    let before = run.receipt.clone();
    if let Some(records) = run.receipt.steps_mut(scope) {
        let of_move = [StepName::TargetUpdate, StepName::TargetReport];
        records.retain(|record| !of_move.contains(&record.step));
    }
    enrolled(run, tunnel)?.former_servers.clear();
    // The file first: of a run that dies here the record is still there, by which the next one does it again.
    if let Err(error) = write_known_hosts(run, None).and_then(|()| run.save()) {
        run.receipt = before;
        return Err(error);
    }
    Ok(Some(before))
}

/// Has it so that the move is gone back on.
pub fn unsettle(run: &mut Run, before: Receipt) -> anyhow::Result<()> {
    run.receipt = before;
    write_known_hosts(run, None)?;
    run.save()
}

fn enrolled<'r>(run: &'r mut Run, tunnel: TunnelName) -> anyhow::Result<&'r mut EnrolledRecord> {
    let record = run.receipt.tunnels.get_mut(&tunnel);
    let enrolled = record.and_then(|record| record.enrolled.as_mut());
    enrolled.context("the tunnel is not enrolled")
}
