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
    /// Its region.
    pub region: String,
    /// Where it listens for other nodes, `HOST:PORT`.
    pub address: String,
    /// The certificate that it shows.
    pub certificate: CertificateHash,
    /// Whether it is about to end: others are preferred.
    pub draining: bool,
}

/// A tunnel that other nodes hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub tunnel: TunnelId,
    /// Its port.
    pub port: u16,
    /// Who holds it; one that nobody holds is as good as absent.
    pub peers: Vec<Arc<Peer>>,
}

/// The table. Copies are the same one.
#[derive(Debug, Clone, Default)]
pub struct Holders(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// By the port.
    held: RwLock<HashMap<u16, Held>>,
    known: RwLock<HashSet<CertificateHash>>,
    /// Told when other ports are held, or for other tunnels.
    changed: watch::Sender<()>,
}

impl Holders {
    /// From now on, these are the tunnels that other nodes hold, and no others.
    pub fn replace(&self, held: Vec<Held>) {
        let held = held.into_iter().filter(|held| !held.peers.is_empty());
        let new: HashMap<u16, Held> = held.map(|held| (held.port, held)).collect();
        let mut now = self.0.held.write().unwrap_or_else(PoisonError::into_inner);
        let ports_are_the_same = now.len() == new.len()
            && new.iter().all(|(port, held)| {
                now.get(port)
                    .is_some_and(|former| former.tunnel == held.tunnel)
            });
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

    /// Every node that holds something, once.
    pub fn peers_of_all(&self) -> Vec<Arc<Peer>> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut seen = HashSet::new();
        let all = held.values().flat_map(|held| &held.peers);
        all.filter(|peer| seen.insert(peer.certificate))
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
        let found = held.get(&port).filter(|held| held.tunnel == tunnel);
        found.map_or_else(Vec::new, |held| held.peers.clone())
    }

    /// The tunnel that somebody else holds with this port.
    pub fn tunnel_with(&self, port: u16) -> Option<TunnelId> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(&port).map(|held| held.tunnel)
    }

    /// The ports that are held elsewhere, and for which tunnel.
    pub fn ports(&self) -> Vec<(u16, TunnelId)> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .map(|(port, held)| (*port, held.tunnel))
            .collect()
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
            peers: peers.iter().map(|name| peer(name)).collect(),
        }
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
