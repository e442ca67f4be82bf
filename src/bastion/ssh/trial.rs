//! ssh tried as far as it comes without a key: what it is, what it takes, and whether it and the tunnel server
//! agree, before anything is promised on its behalf.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::Forward;
use crate::bastion::failure::Failure;
use crate::bastion::host::{CommandError, Host};

/// How long ssh may take to connect to one address, and to agree on the keys.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take in all.
const LIMIT: Duration = Duration::from_secs(40);

/// Has ssh go this forward's way up to the login, with the tunnel's own arguments, and returns what it said.
pub fn run(host: &dyn Host, forward: &Forward) -> Result<String, CommandError> {
    let command = forward
        .ssh(forward.trial_arguments(CONNECT_TIMEOUT))
        .timeout(LIMIT);
    Ok(host.run(&command)?.stderr)
}

/// How far ssh came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No SSH server was heard.
    Unheard,
    /// One was, and the line was lost before a host key was seen.
    Lost,
    /// One was, and ssh has refused what it has to offer.
    Refused,
    /// Everything was agreed on, and the line was lost before the login.
    Agreed,
    /// The server has answered a login.
    Login,
}

/// What `ssh -v` has said. Its lines are in English wherever it runs, and those that are looked for stand so in
/// every OpenSSH since 6.5.
pub struct Heard<'s>(pub &'s str);

impl<'s> Heard<'s> {
    pub fn stage(&self) -> Stage {
        let has = |sign: &str| self.0.contains(sign);
        if has("debug1: Authentications that can continue:") {
            Stage::Login
        } else if self.host_key().is_some() {
            Stage::Agreed
        } else if self.version().is_none() {
            Stage::Unheard
        } else if has("debug1: SSH2_MSG_KEXINIT received") && !has("expecting SSH2_MSG_KEX") {
            // Both have said what they know, and ssh has begun nothing with it.
            Stage::Refused
        } else {
            let words = self.last_words();
            let losses = ["losed", "reset", "imed out", "imeout", "Broken pipe"];
            if words.is_empty() || losses.iter().any(|loss| words.contains(loss)) {
                Stage::Lost
            } else {
                // Such as a host key that is too short for it.
                Stage::Refused
            }
        }
    }

    /// What the server has called itself.
    pub fn version(&self) -> Option<&'s str> {
        let (_, rest) = self.0.split_once("remote software version ")?;
        rest.lines().next().map(str::trim)
    }

    /// `ssh-ed25519 SHA256:…`; before 6.8, a hash that is no longer used.
    pub fn host_key(&self) -> Option<&'s str> {
        let mut lines = self.0.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix("debug1: Server host key: "))
    }

    /// What ssh and a proxy command have to say for people.
    pub fn last_words(&self) -> String {
        let lines = self.0.lines().map(str::trim);
        let lines: Vec<&str> = lines
            .filter(|line| !line.is_empty() && !line.starts_with("debug"))
            // The key may not be there yet.
            .filter(|line| !line.starts_with("OpenSSH_") && !line.starts_with("Warning: "))
            // Behind a proxy command ssh knows no address.
            .filter(|line| !line.contains("UNKNOWN port"))
            .collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

/// Whether a server shows another key than these, `ssh-ed25519 AAAA…`. Of a type of which none is known, that
/// cannot be told: ssh asks for the types that are pinned.
pub fn is_another(shown: &str, known: &[String]) -> bool {
    let Some((kind, "SHA256", shown)) = shown
        .split_once(' ')
        .and_then(|(kind, hash)| hash.split_once(':').map(|(name, hash)| (kind, name, hash)))
    else {
        return false;
    };
    let of_its_kind = known.iter().filter_map(|key| key.split_once(' '));
    let mut hashes = of_its_kind
        .filter(|(known, _)| *known == kind)
        .filter_map(|(_, key)| STANDARD.decode(key).ok())
        .map(|key| STANDARD_NO_PAD.encode(Sha256::digest(key)))
        .peekable();
    hashes.peek().is_some() && hashes.all(|hash| hash != shown)
}

/// A server that shows another key than the one that was announced.
pub fn mismatch(server: &str) -> Failure {
    Failure::new(
        format!(
            "host key mismatch: {server} does not show the key that the control plane announced"
        ),
        "stop here: either something intercepts the connection to the tunnel server, or the vendor has changed its \
         key. Ask the vendor; if it did, the same command pins the new key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETED: &str = "OpenSSH_9.2p1 Debian-2, OpenSSL 3.0.19\n\
                           debug1: Remote protocol version 2.0, remote software version x_1\n";
    const RECEIVED: &str = "debug1: SSH2_MSG_KEXINIT sent\ndebug1: SSH2_MSG_KEXINIT received\n";
    const EXPECTING: &str = "debug1: expecting SSH2_MSG_KEX_ECDH_REPLY\n";
    const SHOWN: &str = "debug1: Server host key: ssh-ed25519 SHA256:abc\n";

    #[test]
    fn how_far_ssh_came_is_told_from_what_it_says() {
        let cases = [
            (
                "ssh: connect to host x port 1: Connection refused\n".to_owned(),
                Stage::Unheard,
            ),
            (
                format!("{GREETED}kex_exchange_identification: read: Connection reset by peer\n"),
                Stage::Lost,
            ),
            (
                format!("{GREETED}{RECEIVED}{EXPECTING}Connection closed by 10.0.0.1 port 22\n"),
                Stage::Lost,
            ),
            (
                // Before 7.2.
                format!("{GREETED}{RECEIVED}Unable to negotiate a key exchange method\n"),
                Stage::Refused,
            ),
            (
                format!(
                    "{GREETED}{RECEIVED}Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. \
                     Their offer: ssh-ed25519\n"
                ),
                Stage::Refused,
            ),
            (
                format!("{GREETED}{RECEIVED}{EXPECTING}Bad server host key: Invalid key length\n"),
                Stage::Refused,
            ),
            (
                format!("{GREETED}{RECEIVED}{EXPECTING}{SHOWN}Connection closed by 10.0.0.1\n"),
                Stage::Agreed,
            ),
            (
                format!(
                    "{GREETED}{RECEIVED}{EXPECTING}{SHOWN}debug1: Authentications that can continue: publickey\n\
                     tunnel@x: Permission denied (publickey).\n"
                ),
                Stage::Login,
            ),
        ];
        for (said, stage) in cases {
            assert_eq!(Heard(&said).stage(), stage, "{said}");
        }
        assert_eq!(Heard(GREETED).version(), Some("x_1"));
        let refused = "OpenSSH_9.2p1\ndebug1: x\nNcat: Proxy returned status code 403.\nkex_exchange: closed\n";
        assert_eq!(
            Heard(refused).last_words(),
            "Ncat: Proxy returned status code 403.; kex_exchange: closed"
        );
    }

    #[test]
    fn a_key_is_another_s_where_one_of_its_type_is_known() {
        // As `ssh-keygen -l` shows this one.
        let known = [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
                .to_owned(),
        ];
        let own = "ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU";
        assert!(!is_another(own, &known), "GitHub's own");
        assert!(is_another("ssh-ed25519 SHA256:abc", &known));
        assert!(!is_another("ssh-rsa SHA256:abc", &known));
        assert!(!is_another("ED25519 0a:1b", &known));
        assert!(!is_another("ssh-ed25519 SHA256:abc", &[]));
    }
}
