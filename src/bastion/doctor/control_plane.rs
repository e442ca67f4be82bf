//! The vendor's web server: its name, its port (or the proxy's before it), its certificate, its answer
//! and its clock; then whether it still knows a tunnel.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::certificate::{self, Trouble};
use super::check::{Checks, Finding, Outcome, Subject};
use super::network::{Endpoint, Unreached};
use crate::bastion::control_plane::{ApiError, Given, Health, is_gone};
use crate::bastion::failure::{Interrupted, OneLine};
use crate::bastion::host::Host;
use crate::bastion::receipt::TunnelRecord;
use crate::bastion::steps::host_keys;
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::web_proxy::{Proxy, for_address};
use crate::protocol::Tunnel;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// How far this host's clock may be off. TLS and logs on both sides rely on it.
const MOST_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What is known of a control plane once it was looked at.
pub struct Seen {
    subject: Subject,
    /// Why nothing can be asked of it; nothing where it answers.
    silent_because: Option<String>,
}

/// What a control plane says of a tunnel.
pub enum Known {
    /// It knows the tunnel.
    Tunnel(Box<Tunnel>),
    /// It was removed there, or its token is not accepted any more.
    Gone,
    /// It could not be asked.
    Unknown(String),
}

/// Looks at a control plane from the name to its clock.
pub fn examine(
    checks: &mut Checks,
    id: TunnelName,
    tunnel: &TunnelRecord,
    given: &Given,
) -> Result<Seen, Interrupted> {
    let address = &tunnel.control_plane;
    let subject = Subject::shared(format!(
        "Control plane {}",
        address.as_str().trim_end_matches('/')
    ));
    let mut seen = Seen {
        subject: subject.clone(),
        silent_because: None,
    };
    let proxy = for_address(checks.host, address, tunnel.reach.proxy.as_deref());
    if !connects(checks, &subject, address, proxy.as_ref(), id)? {
        seen.silent_because = Some("the control plane cannot be reached".to_owned());
        let others = ["control-plane-tls", "control-plane-http", "clock"];
        checks.skip(&others, &subject, "it cannot be reached")?;
        return Ok(seen);
    }
    let mut health = None;
    let tls = checks.run(
        "control-plane-tls",
        &subject,
        "the control plane's certificate",
        |host| {
            let result = tunnel
                .client_with(host, given, "")
                .map(|client| client.health(host, REQUEST_TIMEOUT));
            match result {
                Ok(result) => {
                    let finding = tls(id, tunnel, &result);
                    health = Some(result);
                    finding
                }
                Err(error) => Finding::fail(
                    OneLine(&error).to_string(),
                    "look who has changed the address in ~/.holistics/receipt.json; restore it from a backup",
                ),
            }
        },
    )?;
    let health = match (tls, health) {
        (Outcome::Fail, _) | (_, None) => {
            seen.silent_because = Some("the control plane cannot be trusted".to_owned());
            let others = ["control-plane-http", "clock"];
            checks.skip(&others, &subject, "its certificate is not accepted")?;
            return Ok(seen);
        }
        (_, Some(health)) => health,
    };
    let answers = checks.run("control-plane-http", &subject, "", |_| {
        http(&health, proxy.as_ref(), id)
    })?;
    if answers != Outcome::Pass {
        seen.silent_because = Some("the control plane gives no usable answer".to_owned());
    }
    checks.run("clock", &subject, "", |host| {
        match health.as_ref().ok().and_then(|health| health.date) {
            Some(date) => clock(host.now(), date),
            None => Finding::skip("the control plane does not say what time it has"),
        }
    })?;
    Ok(seen)
}

/// The name and the port, of the control plane or of the proxy before it.
fn connects(
    checks: &mut Checks,
    subject: &Subject,
    address: &Url,
    proxy: Option<&Proxy>,
    id: TunnelName,
) -> Result<bool, Interrupted> {
    let (what, host_name, port) = match proxy {
        Some(proxy) => ("the proxy", proxy.host.clone(), proxy.port),
        None => (
            "the control plane",
            address.host_str().unwrap_or_default().to_owned(),
            address.port_or_known_default().unwrap_or(443),
        ),
    };
    let endpoint = Endpoint {
        checks: ["control-plane-name", "control-plane-tcp"],
        what,
        name: &host_name,
        port,
    };
    let reached = endpoint.reach(
        checks,
        subject,
        |found| {
            if let Some(proxy) = proxy {
                found.detail = format!("through the proxy {}: {}", proxy.origin(), found.detail);
            }
        },
        |error| match proxy {
            Some(proxy) => proxy_remedy(proxy, id),
            None => tcp_remedy(error, &host_name, port),
        },
    )?;
    Ok(reached.is_some())
}

fn tcp_remedy(error: &Unreached, host_name: &str, port: u16) -> String {
    match error {
        Unreached::Refused(_) => format!(
            "ask the vendor whether its control plane runs; running tunnels go on without it ({host_name}:{port})"
        ),
        _ => format!(
            "allow outbound TCP from this host to {host_name} port {port} in the firewall, or set https_proxy if \
             this host reaches the web through a proxy"
        ),
    }
}

fn tls(id: TunnelName, tunnel: &TunnelRecord, health: &Result<Health, ApiError>) -> Finding {
    let address = &tunnel.control_plane;
    if address.scheme() != "https" {
        return Finding::skip("plain http, which is used to this machine itself only");
    }
    let cause = match health {
        Err(ApiError::Unreachable { cause, .. }) => cause,
        _ => return Finding::pass("its certificate is accepted"),
    };
    let name = address.host_str().unwrap_or_default();
    match certificate::trouble(cause) {
        None => Finding::skip("no TLS session was established; the next check says why"),
        Some(Trouble::UnknownAuthority) => Finding::fail(
            match tunnel.reach.authority {
                Some(_) => {
                    "the certificate authority that is kept does not fit the one that has signed its certificate"
                }
                None => "its certificate comes from an authority that this host does not trust",
            },
            format!(
                "if the vendor or your company uses a private authority, get its present certificate and have it kept: \
                 `holistics-tunnel update-tunnel {id} --ca-cert FILE`"
            ),
        ),
        Some(Trouble::Expired) => Finding::fail(
            "its certificate has expired, going by this host's clock",
            "compare `date -u` with the real time; if this host's clock is right, tell the vendor to renew the \
             certificate",
        ),
        Some(Trouble::NotYetValid) => Finding::fail(
            "its certificate is not valid yet, going by this host's clock",
            "set this host's clock (`date -u` shows it)",
        ),
        Some(Trouble::WrongName) => Finding::fail(
            format!("its certificate is for another name than {name}"),
            "check whether a proxy or a captive portal answers in its place; if not, tell the vendor",
        ),
        Some(Trouble::Other) => Finding::fail(
            format!("TLS fails: {}", OneLine(cause)),
            "check whether a proxy on the way breaks TLS; if not, tell the vendor, with this message",
        ),
    }
}

fn http(health: &Result<Health, ApiError>, proxy: Option<&Proxy>, id: TunnelName) -> Finding {
    match health {
        Ok(health) if (200..300).contains(&health.status) => Finding::pass("it answers"),
        Ok(health) => Finding::fail(
            format!("it answers with status {}", health.status),
            "tell the vendor; running tunnels go on without the control plane",
        ),
        Err(error) => {
            let said = match error {
                ApiError::Unreachable { cause, .. } => OneLine(cause).to_string(),
                other => other.to_string(),
            };
            Finding::fail(
                format!("it takes the connection and gives no answer: {said}"),
                match proxy {
                    // As the HTTP library says 407.
                    Some(proxy) if said.contains("proxy authorization required") => proxy_remedy(proxy, id),
                    Some(_) => {
                        "look into the proxy's log: it has to allow CONNECT to the control plane".to_owned()
                    }
                    None => {
                        "check whether a firewall on the way breaks the connection; if not, tell the vendor".to_owned()
                    }
                },
            )
        }
    }
}

fn clock(here: Timestamp, there: Timestamp) -> Finding {
    let skew = here.duration_since(there);
    let seconds = skew.as_secs().unsigned_abs();
    let side = if skew.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    if skew.abs() > MOST_SKEW {
        return Finding::fail(
            format!("this host's clock is {seconds} s {side} the control plane's"),
            "set this host's clock, and have it kept right: `sudo timedatectl set-ntp true`, or an NTP service",
        );
    }
    Finding::pass(format!("{seconds} s {side} the control plane's"))
}

impl Seen {
    /// Whether this tunnel's token is accepted, and what it stands for now.
    pub fn examine_tunnel(
        &self,
        checks: &mut Checks,
        id: TunnelName,
        tunnel: &TunnelRecord,
        given: &Given,
    ) -> Result<Known, Interrupted> {
        let mut known = Known::Unknown("the control plane was not asked".to_owned());
        let subject = self.subject.of(id);
        checks.run(
            "token",
            &subject,
            &format!("what it says of tunnel {id}"),
            |host| {
                let (finding, answer) = self.ask(host, id, tunnel, given);
                known = answer;
                finding
            },
        )?;
        Ok(known)
    }

    /// Whether the tunnel knows the host keys that the control plane announces: it would be locked out once
    /// the tunnel server shows one that it does not.
    pub fn examine_host_keys(
        &self,
        checks: &mut Checks,
        id: TunnelName,
        tunnel: &TunnelRecord,
        known: &Known,
    ) -> Result<(), Interrupted> {
        checks.run("host-keys", &self.subject.of(id), "", |_| match known {
            Known::Tunnel(answer) if answer.host_keys.is_empty() => {
                Finding::skip("the control plane is older, and announces none")
            }
            Known::Tunnel(answer) if host_keys::lacks(tunnel, answer) => Finding::fail(
                format!(
                    "the control plane announces a host key that is not pinned for tunnel {id}"
                ),
                format!(
                    "run `holistics-tunnel update-tunnel {id}`, which pins it; the tunnel runs on"
                ),
            ),
            Known::Tunnel(_) => Finding::pass("every host key that is announced is pinned"),
            Known::Gone => Finding::skip("the tunnel was removed in the browser"),
            Known::Unknown(reason) => Finding::skip(reason),
        })?;
        Ok(())
    }

    fn ask(
        &self,
        host: &dyn Host,
        id: TunnelName,
        tunnel: &TunnelRecord,
        given: &Given,
    ) -> (Finding, Known) {
        if let Some(reason) = &self.silent_because {
            return (Finding::skip(reason), Known::Unknown(reason.clone()));
        }
        let client = match tunnel.client(host, given) {
            Ok(Some(client)) => client,
            Ok(None) => {
                let reason = "it is not enrolled";
                return (Finding::skip(reason), Known::Unknown(reason.to_owned()));
            }
            Err(error) => return unusable(&error),
        };
        match client.tunnel_within(host, id, REQUEST_TIMEOUT) {
            Ok(answer) => (
                Finding::pass(format!(
                    "tunnel {id} is known, its token accepted ({})",
                    answer.state.into_str()
                )),
                Known::Tunnel(Box::new(answer)),
            ),
            Err(error) if is_gone(&error) => (
                Finding::fail(
                    format!("tunnel {id} was removed in the browser, or its token was revoked"),
                    format!(
                        "take it off this host with `holistics-tunnel uninstall-tunnel {id}`; to have it back, \
                         create the data source in the browser anew"
                    ),
                ),
                Known::Gone,
            ),
            Err(error) => unusable(&error.into()),
        }
    }
}

fn unusable(error: &anyhow::Error) -> (Finding, Known) {
    let said = OneLine(error).to_string();
    (
        Finding::fail(
            said.clone(),
            "try again in a minute; if it stays, tell the vendor",
        ),
        Known::Unknown(said),
    )
}

/// What to do about the proxy by which a control plane is reached.
fn proxy_remedy(proxy: &Proxy, id: TunnelName) -> String {
    match proxy.variable {
        Some(variable) => format!(
            "correct the proxy in {variable} (http://NAME:PASSWORD@PROXY:PORT), or unset it if this host needs none"
        ),
        None => format!(
            "set https_proxy to the present proxy (http://NAME:PASSWORD@PROXY:PORT), or no_proxy to * if this host \
             needs none, and have that kept: `holistics-tunnel update-tunnel {id}`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_by_more_than_five_minutes_fails() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        assert_eq!(clock(at(0), at(299)).outcome, Outcome::Pass);
        assert_eq!(clock(at(300), at(0)).outcome, Outcome::Pass);
        for skew in [-301_i64, 301] {
            let finding = clock(at(skew), at(0));
            assert_eq!(finding.outcome, Outcome::Fail);
            assert!(finding.detail.contains("301 s"), "{}", finding.detail);
        }
    }
}
