//! The passing side of the link: asks another node to take a connection.
//!
//! A few connections to each node that holds something are kept open, so that a new one waits for one answer
//! and not for handshakes. A node that does not answer in time is suspect, and asked last, until it has
//! answered again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::identity::Identity;
use super::link::{ANSWER_TIME, Link, TURN_TIME};
use super::stream::PeerStream;
use super::tls;
use super::wire::{Answer, Request};
use crate::server::cluster::holders::{Holders, Peer, Reach};

/// How often the connections that are kept are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// Why a node has not answered.
#[derive(Debug, Error)]
pub enum NoAnswer {
    /// It has said nothing in time.
    #[error("no answer within {} ms", ANSWER_TIME.as_millis())]
    Late,
    /// It was not asked, since too many others have begun to.
    #[error("too many new connections to it: no turn for another within {} s", TURN_TIME.as_secs())]
    NoTurn,
    /// The connection failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// What a node has answered.
#[derive(Debug)]
pub enum Answered {
    /// It carries the connection.
    Accepted(PeerStream),
    /// It does not.
    Not(Answer),
}

/// The links to all other nodes.
pub struct PeerLinks {
    identity: Identity,
    holders: Holders,
    /// A node that has moved is another one to reach, with a link of its own.
    links: Mutex<HashMap<Reach, Arc<Link>>>,
    suspects: Gauge,
}

impl PeerLinks {
    /// To the nodes that are in the table; how many of them are suspect is shown in the gauge.
    pub fn new(identity: Identity, holders: Holders, suspects: Gauge) -> Arc<Self> {
        Arc::new(PeerLinks {
            identity,
            holders,
            links: Mutex::default(),
            suspects,
        })
    }

    /// What this node shows of itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether this node has not answered lately.
    pub fn is_suspect(&self, peer: &Peer) -> bool {
        let link = self.links().get(&peer.reach()).cloned();
        link.is_some_and(|link| link.is_suspect())
    }

    /// Asks a node to take a connection. It becomes suspect if it does not answer, and is not any more if it
    /// does.
    pub async fn ask(&self, peer: &Peer, request: &Request) -> Result<Answered, NoAnswer> {
        self.link(peer)?.ask(request).await
    }

    /// Keeps some connections open to each node that holds something, and sees which suspects are back; until
    /// it is stopped.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let peers = self.holders.peers_of_all();
            let there: HashSet<_> = peers.iter().map(|peer| peer.reach()).collect();
            self.links().retain(|reach, _| there.contains(reach));
            for peer in &peers {
                if let Ok(link) = self.link(peer) {
                    link.drop_old();
                    link.refill();
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        // What is kept goes with it.
        self.links().clear();
    }

    fn link(&self, peer: &Peer) -> io::Result<Arc<Link>> {
        let reach = peer.reach();
        if let Some(link) = self.links().get(&reach) {
            return Ok(Arc::clone(link));
        }
        let tls = tls::client(&self.identity, peer.certificate).map_err(io::Error::other)?;
        let link = Link::new(tls, &peer.address, self.suspects.clone());
        Ok(Arc::clone(self.links().entry(reach).or_insert(link)))
    }

    fn links(&self) -> MutexGuard<'_, HashMap<Reach, Arc<Link>>> {
        // Every change leaves it whole.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_node::{REQUEST, TestNode, nobody};
    use super::*;

    #[tokio::test]
    async fn a_node_that_has_moved_is_asked_where_it_is_now() {
        let node = TestNode::start().await;
        let identity = Identity::generate().unwrap();
        node.holders.replace_peers([identity.hash()]);
        let links = PeerLinks::new(identity, Holders::default(), Gauge::default());
        let (_nobody, address) = nobody();
        let former = Peer {
            address,
            ..node.peer()
        };
        assert!(links.ask(&former, &REQUEST).await.is_err());
        assert!(links.is_suspect(&former));
        let answered = links.ask(&node.peer(), &REQUEST).await;
        assert!(matches!(answered, Ok(Answered::Not(Answer::NotHeld))));
        assert!(!links.is_suspect(&node.peer()));
        assert!(links.is_suspect(&former), "nothing is known of it there");
    }
}
