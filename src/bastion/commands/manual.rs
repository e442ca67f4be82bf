//! `manual`: the guide for a setup by hand, with a tunnel's values filled in.

use super::tunnels;
use crate::bastion::cli::Manual;
use crate::bastion::failure::Exit;
use crate::bastion::guide::{self, Values};
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::ui;

pub(super) fn run(host: &dyn Host, command: &Manual) -> anyhow::Result<Exit> {
    let installed = tunnels::installed(host)?;
    let values = match (&installed, command.tunnel) {
        (None, Some(id)) => return Err(tunnels::unknown(None, id).into()),
        (None, None) => Values::unknown(&Layout::new(host, std::path::Path::new("/"))),
        (Some((receipt, layout)), Some(id)) => {
            Values::of_tunnel(receipt, layout, id, tunnels::find(receipt, id)?)?
        }
        (Some((receipt, layout)), None) => {
            // The only tunnel is the one that is meant; of several, none is.
            let mut tunnels = receipt.tunnels.iter();
            match (tunnels.next(), tunnels.next()) {
                (Some((id, tunnel)), None) => Values::of_tunnel(receipt, layout, *id, tunnel)?,
                _ => Values::unknown(layout),
            }
        }
    };
    ui::print(&guide::render(command.system, &values)?);
    Ok(Exit::Done)
}
