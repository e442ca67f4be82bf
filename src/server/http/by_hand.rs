//! What a tunnel that is set up by hand has to be told: the values of its guides.

use super::view::{tunnel_server, wanted_place};
use crate::manual::Values;
use crate::protocol::TunnelByHand;
use crate::server::domain::ControlPlane;
use crate::server::store::Record;

/// Stands for the port until a key is registered.
const UNKNOWN_PORT: &str = "<remote-port>";

/// The values of a data source's guides; without a tunnel it has none.
pub fn values(control: &ControlPlane, record: &Record) -> Option<Values> {
    let tunnel = record.tunnel.as_ref()?;
    let place = wanted_place(control, tunnel);
    let (remote_port, server) = match place {
        Some(place) => (Some(place.remote_port), place.server),
        None => (None, tunnel_server(control, &tunnel.region)),
    };
    let mut values = Values {
        display_name: record.display_name.clone(),
        control_plane: control.public.url.clone(),
        number: tunnel.id.to_string(),
        is_enrolled: remote_port.is_some(),
        private_key: "~/.holistics/id_rsa".to_owned(),
        known_hosts: "~/.holistics/known_hosts".to_owned(),
        keygen_command:
            "ssh-keygen -q -t rsa -b 4096 -N '' -C holistics-tunnel -f ~/.holistics/id_rsa"
                .to_owned(),
        ssh_arguments: Vec::new(),
        ssh_environment: None,
        curl_proxy: String::new(),
        proxy_command: None,
        host_key_alias: None,
        host_keys: server.host_keys,
        server_user: server.user,
        server_host: server.host,
        server_port: server.port.to_string(),
        remote_port: remote_port.map_or_else(|| UNKNOWN_PORT.to_owned(), |port| port.to_string()),
        target_host: record.host.clone(),
        target_port: record.port.to_string(),
    };
    values.ssh_arguments = values.unix_arguments();
    Some(values)
}

/// The same for a program, once a key is registered.
pub fn answer(control: &ControlPlane, record: &Record) -> Option<TunnelByHand> {
    let values = values(control, record)?;
    let place = wanted_place(control, record.tunnel.as_ref()?)?;
    Some(TunnelByHand {
        tunnel_id: record.tunnel_id()?,
        remote_port: place.remote_port,
        server: place.server,
        known_hosts: values.known_hosts_lines(),
        ssh_command: values.ssh_command(),
    })
}
