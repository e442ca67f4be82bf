//! What root sees of other users' tunnels.
//!
//! It is taken from files that root alone can have written. A user's own receipt is read for the token by
//! which the vendor is told, and for whose machine it is; root does nothing else that a user's file says,
//! follows no link that a user can make, and reads no more than a receipt or a log can hold.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::bastion::control_plane::{ControlPlane, Given};
use crate::bastion::facts::{self, Init};
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Receipt;
use crate::bastion::service::{self, InstalledTunnel, ServiceManager};
use crate::bastion::tunnel_name::TunnelName;

/// More bytes than any receipt has.
const LARGEST_RECEIPT: u64 = 4 * 1024 * 1024;

/// The tunnels of this host that are not in the caller's own receipt; root alone is shown them.
pub fn tunnels(host: &dyn Host, own: Option<&Receipt>) -> anyhow::Result<Vec<InstalledTunnel>> {
    if host.user().uid != 0 || facts::init_of(host) == Init::None {
        return Ok(Vec::new());
    }
    let mut tunnels = manager(host)?.installed(host, &layout(host))?;
    tunnels.retain(|tunnel| own.is_none_or(|own| !own.tunnels.contains_key(&tunnel.name)));
    Ok(tunnels)
}

/// Refuses `sudo` in front of a command that means nothing but the caller's own tunnels: those are theirs to
/// see to, as themselves.
///
/// # Errors
/// It does; the user to use is named.
pub fn refuse_sudo<'t>(
    host: &dyn Host,
    mut meant: impl Iterator<Item = &'t InstalledTunnel>,
) -> anyhow::Result<()> {
    let caller = host.user().sudo_user.as_deref();
    if meant.any(|tunnel| caller != Some(&tunnel.user)) {
        return Ok(());
    }
    super::refuse_sudo(host.user())
}

/// The receipt of a tunnel's owner.
pub fn receipt(host: &dyn Host, tunnel: &InstalledTunnel) -> anyhow::Result<Receipt> {
    let path = tunnel.user_dir().join("receipt.json");
    let end = host
        .read_end(tunnel.home(), &path, LARGEST_RECEIPT)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        end.length <= LARGEST_RECEIPT,
        "{} is too large for a receipt",
        path.display()
    );
    Receipt::parse(&end.content, &path)
}

/// The control plane with the token that the owner's receipt holds. Where it is, the tunnel's name says,
/// or root does. An authority and a proxy of the owner's choice are used for the owner's own tunnel alone.
///
/// # Errors
/// The receipt does not know the tunnel, or names another control plane.
pub fn client(
    host: &dyn Host,
    receipt: &Receipt,
    tunnel: TunnelName,
    server: Option<&url::Url>,
    given: &Given,
) -> anyhow::Result<ControlPlane> {
    let record = receipt.tunnels.get(&tunnel);
    let record = record.context("its owner's receipt does not know it")?;
    let address = &record.control_plane;
    ensure!(
        server == Some(address) || tunnel.is_of(address),
        "its owner's receipt names the control plane {address}; --server {address} says that it is the right one"
    );
    let client = record.client(host, given)?;
    client.context("it was never enrolled")
}

/// Where all users' tunnels have their files.
pub fn layout(host: &dyn Host) -> Layout {
    Layout::new(host, Path::new("/"))
}

/// What runs them.
pub fn manager(host: &dyn Host) -> anyhow::Result<Box<dyn ServiceManager>> {
    service::manager(facts::init_of(host))
}
