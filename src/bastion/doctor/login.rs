//! A login at the tunnel server with this host's key: what `ssh -v` says about it, told apart.

use std::time::Duration;

use super::check::Finding;
use crate::bastion::failure::Failure;
use crate::bastion::host::{CommandError, Host};
use crate::bastion::ssh::trial::{Heard, Stage};
use crate::bastion::ssh::{Forward, client};
use crate::bastion::tunnel_name::TunnelName;

/// How long ssh may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// How long it may take in all.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of a login.
pub struct Login {
    /// About the server's key.
    pub host_key: Finding,
    /// About this host's.
    pub key: Finding,
}

/// Logs in and leaves; the tunnel's own session is not touched, since no port is asked for. `announced` is a
/// tunnel whose control plane announces a host key that is not pinned.
pub fn attempt(host: &dyn Host, forward: &Forward, announced: Option<TunnelName>) -> Login {
    let command = forward
        .ssh(forward.login_arguments(CONNECT_TIMEOUT))
        .timeout(LOGIN_TIMEOUT);
    match host.run(&command) {
        Ok(output) if Heard(&output.stderr).stage() == Stage::Unheard => {
            match client::fault(host, forward) {
                Ok(Some(fault)) => Login::refused_here(fault),
                _ => judge(&output.stderr, announced),
            }
        }
        Ok(output) => judge(&output.stderr, announced),
        Err(CommandError::Timeout { .. }) => Login::undecided(format!(
            "the login did not end within {} s",
            LOGIN_TIMEOUT.as_secs()
        )),
        Err(error) => Login::undecided(error.to_string()),
    }
}

impl Login {
    fn undecided(detail: String) -> Self {
        let remedy = "run it again; if it stays, check whether a firewall on the way holds SSH up, and ask the vendor";
        Login {
            host_key: Finding::fail(detail, remedy),
            key: Finding::skip("the login did not get that far"),
        }
    }

    /// It is this host's ssh that does not do it.
    fn refused_here(fault: Failure) -> Self {
        Login {
            host_key: Finding::fail(fault.what, fault.next),
            key: Finding::skip("the login did not get that far"),
        }
    }

    fn stopped_at_the_host_key(host_key: Finding) -> Self {
        Login {
            host_key,
            key: Finding::skip("the server's host key was not accepted"),
        }
    }
}

/// Reads ssh's words; OpenSSH has said them so since 6.5.
fn judge(said: &str, announced: Option<TunnelName>) -> Login {
    let has = |sign: &str| said.contains(sign);
    let heard = Heard(said);
    let shown = heard
        .host_key()
        .map_or_else(String::new, |key| format!(" (it shows {key})"));
    if let Some(tunnel) = announced.filter(|_| has("Host key verification failed")) {
        return Login::stopped_at_the_host_key(Finding::fail(
            format!(
                "the server's host key is not the pinned one{shown}, and the control plane announces another"
            ),
            format!(
                "run `holistics-tunnel update-tunnel {tunnel}`, which pins what the control plane announces; if the key \
                 shown here is refused after that, ask the vendor"
            ),
        ));
    }
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return Login::stopped_at_the_host_key(Finding::fail(
            format!("the server's host key is not the pinned one{shown}"),
            "do not go on and pin nothing by hand: either something stands between this host and the tunnel server, \
             or the vendor has changed its key. Ask the vendor, with the key shown here",
        ));
    }
    if has("host key is known for") {
        return Login::stopped_at_the_host_key(Finding::fail(
            format!("no key of this server is pinned in ~/.holistics/known_hosts{shown}"),
            "run the setup command from the browser again, which writes that file anew; if that does not help, ask the \
             vendor whether its keys have changed, with the key shown here",
        ));
    }
    if has("Host key verification failed") {
        return Login::stopped_at_the_host_key(Finding::fail(
            format!("the server's host key is not accepted{shown}"),
            "ask the vendor whether it has changed its key, with the key shown here",
        ));
    }
    if heard.stage() == Stage::Refused {
        return Login::refused_here(client::refused(&heard.last_words()));
    }
    let host_key = Finding::pass(format!("it is the pinned one{shown}"));
    if has("Authenticated to ") || has("Authentication succeeded") {
        return Login {
            host_key,
            key: Finding::pass("the server accepts this host's key"),
        };
    }
    if has("UNPROTECTED PRIVATE KEY FILE") || has("bad permissions") {
        return Login {
            host_key,
            key: Finding::fail(
                "ssh refuses the private key: others can read it",
                "run `chmod 600` on the private key in ~/.holistics",
            ),
        };
    }
    if has("Permission denied") {
        return Login {
            host_key,
            key: Finding::fail(
                "the server does not accept this host's key",
                "look at the data source in the browser: it was deleted or its key revoked, or the key pair in \
                 ~/.holistics was replaced after setup",
            ),
        };
    }
    Login::undecided(match heard.last_words() {
        words if words.is_empty() => "ssh exited without a message".to_owned(),
        words => format!("ssh says: {words}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::doctor::check::Outcome;

    #[test]
    fn each_way_a_login_ends_is_told_apart() {
        let shown = "debug1: Server host key: ssh-ed25519 SHA256:abc\n";
        let cases = [
            (
                "debug1: Authenticated to x ([10.0.0.1]:50022) using \"publickey\".",
                Outcome::Pass,
                Outcome::Pass,
            ),
            (
                "Authenticated to x ([10.0.0.1]:50022) using \"publickey\".",
                Outcome::Pass,
                Outcome::Pass,
            ),
            (
                "debug1: Authentication succeeded (publickey).",
                Outcome::Pass,
                Outcome::Pass,
            ),
            (
                "tunnel@x: Permission denied (publickey).",
                Outcome::Pass,
                Outcome::Fail,
            ),
            (
                "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\ntunnel@x: Permission denied (publickey).",
                Outcome::Pass,
                Outcome::Fail,
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                Outcome::Fail,
                Outcome::Skip,
            ),
            (
                "No ED25519 host key is known for [x]:50022 and you have requested strict checking.\nHost key verification failed.",
                Outcome::Fail,
                Outcome::Skip,
            ),
            (
                "kex_exchange_identification: read: Connection reset by peer",
                Outcome::Fail,
                Outcome::Skip,
            ),
            ("", Outcome::Fail, Outcome::Skip),
        ];
        for (said, host_key, key) in cases {
            let login = judge(&format!("{shown}{said}\n"), None);
            assert_eq!(
                (login.host_key.outcome, login.key.outcome),
                (host_key, key),
                "{said}"
            );
        }
    }

    #[test]
    fn a_changed_key_is_shown_so_that_the_vendor_can_compare_it() {
        let login = judge(
            "debug1: Server host key: ssh-ed25519 SHA256:abc\nREMOTE HOST IDENTIFICATION HAS CHANGED\n",
            None,
        );
        assert!(login.host_key.detail.contains("ssh-ed25519 SHA256:abc"));
    }

    #[test]
    fn a_key_that_the_control_plane_may_know_of_is_taken_from_there_and_any_other_never() {
        const SAID: &str =
            "REMOTE HOST IDENTIFICATION HAS CHANGED\nHost key verification failed.\n";
        let remedy = |announced| judge(SAID, announced).host_key.remedy.unwrap_or_default();
        let announced = remedy(Some("vendor.example-7".parse().unwrap()));
        assert!(announced.contains("update-tunnel 7"), "{announced}");
        assert!(!remedy(None).contains("update-tunnel"), "{}", remedy(None));
    }
}
