//! The pinned host keys of the tunnel servers, in OpenSSH's `known_hosts` format.
//!
//! They come from the control plane over its authenticated channel, so that the very first
//! connection is checked already. The file is made anew from the receipt whenever a tunnel comes or
//! goes; nobody else writes in it. Each tunnel's keys stand under the tunnel's own name, so that what one
//! vendor says of a server means nothing to another's tunnel.

use std::collections::BTreeMap;

use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::TunnelServerAddress;
use crate::ssh_line::host_pattern;

/// `known_hosts` for these tunnels' servers. Where a server stands twice under one name, its later keys
/// count: a key that the vendor has replaced must not stay good.
pub fn render<'a>(servers: impl Iterator<Item = (TunnelName, &'a TunnelServerAddress)>) -> String {
    let keys_by_name: BTreeMap<String, &Vec<String>> = servers
        .map(|(tunnel, server)| {
            let name = tunnel.host_key_alias();
            let name = name.unwrap_or_else(|| host_pattern(&server.host, &server.port.to_string()));
            (name, &server.host_keys)
        })
        .collect();
    keys_by_name
        .iter()
        .flat_map(|(name, keys)| keys.iter().map(move |key| format!("{name} {key}\n")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16, key: &str) -> TunnelServerAddress {
        TunnelServerAddress {
            host: host.into(),
            other_host: None,
            port,
            user: "tunnel".into(),
            host_keys: vec![key.into()],
        }
    }

    #[test]
    fn what_one_vendor_says_of_a_server_is_pinned_for_its_own_tunnel() {
        let (one, two) = (
            server("10.0.0.1", 22, "ssh-ed25519 ONE"),
            server("10.0.0.1", 22, "ssh-ed25519 TWO"),
        );
        let servers = [("a.example-7", &one), ("b.example-7", &two)];
        let servers = servers.map(|(name, server)| (name.parse().unwrap(), server));
        assert_eq!(
            render(servers.into_iter()),
            "a.example-7 ssh-ed25519 ONE\nb.example-7 ssh-ed25519 TWO\n"
        );
    }

    #[test]
    fn of_tunnels_with_a_former_name_every_server_is_pinned_and_a_replaced_key_is_not() {
        let servers = [
            server("one", 22, "ssh-ed25519 OLD"),
            server("two", 50022, "ssh-ed25519 TWO"),
            server("one", 22, "ssh-ed25519 NEW"),
        ];
        let servers = servers.iter().map(|server| ("7".parse().unwrap(), server));
        assert_eq!(
            render(servers),
            "[two]:50022 ssh-ed25519 TWO\none ssh-ed25519 NEW\n"
        );
    }
}
