//! Which peers count as one: an address of IPv4, or a network of IPv6 that one subscriber is given.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// One IPv4 address, or the 64 bits of an IPv6 address that name its network: whoever has one IPv6
/// address has all the others of that network, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerNetwork(IpAddr);

impl PeerNetwork {
    /// That of this address.
    pub fn of(peer: IpAddr) -> Self {
        PeerNetwork(match peer.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        })
    }
}

impl fmt::Display for PeerNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str) -> String {
        PeerNetwork::of(peer.parse().unwrap()).to_string()
    }

    #[test]
    fn a_subscriber_s_addresses_are_one_and_others_are_others() {
        assert_eq!(of("203.0.113.7"), "203.0.113.7");
        assert_eq!(of("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
    }
}
