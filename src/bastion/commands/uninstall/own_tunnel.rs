//! Whether the person's own session came to this host through one of its tunnels.

use crate::bastion::host::Host;

/// Whether the SSH session in which this program runs seems to come through a tunnel that leads to this port.
///
/// sshd tells where a session comes from. One that comes from this host itself, to the port that
/// the tunnel leads to, was most likely carried here by the tunnel's ssh. A session that came by way
/// of a second host cannot be told.
pub(super) fn carries_this_session(host: &dyn Host, target_port: u16) -> bool {
    let Some(connection) = host.env("SSH_CONNECTION") else {
        return false;
    };
    let words: Vec<&str> = connection.split_whitespace().collect();
    let [client, _, server, port] = words[..] else {
        return false;
    };
    let is_own_host = client == server
        || client == "::1"
        || client.starts_with("127.")
        || client.starts_with("::ffff:127.");
    is_own_host && port == target_port.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    #[test]
    fn a_session_from_this_very_host_to_the_tunnel_s_port_came_through_it() {
        for (connection, port, through) in [
            ("127.0.0.1 51000 127.0.0.1 22", 22, true),
            ("::1 51000 ::1 22", 22, true),
            ("10.0.0.5 51000 10.0.0.5 22", 22, true),
            ("127.0.0.1 51000 127.0.0.1 22", 5432, false),
            ("10.0.0.9 51000 10.0.0.5 22", 22, false),
            ("nonsense", 22, false),
        ] {
            let host = ScriptedHost::new();
            host.set_env("SSH_CONNECTION", connection);
            assert_eq!(carries_this_session(&host, port), through, "{connection}");
        }
        assert!(!carries_this_session(&ScriptedHost::new(), 22));
    }
}
