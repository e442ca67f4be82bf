//! The tunnels of this host as `list`, `status` and `uninstall-tunnel` find them.

use anyhow::Context as _;

use crate::bastion::failure::Failure;
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, TunnelRecord};
use crate::protocol::TunnelId;

/// The receipt of this user, with the paths it was written for.
///
/// # Errors
/// The receipt is damaged or newer than this program.
pub fn installed(host: &dyn Host) -> anyhow::Result<Option<(Receipt, Layout)>> {
    let root = std::path::Path::new("/");
    let Some(receipt) = Receipt::load(host, &Layout::new(host, root).receipt())? else {
        return Ok(None);
    };
    let layout = Layout::new(host, &receipt.prefix);
    Ok(Some((receipt, layout)))
}

/// One tunnel of the receipt.
///
/// # Errors
/// There is none of that number; the error names those there are.
pub fn find(receipt: &Receipt, id: TunnelId) -> anyhow::Result<&TunnelRecord> {
    receipt
        .tunnels
        .get(&id)
        .with_context(|| unknown(Some(receipt), id))
}

/// The number that was given if it is a tunnel of this host, or that of the only tunnel.
///
/// # Errors
/// There is none of that number, or none was given and there is not exactly one; the error names
/// those there are.
pub fn only_or(receipt: Option<&Receipt>, id: Option<TunnelId>) -> anyhow::Result<TunnelId> {
    let tunnels = receipt.map(|receipt| &receipt.tunnels);
    let known: Vec<(TunnelId, &TunnelRecord)> = tunnels
        .into_iter()
        .flatten()
        .map(|(id, tunnel)| (*id, tunnel))
        .collect();
    match (id, known.as_slice()) {
        (Some(id), known) if known.iter().any(|(known, _)| *known == id) => Ok(id),
        (Some(id), _) => Err(unknown(receipt, id).into()),
        (None, [(id, _)]) => Ok(*id),
        (None, []) => Err(none().into()),
        (None, several) => {
            let names: Vec<String> = several
                .iter()
                .map(|(id, tunnel)| format!("{id} ({})", tunnel.display_name))
                .collect();
            Err(Failure::usage(
                format!("which tunnel? This user has {}", names.join(", ")),
                "give its number",
            )
            .into())
        }
    }
}

/// The failure where this user has no tunnels at all.
pub fn none() -> Failure {
    Failure::new(
        "this user has no tunnels on this host",
        "run it as the user who set them up; or run the command from the browser, which sets one up",
    )
}

/// The failure for a number that is not a tunnel of this host.
pub fn unknown(receipt: Option<&Receipt>, id: TunnelId) -> Failure {
    let known: Vec<String> = receipt
        .iter()
        .flat_map(|receipt| receipt.tunnels.keys().map(TunnelId::to_string))
        .collect();
    let next = if known.is_empty() {
        "this user has no tunnels on this host; `holistics-tunnel list` shows them, run it as the user who set them up".to_owned()
    } else {
        format!(
            "this user's tunnels on this host are: {} (`holistics-tunnel list` says more)",
            known.join(", ")
        )
    };
    Failure::new(format!("there is no tunnel {id}"), next)
}
