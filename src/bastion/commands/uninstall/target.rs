//! What is to be removed, and whether its vendor will take the removal: found out before anything is changed.

use super::Removal;
use crate::bastion::cli::UninstallTunnel;
use crate::bastion::commands::{others, tunnels};
use crate::bastion::control_plane::{ControlPlane, Given, is_gone, is_unauthorized, parse_address};
use crate::bastion::copies::{self, Sign};
use crate::bastion::failure::{Failure, OneLine};
use crate::bastion::host::Host;
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Receipt;
use crate::bastion::service::InstalledTunnel;
use crate::bastion::steps::removal::Vendor;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;
use crate::protocol::TunnelStatus;

/// A tunnel that is to be removed.
pub(super) struct Target {
    pub tunnel: TunnelName,
    /// What root sees of it, where it is another user's.
    pub another: Option<InstalledTunnel>,
    /// As a person is asked about it.
    pub described: String,
    pub database_port: u16,
    /// Why another machine would feel it, such as the one of which this is a copy.
    pub copy: Option<String>,
    pub vendor: Vendor,
}

/// By what targets are found out.
pub(super) struct Finder<'a> {
    pub host: &'a dyn Host,
    pub ui: &'a Ui,
    pub command: &'a UninstallTunnel,
    pub given: &'a Given,
    pub removal: Option<Removal>,
}

/// What came of asking the vendor.
struct Answer {
    vendor: Vendor,
    /// Whether the tunnel server says that the tunnel is up.
    is_up: bool,
}

impl Answer {
    fn of(vendor: Vendor) -> Self {
        let is_up = false;
        Answer { vendor, is_up }
    }
}

impl Finder<'_> {
    /// A tunnel of this user's.
    pub fn own(&self, receipt: &Receipt, name: TunnelName) -> anyhow::Result<Target> {
        let record = tunnels::find(receipt, name)?;
        let client = record.client(self.host, self.given)?;
        let answer = match client.filter(|_| !self.command.local_only) {
            None => Answer::of(Vendor::NeedNotKnow),
            Some(client) => self.ask(client, name)?,
        };
        let up: Vec<_> = answer.is_up.then_some(name).into_iter().collect();
        let layout = Layout::new(self.host, &receipt.prefix);
        Ok(Target {
            tunnel: name,
            another: None,
            described: format!("{name} ({})", record.display_name),
            database_port: record.target_port,
            copy: copies::sign(self.host, &layout, receipt, &up)?.map(|sign| sign.to_string()),
            vendor: answer.vendor,
        })
    }

    /// A tunnel of another user's, for root.
    pub fn of_another(&self, tunnel: InstalledTunnel) -> anyhow::Result<Target> {
        let receipt = others::receipt(self.host, &tunnel);
        let original = receipt.as_ref().ok();
        let original = original.and_then(|receipt| copies::original(self.host, receipt));
        let copy = original.map(|original| Sign::CopyOf(original).to_string());
        Ok(Target {
            tunnel: tunnel.name,
            described: format!("{} of {} ({})", tunnel.name, tunnel.user, tunnel.target()),
            database_port: tunnel.target_port,
            copy,
            vendor: self.vendor_of_another(&tunnel, receipt)?,
            another: Some(tunnel),
        })
    }

    fn vendor_of_another(
        &self,
        tunnel: &InstalledTunnel,
        receipt: anyhow::Result<Receipt>,
    ) -> anyhow::Result<Vendor> {
        let (command, name) = (self.command, tunnel.name);
        if command.local_only {
            return Ok(Vendor::NeedNotKnow);
        }
        if let Some(removal) = &self.removal
            && name.is_of(&removal.server)
        {
            let client = removal.client(self.host, receipt.as_ref().ok(), self.given)?;
            return Ok(self.ask(client, name)?.vendor);
        }
        let server = command.server.as_deref().map(parse_address).transpose()?;
        let client = receipt.and_then(|receipt| {
            others::client(self.host, &receipt, name, server.as_ref(), self.given)
        });
        match client {
            Ok(client) => Ok(self.ask(client, name)?.vendor),
            Err(error) if command.force => {
                self.note_force(name, &OneLine(&error));
                Ok(Vendor::NeedNotKnow)
            }
            Err(error) => Ok(Vendor::OutOfReach(OneLine(&error).to_string())),
        }
    }

    /// Will the control plane take the removal? It need not where it has forgotten the tunnel already.
    fn ask(&self, client: ControlPlane, name: TunnelName) -> anyhow::Result<Answer> {
        match client.tunnel(self.host, name) {
            Ok(known) => Ok(Answer {
                vendor: Vendor::Told(client),
                is_up: known.status == TunnelStatus::Up,
            }),
            Err(error) if is_gone(&error) => Ok(Answer::of(Vendor::NeedNotKnow)),
            Err(error)
                if self.command.force && (error.is_transient() || is_unauthorized(&error)) =>
            {
                self.note_force(name, &error);
                Ok(Answer::of(Vendor::NeedNotKnow))
            }
            Err(error) if is_unauthorized(&error) => Err(Failure::new(
                format!("the control plane does not accept the token of tunnel {name}; nothing was changed"),
                "check whether the data source is still there in the browser; add --force to remove the tunnel \
                 from this host alone",
            )
            .because(error)
            .into()),
            Err(error) if error.is_transient() => Err(Failure::new(
                format!("cannot reach the control plane to report the removal of tunnel {name}; nothing was changed"),
                "try again once it can be reached; or add --force to remove the tunnel from this host alone, and \
                 delete the data source in the browser",
            )
            .because(error)
            .into()),
            Err(error) => Err(error.with_advice()),
        }
    }

    fn note_force(&self, name: TunnelName, error: &dyn std::fmt::Display) {
        self.ui.note(&format!(
            "{error}; removing tunnel {name} from this host alone (--force)"
        ));
    }
}
