//! The pinned host keys of the tunnel servers, in OpenSSH's `known_hosts` format.
//!
//! They come from the control plane over its authenticated channel, so that the very first
//! connection is checked already. The file is made anew from the receipt whenever a tunnel comes or
//! goes; nobody else writes in it.

use std::collections::BTreeMap;

use crate::protocol::TunnelServerAddress;

/// The port without which a name stands in `known_hosts` as it is.
const DEFAULT_SSH_PORT: u16 = 22;

/// `known_hosts` for these servers. Where one stands twice, its later keys count: a key that the
/// vendor has replaced must not stay good.
pub fn render<'a>(servers: impl Iterator<Item = &'a TunnelServerAddress>) -> String {
    let keys_by_server: BTreeMap<String, &Vec<String>> = servers
        .map(|server| (host_pattern(&server.host, server.port), &server.host_keys))
        .collect();
    keys_by_server
        .iter()
        .flat_map(|(name, keys)| keys.iter().map(move |key| format!("{name} {key}\n")))
        .collect()
}

/// How `known_hosts` names a server: `[name]:port` unless the port is 22.
pub fn host_pattern(host: &str, port: u16) -> String {
    if port == DEFAULT_SSH_PORT {
        host.to_owned()
    } else {
        format!("[{host}]:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16, key: &str) -> TunnelServerAddress {
        TunnelServerAddress {
            host: host.into(),
            port,
            user: "tunnel".into(),
            host_keys: vec![key.into()],
        }
    }

    #[test]
    fn every_server_is_pinned_and_a_replaced_key_is_not() {
        let servers = [
            server("one", 22, "ssh-ed25519 OLD"),
            server("two", 50022, "ssh-ed25519 TWO"),
            server("one", 22, "ssh-ed25519 NEW"),
        ];
        assert_eq!(
            render(servers.iter()),
            "[two]:50022 ssh-ed25519 TWO\none ssh-ed25519 NEW\n"
        );
    }
}
