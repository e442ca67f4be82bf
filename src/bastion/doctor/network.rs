//! Names and connections as the checks look at them: what a name was resolved to, and whether a port
//! that cannot be reached is closed, filtered or without a way to it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::check::{Checks, Finding, Subject};
use crate::bastion::failure::Interrupted;
use crate::bastion::host::{Connection, Host};
use crate::bastion::ssh::command_line::bracketed;

/// How long a name may take.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one address may take to accept, and to say its first words after that.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);
/// As many addresses as are tried, so that a check stays below ten seconds.
const MOST_ADDRESSES: usize = 2;

/// Why no connection came about.
#[derive(Debug)]
pub enum Unreached {
    /// The machine answers that nothing listens there.
    Refused(SocketAddr),
    /// No answer at all: a firewall drops the packets, or the machine is off.
    Silent(SocketAddr),
    /// This host has no way there.
    NoWay(SocketAddr, io::Error),
}

/// A connection that came about.
pub struct Reached {
    pub address: SocketAddr,
    pub connection: Box<dyn Connection>,
}

/// What is to be reached.
pub struct Endpoint<'a> {
    /// The names of its two checks.
    pub checks: [&'static str; 2],
    /// What it is, for people.
    pub what: &'a str,
    /// Its name or address.
    pub name: &'a str,
    pub port: u16,
}

impl Endpoint<'_> {
    /// Looks the name up, then connects. `found` may say more about the name.
    pub fn reach(
        &self,
        checks: &mut Checks,
        subject: &Subject,
        found: impl FnOnce(&mut Finding),
        remedy: impl FnOnce(&Unreached) -> String,
    ) -> Result<Option<Reached>, Interrupted> {
        let Endpoint { name, port, .. } = self;
        let [name_check, port_check] = self.checks;
        let mut addresses = None;
        checks.run(name_check, subject, &format!("the name {name}"), |host| {
            let (mut finding, resolved) = look_up(host, self.what, name, *port);
            found(&mut finding);
            addresses = resolved;
            finding
        })?;
        let mut reached = None;
        let waits_for = format!("a connection to {}:{port}", bracketed(name));
        checks.run(port_check, subject, &waits_for, |host| match &addresses {
            None => Finding::skip("its name has no address"),
            Some(addresses) => match reach(host, addresses) {
                Ok(connected) => {
                    let finding = Finding::pass(format!("{} takes connections", connected.address));
                    reached = Some(connected);
                    finding
                }
                Err(error) => Finding::fail(error.detail(), remedy(&error)),
            },
        })?;
        Ok(reached)
    }
}

/// Looks a name up and says what it found; `what` names the thing for people.
fn look_up(
    host: &dyn Host,
    what: &str,
    name: &str,
    port: u16,
) -> (Finding, Option<Vec<SocketAddr>>) {
    match host.resolve(name, port, NAME_TIMEOUT) {
        Ok(addresses) => (
            Finding::pass(describe(name, &addresses)),
            Some(preferred(addresses)),
        ),
        Err(error) => (no_name(what, name, &error), None),
    }
}

/// Once each, in the order in which the system gives them.
fn preferred(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut seen: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}

fn describe(name: &str, addresses: &[SocketAddr]) -> String {
    if bare(name).parse::<IpAddr>().is_ok() {
        return format!("{name} is an address and needs no name server");
    }
    let mut found: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    found.dedup();
    format!("{name} is {}", found.join(", "))
}

fn no_name(what: &str, name: &str, error: &io::Error) -> Finding {
    let text = error.to_string();
    if error.kind() == io::ErrorKind::TimedOut {
        return Finding::fail(
            format!(
                "no name server answered for {name} within {} s",
                NAME_TIMEOUT.as_secs()
            ),
            "look at the name servers in /etc/resolv.conf: this host must reach one of them on port 53",
        );
    }
    if text.contains("Temporary failure") || text.contains("Try again") {
        return Finding::fail(
            format!("no name server could tell the address of {name}"),
            "look at the name servers in /etc/resolv.conf: this host must reach one of them on port 53",
        );
    }
    Finding::fail(
        format!("the name {name} is not found ({text})"),
        format!(
            "try `getent hosts {name}`: the name of {what} is misspelt, or this host asks name servers that \
             do not know it"
        ),
    )
}

/// Connects to the first address that accepts.
///
/// # Errors
/// None does; a refusal counts for more than silence, since it tells more.
fn reach(host: &dyn Host, addresses: &[SocketAddr]) -> Result<Reached, Unreached> {
    let mut worst: Option<Unreached> = None;
    for address in addresses.iter().take(MOST_ADDRESSES) {
        let failed = match host.connect(*address, ADDRESS_TIMEOUT) {
            Ok(connection) => {
                return Ok(Reached {
                    address: *address,
                    connection,
                });
            }
            Err(error) => classify(*address, error),
        };
        worst = match worst {
            Some(Unreached::Refused(first)) => Some(Unreached::Refused(first)),
            Some(Unreached::Silent(first)) if !matches!(failed, Unreached::Refused(_)) => {
                Some(Unreached::Silent(first))
            }
            _ => Some(failed),
        };
    }
    Err(worst.unwrap_or_else(|| {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Unreached::NoWay(nowhere, io::ErrorKind::NotFound.into())
    }))
}

fn classify(address: SocketAddr, error: io::Error) -> Unreached {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Unreached::Refused(address),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Unreached::Silent(address),
        _ => Unreached::NoWay(address, error),
    }
}

impl Unreached {
    /// What was seen.
    fn detail(&self) -> String {
        match self {
            Unreached::Refused(address) => format!(
                "{address} is closed: the machine answers, and nothing listens on that port"
            ),
            Unreached::Silent(address) => format!(
                "{address} is filtered: no answer within {} s, so a firewall drops the packets or the machine is off",
                ADDRESS_TIMEOUT.as_secs()
            ),
            Unreached::NoWay(address, error) => {
                format!("this host has no way to {address}: {error}")
            }
        }
    }
}

/// An IPv6 address without its brackets.
fn bare(name: &str) -> &str {
    name.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::doctor::check::Outcome;
    use crate::bastion::host::scripted::{Listener, ScriptedHost};

    #[test]
    fn closed_filtered_and_open_are_told_apart() {
        let host = ScriptedHost::new();
        host.listen("10.0.0.2:1", Listener::Silent);
        host.listen("10.0.0.3:1", Listener::Says(Vec::new()));
        let at = |text: &str| vec![text.parse().unwrap()];
        let closed = reach(&host, &at("10.0.0.1:1")).err().unwrap().detail();
        assert!(closed.contains("closed"), "{closed}");
        let filtered = reach(&host, &at("10.0.0.2:1")).err().unwrap().detail();
        assert!(filtered.contains("filtered"), "{filtered}");
        assert!(reach(&host, &at("10.0.0.3:1")).is_ok());
    }

    #[test]
    fn a_second_address_is_tried_and_a_refusal_tells_more_than_silence() {
        let host = ScriptedHost::new();
        host.listen("10.0.0.2:1", Listener::Silent);
        host.listen("10.0.0.3:1", Listener::Says(Vec::new()));
        let both = |a: &str, b: &str| vec![a.parse().unwrap(), b.parse().unwrap()];
        let reached = reach(&host, &both("10.0.0.1:1", "10.0.0.3:1"))
            .ok()
            .unwrap();
        assert_eq!(reached.address, "10.0.0.3:1".parse().unwrap());
        let refused = reach(&host, &both("10.0.0.2:1", "10.0.0.1:1"));
        assert!(matches!(refused, Err(Unreached::Refused(_))));
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_from_one_that_does() {
        let host = ScriptedHost::new();
        host.name("db.internal", "10.0.0.1");
        let (finding, addresses) = look_up(&host, "the database", "db.internal", 5432);
        assert_eq!(finding.detail, "db.internal is 10.0.0.1");
        assert_eq!(addresses.unwrap(), ["10.0.0.1:5432".parse().unwrap()]);
        let (finding, addresses) = look_up(&host, "the database", "bd.internal", 5432);
        assert_eq!(finding.outcome, Outcome::Fail);
        assert!(addresses.is_none());
        assert!(finding.remedy.unwrap().contains("getent hosts bd.internal"));
    }
}
