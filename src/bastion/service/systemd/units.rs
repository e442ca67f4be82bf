//! The units' files: the two that all tunnels share, and the drop-in of each.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use askama::Template;

use crate::bastion::host::{Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::service::shared::SharedFile;
use crate::bastion::service::{MARKER, SERVICE_NAME, ServiceTunnel};
use crate::bastion::tunnel_name::TunnelName;

#[derive(Template)]
#[template(path = "h_autossh.service", escape = "none")]
struct Umbrella<'a> {
    marker: &'a str,
}

#[derive(Template)]
#[template(path = "h_autossh@.service", escape = "none")]
struct Instance<'a> {
    marker: &'a str,
    tunnels_dir: String,
}

#[derive(Template)]
#[template(path = "tunnel.conf", escape = "none")]
struct DropIn<'a> {
    marker: &'a str,
    id: TunnelName,
    user: String,
    logs: String,
    has_own_mounts: bool,
}

pub(super) fn umbrella() -> String {
    format!("{SERVICE_NAME}.service")
}

/// The definition that all instances share.
pub(super) fn instances() -> String {
    format!("{SERVICE_NAME}@.service")
}

pub(super) fn instance(tunnel: TunnelName) -> String {
    format!("{SERVICE_NAME}@{}.service", tunnel.slug())
}

pub(super) fn unit_path(layout: &Layout, unit: &str) -> PathBuf {
    layout.system("etc/systemd/system").join(unit)
}

/// The two units, which are the same for all tunnels of all users.
pub(super) fn units(layout: &Layout) -> Result<[SharedFile; 2]> {
    let instance = Instance {
        marker: MARKER,
        tunnels_dir: layout.tunnels_dir().to_string_lossy().into_owned(),
    };
    let umbrella_unit = Umbrella { marker: MARKER };
    let file = |unit: String, content: askama::Result<String>| {
        anyhow::Ok(SharedFile {
            path: unit_path(layout, &unit),
            content: content.context("cannot render the unit")?,
            mode: 0o644,
        })
    };
    Ok([
        file(instances(), instance.render())?,
        file(umbrella(), umbrella_unit.render())?,
    ])
}

pub(super) fn drop_in_dir(layout: &Layout, tunnel: TunnelName) -> PathBuf {
    unit_path(layout, &format!("{}.d", instance(tunnel)))
}

pub(super) fn drop_in_path(layout: &Layout, tunnel: TunnelName) -> PathBuf {
    drop_in_dir(layout, tunnel).join("tunnel.conf")
}

/// What of the instance is the tunnel's own.
pub(super) fn drop_in(
    tunnel: TunnelName,
    user: &str,
    logs: &Path,
    mounts: Mounts,
) -> Result<String> {
    // What stands in a unit, systemd looks through for its own specifiers.
    let literally = |text: &str| text.replace('%', "%%");
    let drop_in = DropIn {
        marker: MARKER,
        id: tunnel,
        user: literally(user),
        logs: literally(&logs.to_string_lossy()),
        has_own_mounts: mounts == Mounts::Own,
    };
    let content = drop_in
        .render()
        .context("cannot render the tunnel's drop-in")?;
    Ok(format!("{content}\n"))
}

pub(super) fn drop_in_of(tunnel: &ServiceTunnel, mounts: Mounts) -> Result<String> {
    let logs = tunnel.log.parent().context("a log is in a folder")?;
    drop_in(tunnel.id, &tunnel.user, logs, mounts)
}

/// Which view of the file system an instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounts {
    /// One of its own, in which it can write nothing but its logs.
    Own,
    /// The host's, where systemd cannot set up another one.
    OfTheHost,
}

impl Mounts {
    /// As the tunnel's drop-in has it, which root alone writes.
    pub(super) fn of(host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<Self> {
        let content = host.read_if_present(&drop_in_path(layout, tunnel))?;
        let content = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
        let is_host_s = content.lines().any(|line| line == "ProtectSystem=no");
        Ok(if is_host_s {
            Mounts::OfTheHost
        } else {
            Mounts::Own
        })
    }

    pub(super) fn for_tunnel(
        host: &dyn Host,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> Result<Self> {
        match tunnel.has_own_mounts {
            Some(true) => Ok(Mounts::Own),
            Some(false) => Ok(Mounts::OfTheHost),
            None => Self::of(host, layout, tunnel.id),
        }
    }
}
