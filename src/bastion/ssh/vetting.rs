//! What a control plane may put into an ssh command line or `known_hosts`.
//!
//! Its answers are trusted to name a server, not to run a command: a user called
//! `-oProxyCommand=…` would be an option, and a key with a line break another server's key.

use anyhow::ensure;

use crate::bastion::failure::Failure;
use crate::protocol::{Enrollment, TunnelServerAddress};

/// The longest name DNS allows, and more than any address needs.
const LONGEST_NAME: usize = 253;

/// Vets what an enrollment leads to: the database, and the tunnel server.
pub fn check_enrollment(enrollment: &Enrollment) -> anyhow::Result<()> {
    ensure!(
        is_host(&enrollment.host),
        refused("database host", &enrollment.host)
    );
    enrollment.server.as_ref().map_or(Ok(()), check_server)
}

/// Vets a new database host, wherever it comes from.
pub fn check_target_host(host: &str) -> anyhow::Result<()> {
    ensure!(
        is_host(host),
        Failure::usage(
            format!("{host:?} is not a valid database host; nothing was changed"),
            "give a DNS name or an IP address, in the browser or with --host",
        )
    );
    Ok(())
}

/// Vets the tunnel server's address and keys.
pub fn check_server(server: &TunnelServerAddress) -> anyhow::Result<()> {
    ensure!(
        is_host(&server.host),
        refused("tunnel server", &server.host)
    );
    if let Some(other) = &server.other_host {
        ensure!(is_host(other), refused("tunnel server", other));
    }
    ensure!(
        is_user(&server.user),
        refused("user of the tunnel server", &server.user)
    );
    check_host_keys(&server.host_keys)
}

/// Vets the tunnel server's keys.
pub fn check_host_keys(keys: &[String]) -> anyhow::Result<()> {
    ensure!(!keys.is_empty(), refused("host key", "none at all"));
    for key in keys {
        ensure!(is_key(key), refused("host key", key));
    }
    Ok(())
}

fn refused(what: &str, value: &str) -> Failure {
    Failure::new(
        format!("the control plane sent an invalid {what}: {value:?}"),
        "stop here, and send this message to the vendor",
    )
}

fn is_host(name: &str) -> bool {
    let inner = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.unwrap_or(name);
    is_word(inner, "._:%-") && inner.len() <= LONGEST_NAME
}

fn is_user(name: &str) -> bool {
    is_word(name, "._-")
}

fn is_key(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    matches!(words[..], [kind, key] if is_word(kind, "@.-") && is_word(key, "+/="))
}

fn is_word(text: &str, punctuation: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> TunnelServerAddress {
        TunnelServerAddress {
            other_host: None,
            host: "tunnel.example.com".into(),
            port: 50022,
            user: "tunnel".into(),
            host_keys: vec!["ssh-ed25519 AAAAC3Nza+/=".into()],
        }
    }

    #[test]
    fn an_honest_server_is_accepted() {
        check_server(&server()).unwrap();
        for host in ["10.0.0.1", "fd00::1", "[fd00::1]", "db_1.internal"] {
            assert!(is_host(host), "{host}");
        }
    }

    #[test]
    fn what_ssh_would_take_for_an_option_or_a_second_line_is_refused() {
        for user in ["-oProxyCommand=id", "", "a b", "a\nb"] {
            assert!(
                check_server(&TunnelServerAddress {
                    user: user.into(),
                    ..server()
                })
                .is_err(),
                "{user:?}"
            );
        }
        for host in ["-F/tmp/x", "a b", "a;b", "$(id)", "a@b", "a\n"] {
            assert!(
                check_server(&TunnelServerAddress {
                    host: host.into(),
                    ..server()
                })
                .is_err(),
                "{host:?}"
            );
        }
        for key in [
            "ssh-ed25519",
            "ssh-ed25519 AAAA\nother ssh-rsa BBBB",
            "ssh-rsa AA' 'x",
            "@cert-authority * ssh-rsa AA",
        ] {
            let keys = vec![key.to_owned()];
            assert!(
                check_server(&TunnelServerAddress {
                    host_keys: keys,
                    ..server()
                })
                .is_err(),
                "{key:?}"
            );
        }
        assert!(
            check_server(&TunnelServerAddress {
                host_keys: vec![],
                ..server()
            })
            .is_err()
        );
    }
}
