//! Where a direct connection does not go, however the address is written.
//!
//! Whoever fills in the form would reach there what trusts the machine or the network it runs in: the server's own
//! ports and all tenants' tunnels, and what clouds tell their machines. An IPv4 address inside an IPv6 one counts,
//! since a translator on the way takes it out again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// A port, for a question that has nothing to do with ports.
const ANY_PORT: u16 = 9;

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OffLimits {
    /// It is the server's own machine.
    OwnMachine,
    /// It leads to the nearest surroundings, where clouds serve credentials to their machines.
    Surroundings,
    /// It is no single machine's.
    Nobody,
}

/// Why this address is not connected to; nothing where it may be. The machine is asked for its addresses each time,
/// as they change while it runs.
pub(super) fn why(address: IpAddr) -> Option<OffLimits> {
    let address = address.to_canonical();
    let inside: Vec<_> = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(address) => embedded(address),
    };
    let inside = inside.into_iter().map(IpAddr::V4);
    inside.chain([address]).find_map(|address| {
        let own = || is_own(address).then_some(OffLimits::OwnMachine);
        by_its_kind(address).or_else(own)
    })
}

fn by_its_kind(address: IpAddr) -> Option<OffLimits> {
    match address {
        IpAddr::V4(address) => by_its_kind_v4(address),
        IpAddr::V6(address) => by_its_kind_v6(address),
    }
}

fn by_its_kind_v4(address: Ipv4Addr) -> Option<OffLimits> {
    match address.octets() {
        // All of 0.0.0.0/8 is "this host" (RFC 1122), and Linux connects some of it to loopback.
        [0 | 127, ..] => Some(OffLimits::OwnMachine),
        // 192.0.0.0/24 is for protocols between neighbours; Oracle has served metadata there.
        [169, 254, ..] | [192, 0, 0, _] => Some(OffLimits::Surroundings),
        // Azure's wire server; Alibaba's metadata.
        [168, 63, 129, 16] | [100, 100, 100, 200] => Some(OffLimits::Surroundings),
        [224..=239, ..] | [255, 255, 255, 255] => Some(OffLimits::Nobody),
        _ => None,
    }
}

fn by_its_kind_v6(address: Ipv6Addr) -> Option<OffLimits> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(OffLimits::OwnMachine);
    }
    if address.is_unicast_link_local() {
        return Some(OffLimits::Surroundings);
    }
    match address.segments() {
        // What AWS serves its machines; the metadata of Google, Oracle and Scaleway.
        [0xfd00, 0xec2, 0, 0, ..]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => Some(OffLimits::Surroundings),
        // The old IPv4-compatible form, which no network carries.
        [0, 0, 0, 0, 0, 0, ..] => Some(OffLimits::Nobody),
        _ if address.is_multicast() => Some(OffLimits::Nobody),
        _ => None,
    }
}

/// The IPv4 addresses to which an IPv6 address may lead by way of a translator or a tunnel.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let at_the_end = at([12, 13, 14, 15]);
    match address.segments() {
        // IPv4-compatible, and IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![at_the_end],
        // NAT64, under the well-known prefix (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![at_the_end],
        // NAT64, of a network's own below this (RFC 8215): how long its prefix is cannot be seen.
        [0x64, 0xff9b, 1, ..] => {
            let places = [
                [6, 7, 9, 10],
                [7, 9, 10, 11],
                [9, 10, 11, 12],
                [12, 13, 14, 15],
            ];
            let mut inside: Vec<_> = places.map(at).into();
            // Where there is nothing, there is no address.
            inside.retain(|address| address.octets()[0] != 0);
            inside
        }
        // 6to4.
        [0x2002, ..] => vec![at([2, 3, 4, 5])],
        // Teredo: its server, and its client, whose bits are turned over.
        [0x2001, 0, ..] => vec![at([4, 5, 6, 7]), Ipv4Addr::from_bits(!at_the_end.to_bits())],
        // ISATAP, below any prefix.
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => vec![at_the_end],
        _ => Vec::new(),
    }
}

/// Whether the kernel would lead a connection to this machine itself.
fn is_own(address: IpAddr) -> bool {
    is_of_an_interface(address) || leads_to_itself(address)
}

fn is_of_an_interface(address: IpAddr) -> bool {
    match getifaddrs() {
        Ok(interfaces) => interfaces
            .filter_map(|interface| ip(&interface.address?))
            .any(|own| own == address),
        // It may not ask the kernel for the list: a unit that leaves AF_NETLINK out, say.
        Err(_) => can_be_bound(address),
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip())))
}

/// Whether a socket can have this address. Where the kernel lets sockets have any (`ip_nonlocal_bind`), all count as
/// the machine's own.
fn can_be_bound(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether it is reached from itself: also so where it is of no interface, and a route alone makes it the machine's
/// own. Nothing is sent for it.
fn leads_to_itself(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, ANY_PORT))?;
        socket.local_addr()
    });
    // What cannot be reached leads nowhere.
    from.is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<OffLimits> {
        why(address.parse().unwrap())
    }

    #[test]
    fn this_machine_is_off_limits_in_every_notation() {
        for address in [
            "127.0.0.1",
            "127.8.9.10",
            "127.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "64:ff9b:1:7f:0:1::",
            "64:ff9b:1:0:7f:0:100::",
            "64:ff9b:1:abcd::127.0.0.1",
            "2002:7f00:1::",
            "2002:7f00:1::7f00:1",
            "2001:0:7f00:1::",
            "2001:0:c000:207:8000:63bf:80ff:fffe",
            "2001:db8::5efe:127.0.0.1",
            "2001:db8::200:5efe:127.0.0.1",
        ] {
            assert_eq!(of(address), Some(OffLimits::OwnMachine), "{address}");
        }
    }

    #[test]
    fn what_clouds_tell_their_machines_is_off_limits_in_every_notation() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.42.42",
            "169.254.0.23",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fe80::1",
            "febf::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::",
            "2001:db8::5efe:168.63.129.16",
            "64:ff9b::100.100.100.200",
        ] {
            assert_eq!(of(address), Some(OffLimits::Surroundings), "{address}");
        }
    }

    #[test]
    fn what_is_no_single_machine_s_is_off_limits() {
        for address in [
            "224.0.0.1",
            "239.1.2.3",
            "255.255.255.255",
            "ff02::1",
            "ff0e::1",
            "::ffff:224.0.0.1",
            "64:ff9b::255.255.255.255",
            "::10.0.0.5",
        ] {
            assert_eq!(of(address), Some(OffLimits::Nobody), "{address}");
        }
    }

    #[test]
    fn other_machines_are_not_also_behind_a_translator() {
        for address in [
            "10.200.0.5",
            "172.31.200.5",
            "192.168.200.5",
            "100.64.0.5",
            "198.51.100.7",
            "2001:db8::7",
            "fd12:3456::5",
            "fd00:42::5",
            "::ffff:10.200.0.5",
            "64:ff9b::10.200.0.5",
            "64:ff9b:1::10.200.0.5",
            "2002:c633:6407::1",
            "2001:db8::5efe:10.200.0.5",
        ] {
            assert_eq!(of(address), None, "{address}");
        }
    }

    #[test]
    fn both_ways_to_ask_for_the_machine_s_addresses_agree() {
        let interfaces = getifaddrs().unwrap();
        let own = interfaces.filter_map(|interface| ip(&interface.address?));
        // One of a link alone is bound with the name of the link.
        let own: Vec<_> = own
            .filter(|own| by_its_kind(*own) != Some(OffLimits::Surroundings))
            .collect();
        assert!(own.contains(&Ipv4Addr::LOCALHOST.into()), "{own:?}");
        for address in own {
            assert!(
                is_of_an_interface(address) && can_be_bound(address),
                "{address}"
            );
        }
        let other = "198.51.100.7".parse().unwrap();
        assert!(!is_of_an_interface(other) && !can_be_bound(other));
    }
}
