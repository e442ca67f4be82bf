//! How the server reaches the database: through a tunnel, or by itself.
//!
//! Either ends in one address, and every connection of the test goes to exactly that one. Resolving a
//! name again would let its owner answer differently once the first answer was found harmless.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::off_limits::{self, OffLimits};
use super::report::Failure;
use crate::protocol::PROGRAM;

/// The way to the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route {
    /// Through the tunnel's port.
    Tunnel {
        /// Where that port listens.
        through: SocketAddr,
        /// Whether the tunnel's own session is up.
        is_up: bool,
        /// Whether a person holds it up, without our program.
        by_hand: bool,
    },
    /// The server connects by itself.
    Direct {
        /// A name or an address; IPv6 without brackets.
        host: String,
        port: u16,
        /// Whether addresses of the server's own machine may be tested. Otherwise whoever fills in the form
        /// could reach services there that trust the machine they run on.
        loopback_allowed: bool,
    },
}

impl Route {
    /// The name of the stage that [`Self::find`] is.
    pub(super) fn stage(&self) -> &'static str {
        match self {
            Route::Tunnel { .. } => "tunnel",
            Route::Direct { .. } => "dns",
        }
    }

    /// Where to connect.
    pub(super) async fn find(&self) -> Result<SocketAddr, Failure> {
        match self {
            Route::Tunnel {
                through,
                is_up: true,
                ..
            } => Ok(*through),
            Route::Tunnel { by_hand, .. } => Err(tunnel_is_down(*by_hand)),
            Route::Direct {
                host,
                port,
                loopback_allowed,
            } => resolve(host, *port, *loopback_allowed).await,
        }
    }

    /// Whether it may lead to the server's own machine.
    pub(super) fn may_lead_to_own_machine(&self) -> bool {
        match self {
            Route::Tunnel { .. } => true,
            Route::Direct {
                loopback_allowed, ..
            } => *loopback_allowed,
        }
    }

    /// What [`Self::find`] has found, for people.
    pub(super) fn found(&self, address: SocketAddr) -> String {
        match self {
            Route::Tunnel { .. } => "the tunnel's session is up".to_owned(),
            Route::Direct { host, .. } => match host.parse::<IpAddr>() {
                Ok(_) => format!("{host} is an address that may be connected to"),
                Err(_) => format!("{host} is {}", address.ip()),
            },
        }
    }
}

fn tunnel_is_down(by_hand: bool) -> Failure {
    let remedy = if by_hand {
        "On its machine, start ssh as the guide on this page says; what it prints names the reason."
            .to_owned()
    } else {
        format!(
            "On the bastion: run the setup command again, or if the service is installed, \
             `sudo service h_autossh restart`, and look at `{PROGRAM} doctor`."
        )
    };
    Failure::new("no session of this tunnel is connected", remedy)
}

/// How long an address may take to accept a connection before the next one is tried, and how many are.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_TRIED: usize = 4;

/// The address of a host that answers. All are looked at: a name that has one address inside and one outside is
/// refused whatever their order is.
async fn resolve(host: &str, port: u16, loopback_allowed: bool) -> Result<SocketAddr, Failure> {
    let addresses: Vec<_> = lookup_host((host, port))
        .await
        .map_err(|error| no_address(host, &error.to_string()))?
        .collect();
    for address in &addresses {
        check(host, address.ip(), loopback_allowed)?;
    }
    let found = first_that_answers(&addresses).await;
    found.ok_or_else(|| no_address(host, "it has none"))
}

/// As every client of a database looks for it: of several addresses some may lead nowhere from here, and a database may
/// listen at one alone. The last is not asked; what keeps it away is told by the next stage.
async fn first_that_answers(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let (last, others) = addresses.split_last()?;
    for address in others.iter().take(MOST_TRIED) {
        let connecting = timeout(PATIENCE, TcpStream::connect(address));
        if matches!(connecting.await, Ok(Ok(_))) {
            return Some(*address);
        }
    }
    Some(*last)
}

fn no_address(host: &str, reason: &str) -> Failure {
    Failure::new(
        format!("no address was found for {host}: {reason}"),
        "Check the spelling of the host. If only the customer's own network knows it, use a tunnel.",
    )
}

/// Refuses an address that a direct connection does not go to.
pub(super) fn check(host: &str, address: IpAddr, loopback_allowed: bool) -> Result<(), Failure> {
    let what = match off_limits::why(address) {
        None => return Ok(()),
        Some(OffLimits::OwnMachine) if loopback_allowed => return Ok(()),
        Some(OffLimits::OwnMachine) => "an address of this server's own machine",
        Some(OffLimits::Surroundings) => {
            "an address of this server's nearest surroundings, where clouds serve credentials to their machines"
        }
        Some(OffLimits::Nobody) => "an address of no single machine",
    };
    Err(Failure::new(
        format!("{host} is {address}, {what}, which is not tested"),
        "Give the address under which the database is reached from outside, or use a tunnel.",
    ))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn direct(host: &str, loopback_allowed: bool) -> Route {
        Route::Direct {
            host: host.to_owned(),
            port: 5432,
            loopback_allowed,
        }
    }

    #[tokio::test]
    async fn a_direct_connection_does_not_go_to_the_servers_own_machine() {
        for host in [
            "localhost",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            // As inet_aton reads them.
            "0x7f000001",
            "0177.0.0.1",
            "2130706433",
            "127.1",
        ] {
            let refused = direct(host, false).find().await.unwrap_err();
            assert!(
                refused.detail.contains("own machine"),
                "{host}: {refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_allows_the_own_machine_allows_nothing_else() {
        for (host, what) in [
            ("169.254.169.254", "surroundings"),
            ("fd00:ec2::254", "surroundings"),
            ("224.0.0.1", "no single machine"),
        ] {
            for loopback_allowed in [false, true] {
                let refused = direct(host, loopback_allowed).find().await.unwrap_err();
                assert!(refused.detail.contains(what), "{host}: {refused:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_direct_connection_goes_to_any_other_address_as_it_is_written() {
        for host in [
            "10.0.0.5",
            "198.51.100.7",
            "2001:db8::7",
            "fd12:3456::5",
            "::ffff:10.0.0.5",
        ] {
            let found = direct(host, false).find().await.unwrap();
            assert_eq!(found.ip(), host.parse::<IpAddr>().unwrap());
            assert_eq!(found.port(), 5432);
        }
    }

    #[tokio::test]
    async fn the_own_machine_can_be_allowed() {
        let route = direct("127.0.0.1", true);
        let found = route.find().await.unwrap();
        assert_eq!(found, "127.0.0.1:5432".parse().unwrap());
        let said = route.found(found);
        assert_eq!(said, "127.0.0.1 is an address that may be connected to");
        let name = direct("localhost", true);
        assert_eq!(name.found(found), "localhost is 127.0.0.1");
    }

    #[tokio::test]
    async fn of_several_addresses_the_one_that_answers_is_taken() {
        let listen = || TcpListener::bind("127.0.0.1:0");
        // Bound and gone again.
        let closed = listen().await.unwrap().local_addr().unwrap();
        let listener = listen().await.unwrap();
        let open = listener.local_addr().unwrap();
        for addresses in [[closed, open], [open, closed]] {
            assert_eq!(first_that_answers(&addresses).await, Some(open));
        }
        // Its refusal is told by what connects to it.
        assert_eq!(first_that_answers(&[closed]).await, Some(closed));
        assert_eq!(first_that_answers(&[]).await, None);
    }

    #[tokio::test]
    async fn a_host_that_does_not_exist_is_told_with_what_to_do() {
        // RFC 6761: no name under `invalid` exists.
        let failure = direct("nowhere.invalid", false).find().await.unwrap_err();
        assert!(failure.detail.contains("nowhere.invalid"), "{failure:?}");
        assert!(failure.remedy.contains("spelling"), "{failure:?}");
    }
}
