//! The vendor's tunnel server: its name, its port, whether SSH answers there, its host key, and whether
//! it accepts this host's.

use super::check::{Checks, Finding, Outcome, Subject};
use super::login;
use super::network::{Endpoint, Reached, Unreached};
use crate::bastion::failure::Interrupted;
use crate::bastion::host::{Host, HostExt as _};
use crate::bastion::ssh::command_line::bracketed;
use crate::bastion::ssh::greeting::{self, Greeting};
use crate::bastion::ssh::trial::{self, Heard};
use crate::bastion::ssh::{Forward, Way};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::web_proxy::{self, Proxy};
use crate::protocol::TunnelServerAddress;

/// Looks at a tunnel server. `kept` is the proxy that is kept for it, `revoked` is why its login need not be tried,
/// `announced` a tunnel whose control plane announces a host key that is not pinned.
pub fn examine(
    checks: &mut Checks,
    server: &TunnelServerAddress,
    forward: &Forward,
    kept: Option<&str>,
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
    let host = checks.host;
    let remedy = |error: &Unreached| match proxy_to(host, server, kept) {
        Some(proxy) => format!(
            "run the setup command from the browser again: it has ssh go through the proxy {proxy} {}, which leads there",
            proxy.origin()
        ),
        None => tcp_remedy(error, server),
    };
    let reached = endpoint.reach(checks, &subject, |_| {}, remedy)?;
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
        let said = match trial::run(host, forward) {
            Ok(said) => said,
            Err(error) => error.to_string(),
        };
        let heard = Heard(&said);
        match heard.version() {
            Some(version) => Finding::pass(format!(
                "it speaks SSH through the proxy command ({version})"
            )),
            None => Finding::fail(
                format!(
                    "no SSH server answers through the proxy command: {}",
                    heard.last_words()
                ),
                "look at the proxy (its log says why); if it has moved, run the setup command from the browser again, \
                 with --proxy-command if need be",
            ),
        }
    })
}

/// The proxy that leads to the tunnel server, where one does.
fn proxy_to(host: &dyn Host, server: &TunnelServerAddress, kept: Option<&str>) -> Option<Proxy> {
    let name = server.host.trim_matches(['[', ']']);
    let address = format!("https://{}:{}/", bracketed(name), server.port);
    let proxy = web_proxy::for_address(host, &address.parse().ok()?, kept)?;
    let leads = proxy.is_plain_http() && proxy.leads_to(host, name, server.port).is_ok();
    leads.then_some(proxy)
}

fn tcp_remedy(error: &Unreached, server: &TunnelServerAddress) -> String {
    let TunnelServerAddress { host, port, .. } = server;
    match error {
        Unreached::Refused(_) => format!(
            "ask the vendor whether the tunnel server runs; if it does, a firewall on the way refuses TCP to \
             {host} port {port}: allow it"
        ),
        _ => format!(
            "allow outbound TCP from this host to {host} port {port} in the firewall; where a web proxy is the only way out, run the setup command from the browser again with --proxy-command"
        ),
    }
}

fn banner(mut reached: Reached) -> Finding {
    let allow = "check whether a firewall on the way lets SSH pass to this port: it takes the connection and stops \
                 what is said on it";
    match greeting::read(reached.connection.as_mut()) {
        Greeting::Ssh(version) => Finding::pass(format!("it speaks SSH ({version})")),
        Greeting::HungUp => Finding::fail(
            "it accepts the connection and closes it without sending anything",
            allow,
        ),
        Greeting::Silence => Finding::fail("it accepts the connection and sends nothing", allow),
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
