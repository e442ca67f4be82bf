//! The manual guides: the same tunnel, set up by hand where this program cannot do it.
//!
//! Their commands come from the same places as those that setup runs, with this tunnel's values in
//! them as far as they are known.

use askama::Template;

use super::host::Host;
use super::layout::Layout;
use super::plan::Target;
use super::receipt::{Receipt, TunnelRecord};
use super::ssh::command_line::{Forward, autossh_command, ssh_command};
use super::ssh::{KeyType, ProxyCommand, Way, keys, known_hosts};
use super::steps::temporary_tunnel::enrolled_forward;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::web_proxy;
use crate::protocol::Enrollment;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GuideFor {
    /// Linux, whatever the distribution.
    Linux,
    /// macOS.
    Macos,
    /// Windows: OpenSSH's client, or Bitvise.
    Windows,
}

pub struct Values {
    display_name: String,
    control_plane: String,
    tunnel: TunnelName,
    is_enrolled: bool,
    private_key: String,
    known_hosts: String,
    known_hosts_lines: Vec<String>,
    keygen_command: String,
    ssh_command: String,
    autossh_command: String,
    server_user: String,
    server_host: String,
    server_port: String,
    remote_port: String,
    target_host: String,
    target_port: String,
    /// curl's option for the proxy that is kept, where the environment names none.
    curl_proxy: String,
    /// How ssh gets to the tunnel server, where it does not connect by itself.
    proxy_command: Option<String>,
}

#[derive(Template)]
#[template(path = "manual/linux.txt", escape = "none")]
struct Linux<'a> {
    v: &'a Values,
}

#[derive(Template)]
#[template(path = "manual/macos.txt", escape = "none")]
struct Macos<'a> {
    v: &'a Values,
}

#[derive(Template)]
#[template(path = "manual/windows.txt", escape = "none")]
struct Windows<'a> {
    v: &'a Values,
}

impl Values {
    /// The values of a tunnel in the receipt, the server's answer among them if it is enrolled.
    pub fn of_tunnel(
        host: &dyn Host,
        receipt: &Receipt,
        layout: &Layout,
        id: TunnelName,
        tunnel: &TunnelRecord,
    ) -> anyhow::Result<Self> {
        let key = receipt.key_type.unwrap_or(KeyType::Rsa);
        let Some(enrolled) = &tunnel.enrolled else {
            let mut target = Target::unknown(layout, key);
            target.tunnel = id;
            target.control_plane = tunnel.control_plane.to_string();
            target.display_name.clone_from(&tunnel.display_name);
            target.forward.target_host.clone_from(&tunnel.target_host);
            target.forward.target_port = tunnel.target_port.to_string();
            target.forward.way = way(tunnel.proxy_command.as_ref());
            let kept = tunnel.reach.proxy.as_deref();
            let proxy = web_proxy::for_address(host, &tunnel.control_plane, kept);
            let kept = proxy.filter(|proxy| proxy.variable.is_none());
            return Ok(Values {
                curl_proxy: kept.map_or_else(String::new, |proxy| format!(" --proxy {proxy}")),
                ..Self::of_target(&target, layout, key)
            });
        };
        let forward = Forward {
            way: way(tunnel.proxy_command.as_ref()),
            ..enrolled_forward(host, receipt, layout, id)?
        };
        let mut values = Self::new(&forward, layout, key);
        values.display_name.clone_from(&tunnel.display_name);
        values.control_plane = without_slash(tunnel.control_plane.as_str());
        values.tunnel = id;
        values.is_enrolled = true;
        values.known_hosts_lines = known_hosts::render(std::iter::once((id, &enrolled.server)))
            .lines()
            .map(str::to_owned)
            .collect();
        Ok(values)
    }

    /// The values of a tunnel of which the control plane has told what is to be reached.
    pub fn of_enrollment(
        control_plane: &url::Url,
        enrollment: &Enrollment,
        layout: &Layout,
        key: KeyType,
        proxy_command: Option<&ProxyCommand>,
    ) -> Self {
        let mut target = Target::new(control_plane, enrollment, layout, key);
        target.forward.way = way(proxy_command);
        Self::of_target(&target, layout, key)
    }

    pub fn unknown(layout: &Layout) -> Self {
        let key = KeyType::Rsa;
        Self::of_target(&Target::unknown(layout, key), layout, key)
    }

    fn of_target(target: &Target, layout: &Layout, key: KeyType) -> Self {
        let mut values = Self::new(&target.forward, layout, key);
        values.display_name.clone_from(&target.display_name);
        values.control_plane = without_slash(&target.control_plane);
        values.tunnel = target.tunnel;
        values
    }

    fn new(forward: &Forward, layout: &Layout, key: KeyType) -> Self {
        let log = layout.user_dir().join("tunnel.log");
        Values {
            display_name: String::new(),
            control_plane: String::new(),
            curl_proxy: String::new(),
            tunnel: TunnelName::unknown(),
            is_enrolled: false,
            private_key: forward.private_key.to_string_lossy().into_owned(),
            known_hosts: forward.known_hosts.to_string_lossy().into_owned(),
            known_hosts_lines: vec![format!("{} <host-key>", TunnelName::unknown().slug())],
            keygen_command: keys::keygen(key, &forward.private_key, "holistics-tunnel").to_string(),
            ssh_command: ssh_command(forward).to_string(),
            autossh_command: autossh_command("autossh", forward, &log).to_string(),
            server_user: forward.server_user.clone(),
            server_host: forward.server_host.clone(),
            server_port: forward.server_port.clone(),
            remote_port: forward.remote_port.clone(),
            target_host: forward.target_host.clone(),
            target_port: forward.target_port.clone(),
            proxy_command: match &forward.way {
                Way::Command(command) => Some(command.to_string()),
                Way::Direct | Way::Settings(_) => None,
            },
        }
    }
}

/// The command itself, which a guide shows in the place of the file that holds it.
fn way(proxy_command: Option<&ProxyCommand>) -> Way {
    match proxy_command.filter(|command| !command.is_none()) {
        Some(command) => Way::Command(command.clone()),
        None => Way::Direct,
    }
}

fn without_slash(address: &str) -> String {
    address.trim_end_matches('/').to_owned()
}

pub fn render(system: GuideFor, values: &Values) -> anyhow::Result<String> {
    Ok(match system {
        GuideFor::Linux => Linux { v: values }.render()?,
        GuideFor::Macos => Macos { v: values }.render()?,
        GuideFor::Windows => Windows { v: values }.render()?,
    })
}
