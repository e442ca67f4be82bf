//! The tunnels of this host, and which of them a person means.

use anyhow::Context as _;

use crate::bastion::cli::Which;
use crate::bastion::control_plane::parse_address;
use crate::bastion::failure::Failure;
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, TunnelRecord};
use crate::bastion::tunnel_name::TunnelName;

const GIVE_A_NUMBER: &str = "give its number (`holistics-tunnel list` shows them)";

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
/// It is not there any more.
pub fn find(receipt: &Receipt, tunnel: TunnelName) -> anyhow::Result<&TunnelRecord> {
    let record = receipt.tunnels.get(&tunnel);
    record.with_context(|| unknown(Some(receipt), &tunnel.to_string()))
}

/// The tunnels that are meant: all of them where no number was given.
///
/// # Errors
/// There is none of that number; or there are two, and which of them is not said.
pub fn meant(
    host: &dyn Host,
    receipt: Option<&Receipt>,
    which: &Which,
) -> anyhow::Result<Vec<TunnelName>> {
    let candidates = candidates(receipt, which)?;
    match (which.id, candidates.as_slice()) {
        (Some(id), []) => Err(unknown(receipt, &id.to_string()).into()),
        (Some(_), [_, _, ..]) => Ok(vec![choose(
            host,
            receipt,
            "Which one",
            "add --server with the control plane's address",
            &candidates,
        )?]),
        _ => Ok(candidates),
    }
}

/// The one tunnel that is meant, which need not be named where it is the only one.
///
/// # Errors
/// There is none, or it is not said which of several.
pub fn only(
    host: &dyn Host,
    receipt: Option<&Receipt>,
    which: &Which,
) -> anyhow::Result<TunnelName> {
    match meant(host, receipt, which)?.as_slice() {
        [] => Err(none().into()),
        [tunnel] => Ok(*tunnel),
        several => Err(not_said(receipt, several, GIVE_A_NUMBER).into()),
    }
}

fn candidates(receipt: Option<&Receipt>, which: &Which) -> anyhow::Result<Vec<TunnelName>> {
    let server = which.server.as_deref().map(parse_address).transpose()?;
    let tunnels = receipt.into_iter().flat_map(|receipt| &receipt.tunnels);
    let is_meant = |name: &TunnelName, tunnel: &TunnelRecord| {
        (which.id.is_none() || which.id == name.number())
            && server
                .as_ref()
                .is_none_or(|server| *server == tunnel.control_plane)
    };
    Ok(tunnels
        .filter(|(name, tunnel)| is_meant(name, tunnel))
        .map(|(name, _)| *name)
        .collect())
}

/// Has the person choose one of these.
///
/// # Errors
/// There is no terminal to ask on, or the person wants none of them.
pub fn choose(
    host: &dyn Host,
    receipt: Option<&Receipt>,
    question: &str,
    unasked: &str,
    among: &[TunnelName],
) -> anyhow::Result<TunnelName> {
    let names: Vec<String> = among.iter().map(|name| described(receipt, *name)).collect();
    let chosen = host
        .choose(question, &names)?
        .with_context(|| not_said(receipt, among, unasked))?;
    chosen
        .and_then(|place| among.get(place).copied())
        .context(Failure::new("nothing was chosen", "nothing was changed"))
}

fn described(receipt: Option<&Receipt>, name: TunnelName) -> String {
    match receipt.and_then(|receipt| receipt.tunnels.get(&name)) {
        Some(tunnel) => format!(
            "{name}  {}  ({}:{}, of {})",
            tunnel.display_name, tunnel.target_host, tunnel.target_port, tunnel.control_plane
        ),
        None => name.to_string(),
    }
}

fn not_said(receipt: Option<&Receipt>, among: &[TunnelName], next: &str) -> Failure {
    let several: Vec<String> = among.iter().map(|name| described(receipt, *name)).collect();
    Failure::usage(
        format!("which tunnel? There are several: {}", several.join("; ")),
        next,
    )
}

/// The failure where this user has no tunnels at all.
pub fn none() -> Failure {
    Failure::new(
        "this user has no tunnels on this host",
        "run it as the user who set them up; or run the command from the browser, which sets one up",
    )
}

/// The failure for a number that is not a tunnel of this host.
pub fn unknown(receipt: Option<&Receipt>, id: &str) -> Failure {
    let known: Vec<String> = receipt
        .into_iter()
        .flat_map(|receipt| receipt.tunnels.keys().map(TunnelName::to_string))
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
