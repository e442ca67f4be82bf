//! Which other nodes hold which tunnel, and which other nodes there are: a table in memory.
//!
//! It is set as a whole, as a level and not a log, by whoever learns it; a connection that has to be passed on
//! is looked up here and waits for nothing else. This node's own sessions are not in it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::protocol::TunnelId;

/// What a certificate is known by: the SHA-256 of its DER.
pub type CertificateHash = [u8; 32];

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its name.
    pub node: String,
    pub region: String,
    /// Where it listens for other nodes, `HOST:PORT`.
    pub address: String,
    /// The certificate that it shows.
    pub certificate: CertificateHash,
    /// Whether it is about to end: others are preferred.
    pub draining: bool,
}

/// How a node is reached: its address, and the certificate that it shows there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reach {
    certificate: CertificateHash,
    address: String,
}

impl Peer {
    pub fn reach(&self) -> Reach {
        Reach {
            certificate: self.certificate,
            address: self.address.clone(),
        }
    }
}

/// A tunnel that other nodes hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub tunnel: TunnelId,
    /// Its port, in the region of those who hold it.
    pub port: u16,
    /// Whether that is this node's region, so that the port is to be listened on here.
    pub is_here: bool,
    /// Who holds it; one that nobody holds is as good as absent.
    pub peers: Vec<Arc<Peer>>,
}

/// The table. Copies are the same one.
#[derive(Debug, Clone, Default)]
pub struct Holders(Arc<State>);

#[derive(Debug, Default)]
struct State {
    held: RwLock<AllHeld>,
    known: RwLock<HashSet<CertificateHash>>,
    /// Told when other ports are to be listened on, or for other tunnels.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct AllHeld {
    /// A tunnel that moves from one region to another may be held in both.
    by_place: HashMap<(TunnelId, u16), Held>,
    /// The ports of this node's region.
    here: HashMap<u16, TunnelId>,
}

impl Holders {
    /// From now on, these are the tunnels that other nodes hold, and no others.
    pub fn replace(&self, held: Vec<Held>) {
        let held = held.into_iter().filter(|held| !held.peers.is_empty());
        let by_place: HashMap<_, _> = held.map(|held| ((held.tunnel, held.port), held)).collect();
        let here = by_place.values().filter(|held| held.is_here);
        let new = AllHeld {
            here: here.map(|held| (held.port, held.tunnel)).collect(),
            by_place,
        };
        let mut now = self.0.held.write().unwrap_or_else(PoisonError::into_inner);
        let ports_are_the_same = now.here == new.here;
        *now = new;
        drop(now);
        if !ports_are_the_same {
            self.0.changed.send_replace(());
        }
    }

    /// From now on, these are the other nodes, also those that hold nothing and that nobody can reach: nobody else
    /// may pass a connection on to this one.
    pub fn replace_peers(&self, certificates: impl IntoIterator<Item = CertificateHash>) {
        let new = certificates.into_iter().collect();
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// Every node that holds something, once for each way to reach it.
    pub fn peers_of_all(&self) -> Vec<Arc<Peer>> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut seen = HashSet::new();
        let all = held.by_place.values().flat_map(|held| &held.peers);
        all.filter(|peer| seen.insert(peer.reach()))
            .cloned()
            .collect()
    }

    /// Whether a node with this certificate is one of ours.
    pub fn knows(&self, certificate: &CertificateHash) -> bool {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(certificate)
    }

    /// Who else holds a tunnel with this port.
    pub fn of(&self, tunnel: TunnelId, port: u16) -> Vec<Arc<Peer>> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        let found = held.by_place.get(&(tunnel, port));
        found.map_or_else(Vec::new, |held| held.peers.clone())
    }

    /// The tunnel that somebody else holds with this port of this node's region.
    pub fn tunnel_with(&self, port: u16) -> Option<TunnelId> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        held.here.get(&port).copied()
    }

    /// The ports of this node's region that are held elsewhere, and for which tunnel.
    pub fn ports(&self) -> Vec<(u16, TunnelId)> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        let here = held.here.iter();
        here.map(|(port, tunnel)| (*port, *tunnel)).collect()
    }

    /// Tells when the answer of [`Holders::ports`] is another one.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Arc<Peer> {
        Arc::new(Peer {
            node: name.to_owned(),
            region: "here".to_owned(),
            address: format!("{name}:1"),
            certificate: [name.as_bytes()[0]; 32],
            draining: false,
        })
    }

    fn held(tunnel: i64, port: u16, peers: &[&str]) -> Held {
        Held {
            tunnel: TunnelId(tunnel),
            port,
            is_here: true,
            peers: peers.iter().map(|name| peer(name)).collect(),
        }
    }

    #[test]
    fn a_port_of_another_region_is_not_listened_on_and_leads_to_its_tunnel_all_the_same() {
        let holders = Holders::default();
        let mut changes = holders.changes();
        let far = |tunnel, port| Held {
            is_here: false,
            ..held(tunnel, port, &["far"])
        };
        holders.replace(vec![far(1, 20_000)]);
        assert!(!changes.has_changed().unwrap());
        holders.replace(vec![far(1, 20_000), held(2, 20_000, &["near"])]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(holders.ports(), [(20_000, TunnelId(2))]);
        assert_eq!(holders.tunnel_with(20_000), Some(TunnelId(2)));
        assert_eq!(holders.of(TunnelId(1), 20_000)[0].node, "far");
        assert_eq!(holders.of(TunnelId(2), 20_000)[0].node, "near");
    }

    #[test]
    fn a_change_is_told_where_other_ports_are_held_or_for_other_tunnels() {
        let holders = Holders::default();
        let mut changes = holders.changes();
        let mut is_told = |held: Vec<Held>| {
            holders.replace(held);
            let told = changes.has_changed().unwrap();
            changes.mark_unchanged();
            told
        };
        assert!(is_told(vec![held(1, 20_000, &["a"])]));
        assert!(!is_told(vec![held(1, 20_000, &["a", "b"])]));
        assert!(is_told(vec![held(2, 20_000, &["a"])]));
        assert!(is_told(vec![held(2, 20_001, &["a"])]));
        assert!(is_told(vec![held(2, 20_001, &[])]), "nobody holds it");
        assert!(!is_told(Vec::new()));
    }

    #[test]
    fn a_port_is_another_tunnel_s_or_none_and_each_peer_is_named_once() {
        let holders = Holders::default();
        holders.replace(vec![
            held(1, 20_000, &["a", "b"]),
            held(2, 20_001, &["b"]),
            held(3, 20_002, &[]),
        ]);
        assert_eq!(holders.of(TunnelId(1), 20_000).len(), 2);
        assert!(holders.of(TunnelId(2), 20_000).is_empty());
        assert_eq!(holders.tunnel_with(20_001), Some(TunnelId(2)));
        assert_eq!(holders.tunnel_with(20_002), None);
        assert_eq!(holders.peers_of_all().len(), 2);
    }
}
