//! The values of the guides for a setup by hand, as this host knows them.
//!
//! Their commands come from the same places as those that setup runs, with this tunnel's values in
//! them as far as they are known.

use super::host::Host;
use super::layout::Layout;
use super::plan::Target;
use super::receipt::{Receipt, TunnelRecord};
use super::ssh::command_line::Forward;
use super::ssh::{KeyType, ProxyCommand, Way, keys};
use super::steps::temporary_tunnel::enrolled_forward;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::web_proxy;
use crate::manual::Values;
use crate::protocol::Enrollment;

/// The values of a tunnel in the receipt, the server's answer among them if it is enrolled.
pub fn of_tunnel(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    id: TunnelName,
    tunnel: &TunnelRecord,
) -> anyhow::Result<Values> {
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
            ..of_target(&target, key)
        });
    };
    let forward = Forward {
        way: way(tunnel.proxy_command.as_ref()),
        ..enrolled_forward(host, receipt, layout, id)?
    };
    Ok(Values {
        display_name: tunnel.display_name.clone(),
        control_plane: without_slash(tunnel.control_plane.as_str()),
        number: id.to_string(),
        is_enrolled: true,
        host_keys: enrolled.server.host_keys.clone(),
        ..of_forward(&forward, key)
    })
}

/// The values of a tunnel of which the control plane has told what is to be reached.
pub fn of_enrollment(
    control_plane: &url::Url,
    enrollment: &Enrollment,
    layout: &Layout,
    key: KeyType,
    proxy_command: Option<&ProxyCommand>,
) -> Values {
    let mut target = Target::new(control_plane, enrollment, layout, key);
    target.forward.way = way(proxy_command);
    of_target(&target, key)
}

/// Those of no tunnel in particular.
pub fn unknown(layout: &Layout) -> Values {
    let key = KeyType::Rsa;
    of_target(&Target::unknown(layout, key), key)
}

fn of_target(target: &Target, key: KeyType) -> Values {
    Values {
        display_name: target.display_name.clone(),
        control_plane: without_slash(&target.control_plane),
        number: target.tunnel.to_string(),
        ..of_forward(&target.forward, key)
    }
}

fn of_forward(forward: &Forward, key: KeyType) -> Values {
    let host_keys = if forward.host_keys.is_empty() {
        vec!["<host-key>".to_owned()]
    } else {
        forward.host_keys.clone()
    };
    Values {
        display_name: String::new(),
        control_plane: String::new(),
        curl_proxy: String::new(),
        number: TunnelName::unknown().to_string(),
        is_enrolled: false,
        private_key: forward.private_key.to_string_lossy().into_owned(),
        known_hosts: forward.known_hosts.to_string_lossy().into_owned(),
        keygen_command: keys::keygen(key, &forward.private_key, "holistics-tunnel").to_string(),
        ssh_arguments: forward.ssh_arguments(),
        ssh_environment: forward.environment(),
        host_key_alias: forward.host_key_alias.clone(),
        host_keys,
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
