//! What is to be removed, and whether its vendor will take the removal: found out before anything is changed.

use crate::bastion::cli::UninstallTunnel;
use crate::bastion::commands::{others, tunnels};
use crate::bastion::control_plane::{ControlPlane, is_gone, is_unauthorized, parse_address};
use crate::bastion::copies;
use crate::bastion::failure::{Failure, OneLine};
use crate::bastion::host::Host;
use crate::bastion::receipt::Receipt;
use crate::bastion::service::InstalledTunnel;
use crate::bastion::steps::removal::Vendor;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;

/// A tunnel that is to be removed.
pub(super) struct Target {
    pub tunnel: TunnelName,
    /// What root sees of it, where it is another user's.
    pub another: Option<InstalledTunnel>,
    /// As a person is asked about it.
    pub described: String,
    pub database_port: u16,
    /// Whose copy this machine is, if it is one.
    pub copy: Option<String>,
    pub vendor: Vendor,
}

/// By what targets are found out.
pub(super) struct Finder<'a> {
    pub host: &'a dyn Host,
    pub ui: &'a Ui,
    pub command: &'a UninstallTunnel,
    /// The control plane with the token of the removal command from the browser.
    pub removal: Option<ControlPlane>,
}

impl Finder<'_> {
    /// A tunnel of this user's.
    pub fn own(&self, receipt: &Receipt, name: TunnelName) -> anyhow::Result<Target> {
        let record = tunnels::find(receipt, name)?;
        let ca_cert = self.command.ca_cert.as_deref();
        let client = record.enrolled.as_ref().map(|enrolled| {
            ControlPlane::new(&record.control_plane, &enrolled.tunnel_token, ca_cert)
        });
        let vendor = match client.transpose()?.filter(|_| !self.command.local_only) {
            None => Vendor::NeedNotKnow,
            Some(client) => self.ask(client, name)?,
        };
        Ok(Target {
            tunnel: name,
            another: None,
            described: format!("{name} ({})", record.display_name),
            database_port: record.target_port,
            copy: self.copy(receipt),
            vendor,
        })
    }

    /// A tunnel of another user's, for root.
    pub fn of_another(&self, tunnel: InstalledTunnel) -> anyhow::Result<Target> {
        let receipt = others::receipt(self.host, &tunnel);
        let copy = receipt.as_ref().ok();
        let copy = copy.and_then(|receipt| self.copy(receipt));
        Ok(Target {
            tunnel: tunnel.name,
            described: format!("{} of {} ({})", tunnel.name, tunnel.user, tunnel.target()),
            database_port: tunnel.target_port,
            copy,
            vendor: self.vendor_of_another(&tunnel, receipt)?,
            another: Some(tunnel),
        })
    }

    fn copy(&self, receipt: &Receipt) -> Option<String> {
        let original = copies::original(self.host, receipt);
        original.map(|original| copies::described(Some(original)))
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
        if let Some(client) = &self.removal
            && name.is_of(client.address())
        {
            return self.ask(client.clone(), name);
        }
        let server = command.server.as_deref().map(parse_address).transpose()?;
        let client = receipt.and_then(|receipt| {
            others::client(&receipt, name, server.as_ref(), command.ca_cert.as_deref())
        });
        match client {
            Ok(client) => self.ask(client, name),
            Err(error) if command.force => {
                self.note_force(name, &OneLine(&error));
                Ok(Vendor::NeedNotKnow)
            }
            Err(error) => Ok(Vendor::OutOfReach(OneLine(&error).to_string())),
        }
    }

    /// Will the control plane take the removal? It need not where it has forgotten the tunnel already.
    fn ask(&self, client: ControlPlane, name: TunnelName) -> anyhow::Result<Vendor> {
        match client.tunnel(self.host, name) {
            Ok(_) => Ok(Vendor::Told(client)),
            Err(error) if is_gone(&error) => Ok(Vendor::NeedNotKnow),
            Err(error)
                if self.command.force && (error.is_transient() || is_unauthorized(&error)) =>
            {
                self.note_force(name, &error);
                Ok(Vendor::NeedNotKnow)
            }
            Err(error) if is_unauthorized(&error) => Err(Failure::new(
                format!("the control plane does not accept the token of tunnel {name}; nothing was changed"),
                "look whether the data source is still there in the browser; add --force to remove the tunnel \
                 from this host alone",
            )
            .because(error)
            .into()),
            Err(error) if error.is_transient() => Err(Failure::new(
                format!("the control plane cannot be reached to be told that tunnel {name} goes; nothing was changed"),
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
