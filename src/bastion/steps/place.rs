//! Where a tunnel ends: the server, the port there and the host keys, as the control plane says. A vendor moves tunnels
//! from one region to another, and calls servers by other names.

use anyhow::Context as _;

use super::enrollment::write_known_hosts;
use crate::bastion::change::Change;
use crate::bastion::receipt::TunnelRecord;
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ssh::vetting;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{Tunnel, TunnelPlace, TunnelServerAddress};

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

/// Puts it into the receipt and pins its host keys; the tunnel takes it over when it is restarted.
///
/// # Errors
/// The tunnel is not enrolled, or a file cannot be written.
pub fn take(work: &mut StepContext, tunnel: TunnelName, place: &TunnelPlace) -> anyhow::Result<()> {
    let record = work.run.receipt.tunnels.get(&tunnel);
    let enrolled = record.and_then(|record| record.enrolled.as_ref());
    let enrolled = enrolled.context("the tunnel is not enrolled")?;
    work.record(Change::PlaceChanged {
        from_port: enrolled.remote_port,
        from_server: enrolled.server.clone(),
    })?;
    put(work.run, tunnel, place.remote_port, &place.server)?;
    work.run.save()
}

/// The receipt has the tunnel there, and what is pinned is that server's.
///
/// # Errors
/// The file of host keys cannot be written.
pub fn put(
    run: &mut Run,
    tunnel: TunnelName,
    remote_port: u16,
    server: &TunnelServerAddress,
) -> anyhow::Result<()> {
    let record = run.receipt.tunnels.get_mut(&tunnel);
    if let Some(enrolled) = record.and_then(|record| record.enrolled.as_mut()) {
        enrolled.remote_port = remote_port;
        enrolled.server.clone_from(server);
    }
    write_known_hosts(run, None)
}
