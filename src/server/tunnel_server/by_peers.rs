//! Connections that other nodes pass on: they go the way of those that are accepted on the tunnel's own port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tracing::{info, warn};

use super::forward::Own;
use super::log_lines::{Kind, LogLines, Who};
use super::ports::Ports;
use super::reader::Reader;
use crate::server::cluster::peer_link::listener::{Destination, Refused};
use crate::server::cluster::peer_link::stream::PeerStream;
use crate::server::cluster::peer_link::wire::{Answer, Request};

/// Where they come to.
pub(super) struct ByPeers {
    pub(super) ports: Arc<Ports>,
    pub(super) log_lines: Arc<LogLines>,
}

/// A connection's place in a session.
pub(super) struct Place {
    own: Arc<Own>,
    slot: OwnedSemaphorePermit,
    client: SocketAddr,
}

impl Destination for ByPeers {
    type Place = Place;

    fn admit(&self, request: &Request) -> Result<Place, Answer> {
        let counters = &self.ports.counters().by_peers;
        let Some(own) = self.ports.own(request.tunnel, request.port) else {
            counters.not_held.inc();
            return Err(Answer::NotHeld);
        };
        let slot = own.admit().map_err(|why| match why {
            TryAcquireError::NoPermits => {
                counters.full.inc();
                Answer::Full
            }
            // Its session is about to end: another node may have the tunnel already.
            TryAcquireError::Closed => {
                counters.not_held.inc();
                Answer::NotHeld
            }
        })?;
        counters.accepted.inc();
        let client = request.client;
        Ok(Place { own, slot, client })
    }

    fn carry(&self, place: Place, stream: PeerStream) {
        let Place { own, slot, client } = place;
        own.carry(slot, Reader::Peer(stream), client);
    }

    fn not_accepted(&self, cause: &io::Error) {
        const KIND: Kind = "connections to --peer-listen could not be accepted";
        if let Some(more) = self.log_lines.may(KIND, Who::Others) {
            warn!("cannot accept a connection to --peer-listen: {cause}{more}");
        }
    }

    fn refused(&self, peer: SocketAddr, why: Refused, cause: &str) {
        const KIND: Kind = "a connection to --peer-listen came to nothing";
        self.ports.counters().by_peers.refused(why).inc();
        if let Some(more) = self.log_lines.may(KIND, peer) {
            info!(%peer, "{KIND}: {cause}{more}");
        }
    }
}
