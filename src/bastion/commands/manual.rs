//! `manual`: the guide for a setup by hand, with a tunnel's values filled in.

use super::tunnels;
use crate::bastion::cli::{Manual, Which};
use crate::bastion::failure::Exit;
use crate::bastion::guide;
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::ui;
use crate::manual;

pub(super) fn run(host: &dyn Host, command: &Manual) -> anyhow::Result<Exit> {
    let installed = tunnels::installed(host)?;
    let receipt = installed.as_ref().map(|(receipt, _)| receipt);
    let which = Which {
        id: command.tunnel,
        server: command.server.clone(),
    };
    let meant = tunnels::meant(host, receipt, &which)?;
    let values = match (&installed, meant.as_slice()) {
        (None, _) => guide::unknown(&Layout::new(host, std::path::Path::new("/"))),
        (Some((receipt, layout)), [id]) => {
            guide::of_tunnel(host, receipt, layout, *id, tunnels::find(receipt, *id)?)?
        }
        // Of several tunnels, none is the one that is meant.
        (Some((_, layout)), _) => guide::unknown(layout),
    };
    ui::print(&manual::render(command.system, &values)?);
    Ok(Exit::Done)
}
