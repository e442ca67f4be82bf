//! `X-Forwarded-For`: nobody is believed who is not a proxy of ours.

use std::net::IpAddr;

use holistics_tunnel::server::domain::proxies::{TrustedProxies, network};

use crate::fields::text;

pub fn run(input: &[u8]) {
    let Some((peer, lines)) = input.split_first() else {
        return;
    };
    let networks = ["10.0.0.0/8", "fd00::/8", "127.0.0.1"].map(|text| network(text).unwrap());
    let proxies = TrustedProxies::new(networks.to_vec());
    let peers = [
        "10.1.1.1",
        "::ffff:10.1.1.1",
        "fd00::1",
        "127.0.0.1",
        "198.51.100.1",
    ];
    let peer: IpAddr = peers[usize::from(*peer) % peers.len()].parse().unwrap();
    let lines = text(lines);
    let lines: Vec<&str> = lines.split('\n').collect();

    let client = proxies.client(peer, lines.iter().copied());
    let peer = peer.to_canonical();
    if !proxies.trusts(peer) {
        assert_eq!(client, peer, "a stranger is believed");
    }
    if !proxies.trusts(client) {
        // What stands further to the left is the client's own word.
        let claimed = ["203.0.113.66", "10.6.6.6"].into_iter().chain(lines);
        assert_eq!(
            proxies.client(peer, claimed),
            client,
            "a client is believed"
        );
    }
    let _ = network(&text(input));
}
