//! The vendor's tunnel server: its name, its port, whether SSH answers there, its host key, and whether
//! it accepts this host's.

use super::check::{Checks, Finding, Outcome, Subject};
use super::login;
use super::network::{Endpoint, Reached, Unreached};
use crate::bastion::failure::Interrupted;
use crate::bastion::host::{CommandError, HostExt as _};
use crate::bastion::ssh::greeting::{self, Greeting};
use crate::bastion::ssh::{Forward, Way, proxy_command};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::TunnelServerAddress;

/// Looks at a tunnel server. `revoked` is why its login need not be tried, `announced` a tunnel whose control
/// plane announces a host key that is not pinned.
pub fn examine(
    checks: &mut Checks,
    server: &TunnelServerAddress,
    forward: &Forward,
    revoked: Option<&str>,
    announced: Option<TunnelName>,
) -> Result<(), Interrupted> {
    let subject = Subject::shared(format!("Tunnel server {}:{}", server.host, server.port));
    if forward.way != Way::Direct {
        let speaks = examine_way(checks, &subject, forward)?;
        return examine_login(checks, &subject, forward, speaks, revoked, announced);
    }
    let endpoint = Endpoint {
        checks: ["server-name", "server-tcp"],
        what: "the tunnel server",
        name: &server.host,
        port: server.port,
    };
    let reached = endpoint.reach(checks, &subject, |_| {}, |error| tcp_remedy(error, server))?;
    let speaks = checks.run(
        "server-ssh",
        &subject,
        "its SSH banner",
        |_| match reached {
            None => Finding::skip("it cannot be reached"),
            Some(reached) => banner(reached),
        },
    )?;
    examine_login(checks, &subject, forward, speaks, revoked, announced)
}

/// The same three checks where ssh goes through a proxy command: what lies behind that, this host cannot see.
fn examine_way(
    checks: &mut Checks,
    subject: &Subject,
    forward: &Forward,
) -> Result<Outcome, Interrupted> {
    const WHY: &str = "ssh goes through a proxy command, which connects in its place";
    for check in ["server-name", "server-tcp"] {
        checks.run(check, subject, "", |_| Finding::skip(WHY))?;
    }
    checks.run("server-ssh", subject, "its SSH banner", |host| {
        if host.which("ssh").is_none() {
            return Finding::skip("ssh is not installed");
        }
        match proxy_command::greeting(host, forward) {
            Ok(version) => Finding::pass(format!(
                "it speaks SSH through the proxy command ({version})"
            )),
            Err(error) => Finding::fail(
                match error {
                    CommandError::Status { stderr, .. } => {
                        format!("no SSH server answers through the proxy command: {stderr}")
                    }
                    error => error.to_string(),
                },
                "look at the proxy (its log says why); if it has moved, run the setup command from the browser again, \
                 with --proxy-command if need be",
            ),
        }
    })
}

fn tcp_remedy(error: &Unreached, server: &TunnelServerAddress) -> String {
    let TunnelServerAddress { host, port, .. } = server;
    match error {
        Unreached::Refused(_) => format!(
            "ask the vendor whether the tunnel server runs; if it does, a firewall on the way refuses TCP to \
             {host} port {port}: allow it"
        ),
        _ => format!(
            "allow outbound TCP from this host to {host} port {port} in the firewall; where only a \
             web proxy leads out, run the setup command from the browser again with --proxy-command"
        ),
    }
}

fn banner(mut reached: Reached) -> Finding {
    let allow = "look whether a firewall on the way lets SSH pass to this port: it takes the connection and stops \
                 what is said on it";
    match greeting::read(reached.connection.as_mut()) {
        Greeting::Ssh(version) => Finding::pass(format!("it speaks SSH ({version})")),
        Greeting::HungUp => {
            Finding::fail("it takes the connection and hangs up without a word", allow)
        }
        Greeting::Silence => Finding::fail("it takes the connection and says nothing", allow),
        Greeting::Other(said) => Finding::fail(
            format!("it does not speak SSH, but says: {said}"),
            "something else answers at this address: look at what the name leads to, and ask the vendor",
        ),
    }
}

fn examine_login(
    checks: &mut Checks,
    subject: &Subject,
    forward: &Forward,
    speaks: Outcome,
    revoked: Option<&str>,
    announced: Option<TunnelName>,
) -> Result<(), Interrupted> {
    let mut key = Finding::skip("the server's host key was not checked");
    checks.run(
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
            let login = login::attempt(host, forward, announced);
            key = login.key;
            login.host_key
        },
    )?;
    if let Some(reason) = revoked
        && key.outcome == Outcome::Fail
    {
        key = Finding::skip(reason);
    }
    checks.run("server-key", subject, "", |_| key)?;
    Ok(())
}
