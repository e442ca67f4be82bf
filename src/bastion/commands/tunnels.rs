//! The tunnels of this host, and which of them a person means.

use anyhow::Context as _;

use crate::bastion::cli::Which;
use crate::bastion::control_plane::parse_address;
use crate::bastion::failure::Failure;
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, TunnelRecord};
use crate::bastion::service::InstalledTunnel;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::TunnelId;

const GIVE_A_NUMBER: &str = "give its number (`holistics-tunnel list` shows them)";

/// The receipt of this user, with the paths it was written for.
pub fn installed(host: &dyn Host) -> anyhow::Result<Option<(Receipt, Layout)>> {
    let root = std::path::Path::new("/");
    let Some(receipt) = Receipt::load(host, &Layout::new(host, root).receipt())? else {
        return Ok(None);
    };
    let layout = Layout::new(host, &receipt.prefix);
    Ok(Some((receipt, layout)))
}

pub fn find(receipt: &Receipt, tunnel: TunnelName) -> anyhow::Result<&TunnelRecord> {
    let record = receipt.tunnels.get(&tunnel);
    record.with_context(|| unknown(Some(receipt), &tunnel.to_string()))
}

/// The user's own tunnels that are meant: all of them where no number was given.
///
/// # Errors
/// There is none of that number; or there are two, and which of them is not said.
pub fn meant(
    host: &dyn Host,
    receipt: Option<&Receipt>,
    which: &Which,
) -> anyhow::Result<Vec<TunnelName>> {
    Ok(meant_of_all(host, receipt, Vec::new(), which)?.own)
}

/// What a command means.
#[derive(Default)]
pub struct Meant {
    /// Tunnels of the user's own.
    pub own: Vec<TunnelName>,
    /// Tunnels of others, for root.
    pub others: Vec<InstalledTunnel>,
}

/// The same where root may mean tunnels of others, too.
///
/// # Errors
/// There is none of that number; or there are two, and which of them is not said.
pub fn meant_of_all(
    host: &dyn Host,
    receipt: Option<&Receipt>,
    others: Vec<InstalledTunnel>,
    which: &Which,
) -> anyhow::Result<Meant> {
    let known = Known { receipt, others };
    let mut names = known.named(which)?;
    match (which.id, names.as_slice()) {
        (Some(id), []) => return Err(known.unknown(id).into()),
        (Some(_), [_, _, ..]) => {
            let unasked = "add --server with the control plane's address";
            names = vec![known.choose(host, "Which one", unasked, &names)?];
        }
        _ => {}
    }
    Ok(known.split(&names))
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
        several => Err(Known::own(receipt).not_said(several, GIVE_A_NUMBER).into()),
    }
}

/// Has the person choose one of these.
///
/// # Errors
/// There is no terminal to ask on, or the person wants none of them.
pub fn choose(
    host: &dyn Host,
    receipt: Option<&Receipt>,
    among: Meant,
    question: &str,
    unasked: &str,
) -> anyhow::Result<Meant> {
    let mut names = among.own;
    names.extend(among.others.iter().map(|tunnel| tunnel.name));
    let known = Known {
        receipt,
        others: among.others,
    };
    let chosen = known.choose(host, question, unasked, &names)?;
    Ok(known.split(&[chosen]))
}

/// The tunnels that this user may mean.
struct Known<'a> {
    receipt: Option<&'a Receipt>,
    others: Vec<InstalledTunnel>,
}

impl<'a> Known<'a> {
    fn own(receipt: Option<&'a Receipt>) -> Self {
        Known {
            receipt,
            others: Vec::new(),
        }
    }

    fn named(&self, which: &Which) -> anyhow::Result<Vec<TunnelName>> {
        let server = which.server.as_deref().map(parse_address).transpose()?;
        let own = self
            .receipt
            .into_iter()
            .flat_map(|receipt| &receipt.tunnels);
        let own = own.filter(|(_, tunnel)| {
            server
                .as_ref()
                .is_none_or(|server| *server == tunnel.control_plane)
        });
        // Root's files hold no address, but for what of it stands in the name.
        let others = self.others.iter().map(|tunnel| tunnel.name);
        let others = others.filter(|name| server.as_ref().is_none_or(|server| name.is_of(server)));
        let mut names: Vec<_> = own.map(|(name, _)| *name).chain(others).collect();
        names.retain(|name| which.id.is_none() || which.id == name.number());
        Ok(names)
    }

    fn split(self, names: &[TunnelName]) -> Meant {
        let is_other = |name: &TunnelName| self.others.iter().any(|tunnel| tunnel.name == *name);
        let own = names.iter().filter(|name| !is_other(name)).copied();
        Meant {
            own: own.collect(),
            others: self
                .others
                .iter()
                .filter(|tunnel| names.contains(&tunnel.name))
                .cloned()
                .collect(),
        }
    }

    fn choose(
        &self,
        host: &dyn Host,
        question: &str,
        unasked: &str,
        among: &[TunnelName],
    ) -> anyhow::Result<TunnelName> {
        let chosen = host
            .choose(question, &self.described(among))?
            .with_context(|| self.not_said(among, unasked))?;
        chosen
            .and_then(|place| among.get(place).copied())
            .context(Failure::new("nothing was chosen", "nothing was changed"))
    }

    fn described(&self, names: &[TunnelName]) -> Vec<String> {
        let described = |name: &TunnelName| {
            if let Some(tunnel) = self.receipt.and_then(|receipt| receipt.tunnels.get(name)) {
                return format!(
                    "{name}  {}  ({}:{}, of {})",
                    tunnel.display_name,
                    tunnel.target_host,
                    tunnel.target_port,
                    tunnel.control_plane
                );
            }
            match self.others.iter().find(|tunnel| tunnel.name == *name) {
                Some(tunnel) => format!("{name:?} of {}  ({})", tunnel.user, tunnel.target()),
                None => name.to_string(),
            }
        };
        names.iter().map(described).collect()
    }

    fn not_said(&self, among: &[TunnelName], next: &str) -> Failure {
        let several = self.described(among).join("; ");
        Failure::usage(format!("which tunnel? There are several: {several}"), next)
    }

    fn unknown(&self, id: TunnelId) -> Failure {
        match self.others.as_slice() {
            [] => unknown(self.receipt, &id.to_string()),
            others => {
                let names: Vec<_> = others.iter().map(|tunnel| tunnel.name).collect();
                Failure::new(
                    format!("there is no tunnel {id}"),
                    format!(
                        "tunnels of others on this host are: {} (`holistics-tunnel list` shows all)",
                        self.described(&names).join("; ")
                    ),
                )
            }
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
