//! The proxies that may say for whom they speak, and what follows from what they say.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// What stands in front of this server: reverse proxies, load balancers.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whoever has an address in one of these.
    pub fn new(networks: Vec<IpNet>) -> Self {
        TrustedProxies(networks)
    }

    /// Whether this address is one of theirs.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Who is behind a connection, by the lines of `X-Forwarded-For`: from right to left, as far as each
    /// step was written down by a proxy that is trusted. The rest may be anybody's invention.
    pub fn client<'l>(
        &self,
        peer: IpAddr,
        lines: impl DoubleEndedIterator<Item = &'l str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for step in lines.rev().flat_map(|line| line.rsplit(',')) {
            match forwarded_for(step.trim()) {
                Some(before) if self.trusts(client) => client = before.to_canonical(),
                _ => break,
            }
        }
        client
    }
}

/// An address, with a port or without.
fn forwarded_for(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip()).ok();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// Reads a network, or an address that stands for itself alone.
///
/// # Errors
/// A sentence that says what is expected.
pub fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| alone()).map_err(|_| {
        format!("{text:?} is not a network, such as 10.0.0.0/8 or fd00::/8, nor an address")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8", "127.0.0.1"];
        let networks = trusted.map(|text| network(text).unwrap());
        let proxies = TrustedProxies::new(networks.to_vec());
        let peer = peer.parse().unwrap();
        proxies.client(peer, lines.iter().copied()).to_string()
    }

    #[test]
    fn the_client_is_whom_the_last_stranger_in_the_row_of_proxies_was() {
        assert_eq!(client("10.1.1.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("::ffff:10.1.1.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("10.1.1.1", &["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(client("fd00::1", &["[2001:db8::1]:9"]), "2001:db8::1");
        assert_eq!(client("fd00::1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(
            client("127.0.0.1", &["1.1.1.1, 203.0.113.7, 10.9.9.9"]),
            "203.0.113.7"
        );
        assert_eq!(
            client("127.0.0.1", &["1.1.1.1", "203.0.113.7, 10.9.9.9"]),
            "203.0.113.7"
        );
    }

    #[test]
    fn what_a_stranger_claims_is_nothing() {
        assert_eq!(client("198.51.100.1", &["203.0.113.7"]), "198.51.100.1");
        assert_eq!(client("10.1.1.1", &["10.2.2.2, nonsense"]), "10.1.1.1");
        assert_eq!(client("10.1.1.1", &["nonsense, 10.2.2.2"]), "10.2.2.2");
        assert_eq!(client("10.1.1.1", &["", ","]), "10.1.1.1");
        assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn a_network_is_written_as_people_do() {
        for good in ["10.0.0.0/8", "10.0.0.1", "::1", "fd00::/8"] {
            assert!(network(good).is_ok(), "{good}");
        }
        for wrong in ["", "10.0.0.0/33", "proxy.internal", "10.0.0"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
