//! The vendor's tunnel server: its name, its port, whether SSH answers there, its host key, and whether
//! it accepts this host's.

use std::io;

use super::check::{Examination, Finding, Outcome, Subject};
use super::login;
use super::network::{self, Reached, Unreached};
use crate::bastion::failure::Interrupted;
use crate::bastion::host::HostExt as _;
use crate::bastion::ssh::Forward;
use crate::protocol::TunnelServerAddress;

/// The longest banner that RFC 4253 allows, and room for the lines that may come before it.
const MOST_BANNER: usize = 2048;

/// Looks at a tunnel server. `revoked` is why its login need not be tried.
pub fn examine(
    examination: &mut Examination,
    server: &TunnelServerAddress,
    forward: &Forward,
    revoked: Option<&str>,
) -> Result<(), Interrupted> {
    let subject = Subject::shared(format!("Tunnel server {}:{}", server.host, server.port));
    let mut addresses = None;
    examination.check(
        "server-name",
        &subject,
        &format!("the name {}", server.host),
        |host| {
            let (finding, found) =
                network::look_up(host, "the tunnel server", &server.host, server.port);
            addresses = found;
            finding
        },
    )?;
    let mut reached = None;
    examination.check(
        "server-tcp",
        &subject,
        &format!("a connection to {}:{}", server.host, server.port),
        |host| match &addresses {
            None => Finding::skip("its name has no address"),
            Some(addresses) => match network::reach(host, addresses) {
                Ok(found) => {
                    let finding = Finding::pass(format!("{} takes connections", found.address));
                    reached = Some(found);
                    finding
                }
                Err(error) => Finding::fail(error.detail(), tcp_remedy(&error, server)),
            },
        },
    )?;
    let speaks = examination.check(
        "server-ssh",
        &subject,
        "its SSH banner",
        |_| match reached {
            None => Finding::skip("it cannot be reached"),
            Some(reached) => banner(reached),
        },
    )?;
    examine_login(examination, &subject, forward, speaks, revoked)
}

fn tcp_remedy(error: &Unreached, server: &TunnelServerAddress) -> String {
    let TunnelServerAddress { host, port, .. } = server;
    match error {
        Unreached::Refused(_) => format!(
            "ask the vendor whether the tunnel server runs; if it does, a firewall on the way refuses TCP to \
             {host} port {port}: allow it"
        ),
        _ => format!(
            "allow outbound TCP from this host to {host} port {port} in the firewall; SSH does not go through \
             a web proxy"
        ),
    }
}

fn banner(mut reached: Reached) -> Finding {
    let mut said = Vec::new();
    let mut buffer = [0; 256];
    let mut hung_up = false;
    while said.len() < MOST_BANNER && version_line(&said).is_none() {
        match reached.connection.read(&mut buffer) {
            Ok(0) => {
                hung_up = true;
                break;
            }
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                hung_up = error.kind() != io::ErrorKind::TimedOut;
                break;
            }
        }
    }
    if let Some(version) = version_line(&said) {
        return Finding::pass(format!("it speaks SSH ({version})"));
    }
    let allow = "look whether a firewall on the way lets SSH pass to this port: it takes the connection and stops \
                 what is said on it";
    match (said.is_empty(), hung_up) {
        (true, true) => Finding::fail("it takes the connection and hangs up without a word", allow),
        (true, false) => Finding::fail("it takes the connection and says nothing", allow),
        (false, _) => Finding::fail(
            format!(
                "it does not speak SSH, but says: {}",
                String::from_utf8_lossy(&said[..said.len().min(60)])
            ),
            "something else answers at this address: look at what the name leads to, and ask the vendor",
        ),
    }
}

/// `SSH-2.0-…`, on a line of its own, once it is whole.
fn version_line(said: &[u8]) -> Option<String> {
    let whole = &said[..said.iter().rposition(|byte| *byte == b'\n')?];
    whole
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"SSH-"))
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
}

fn examine_login(
    examination: &mut Examination,
    subject: &Subject,
    forward: &Forward,
    speaks: Outcome,
    revoked: Option<&str>,
) -> Result<(), Interrupted> {
    let mut key = Finding::skip("the server's host key was not checked");
    examination.check(
        "server-host-key",
        subject,
        "a login with this host's key",
        |host| {
            let missing = [
                (&forward.private_key, "the private key"),
                (&forward.known_hosts, "the pinned host keys"),
            ]
            .into_iter()
            .find(|(path, _)| !host.exists(path));
            let not_tried = if speaks != Outcome::Pass {
                Some("SSH does not answer".to_owned())
            } else if host.which("ssh").is_none() {
                Some("ssh is not installed".to_owned())
            } else {
                missing.map(|(path, what)| format!("{what} ({}) is not there", path.display()))
            };
            if let Some(reason) = not_tried {
                key = Finding::skip(reason.clone());
                return Finding::skip(reason);
            }
            let login = login::attempt(host, forward);
            key = login.key;
            login.host_key
        },
    )?;
    if let Some(reason) = revoked
        && key.outcome == Outcome::Fail
    {
        key = Finding::skip(reason);
    }
    examination.check("server-key", subject, "", |_| key)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::{Listener, ScriptedHost};
    use std::time::Duration;

    fn banner_of(listener: Listener) -> Finding {
        let host = ScriptedHost::new();
        let address = "10.0.0.1:50022";
        host.listen(address, listener);
        let address = address.parse().unwrap();
        let connection = host.connect(address, Duration::from_secs(1)).unwrap();
        banner(Reached {
            address,
            connection,
        })
    }

    #[test]
    fn ssh_is_told_from_silence_and_from_a_web_server() {
        let ssh = banner_of(Listener::Says(b"hello\r\nSSH-2.0-x\r\n".to_vec()));
        assert_eq!(ssh.detail, "it speaks SSH (SSH-2.0-x)");
        let web = banner_of(Listener::HangsUp(b"HTTP/1.1 400 Bad Request\r\n".to_vec()));
        assert!(web.detail.contains("HTTP/1.1 400"), "{web:?}");
        let silent = banner_of(Listener::Says(Vec::new()));
        assert!(silent.detail.contains("says nothing"), "{silent:?}");
        let dropped = banner_of(Listener::HangsUp(Vec::new()));
        assert!(dropped.detail.contains("hangs up"), "{dropped:?}");
    }

    #[test]
    fn an_endless_banner_is_not_read_for_ever() {
        let endless = banner_of(Listener::Says(vec![b'x'; 1_000_000]));
        assert_eq!(endless.outcome, Outcome::Fail);
    }
}
