//! Whether this host is a copy of the one that set the tunnels up: a cloned virtual machine, a restored
//! image. Both have the same receipt, key and service; the tunnel server lets one of them hold a tunnel.

use super::host::{Host, HostExt as _};
use super::layout::Layout;
use super::receipt::{HostIdentity, Receipt};
use super::service::ServiceState;
use super::tunnel_name::TunnelName;

/// What the tunnel's log ends with while another machine holds the tunnel.
const REFUSED: &str = "remote port forwarding failed";

/// The machine whose receipt this is, where that is not this one.
pub fn original<'r>(host: &dyn Host, receipt: &'r Receipt) -> Option<&'r HostIdentity> {
    let written_on = receipt.host.as_ref()?;
    written_on
        .differs_from(&HostIdentity::of(host))
        .then_some(written_on)
}

/// Whether another machine holds a tunnel that the tunnel server says is up.
pub fn is_held_elsewhere(
    host: &dyn Host,
    layout: &Layout,
    tunnel: TunnelName,
    service: ServiceState,
) -> bool {
    if service == ServiceState::Stopped {
        return true;
    }
    let log = host.read_if_present(&layout.tunnel_log(tunnel));
    let log = log.ok().flatten().unwrap_or_default();
    let last = String::from_utf8_lossy(&log);
    let mut last = last.lines().rev().take(3);
    service != ServiceState::Unknown && last.any(|line| line.contains(REFUSED))
}

/// How a person is told.
pub fn described(original: Option<&HostIdentity>) -> String {
    match original {
        Some(original) => format!(
            "this host is a copy of {}, which set these tunnels up",
            original.name
        ),
        None => "another machine with the same key holds it, such as a copy of this one".to_owned(),
    }
}
