//! Connections that have not proved yet which node they are from: how many, and which of them makes room.
//!
//! Nobody who only holds connections open keeps a node out. A newcomer is let in, and whoever has said nothing
//! goes: of the newcomer's own network if that has its fill, else of the network with the most of them. Those who
//! talk are not cut off for others, unless they take much longer than a handshake does.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::server::domain::peer_network::PeerNetwork;

/// How many there may be. Another node has at most [`HANDSHAKES`](super::link::HANDSHAKES) of them.
pub(super) const ALL: usize = 512;

/// How many of them may come from one IPv4 address, or one IPv6 network of 64 bits.
pub(super) const PER_NETWORK: usize = 128;

/// After how long one that talks may have to make room, too. A handshake over a long path is done by then.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// The order in which they came.
type Number = u64;

#[derive(Clone, Default)]
pub(super) struct Unproved(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    next: Number,
    connections: BTreeMap<Number, Connection>,
}

struct Connection {
    network: PeerNetwork,
    since: Instant,
    has_spoken: Arc<AtomicBool>,
    leave: CancellationToken,
}

/// The place of one of them, until it is dropped.
pub(super) struct Place {
    all: Unproved,
    number: Number,
    has_spoken: Arc<AtomicBool>,
    leave: CancellationToken,
}

impl Unproved {
    /// Finds a place for a connection, which may be that of another.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Place> {
        self.enter_at(peer, Instant::now())
    }

    fn enter_at(&self, peer: IpAddr, now: Instant) -> Option<Place> {
        let network = PeerNetwork::of(peer);
        let mut table = self.table();
        if !table.has_room(network, now) {
            return None;
        }
        let number = table.next;
        table.next += 1;
        let (has_spoken, leave) = (Arc::default(), CancellationToken::new());
        table.connections.insert(
            number,
            Connection {
                network,
                since: now,
                has_spoken: Arc::clone(&has_spoken),
                leave: leave.clone(),
            },
        );
        Some(Place {
            all: self.clone(),
            number,
            has_spoken,
            leave,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It has said something.
    pub(super) fn has_spoken(&self) {
        self.has_spoken.store(true, Ordering::Relaxed);
    }

    /// Becomes ready when it has to make room for another.
    pub(super) async fn over(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.table().connections.remove(&self.number);
    }
}

impl Table {
    fn has_room(&mut self, network: PeerNetwork, now: Instant) -> bool {
        let of_its_own = |it: &Connection| it.network == network;
        let own = self.connections.values().filter(|it| of_its_own(it));
        if own.count() >= PER_NETWORK {
            return self.one_leaves(|it| of_its_own(it) && it.is_silent())
                || self.one_leaves(|it| of_its_own(it) && it.is_slow(now));
        }
        if self.connections.len() < ALL {
            return true;
        }
        let greediest = self.greediest();
        self.one_leaves(|it| Some(it.network) == greediest && it.is_silent())
            || self.one_leaves(|it| it.is_slow(now))
    }

    /// The oldest of these leaves, if there is one.
    fn one_leaves(&mut self, of: impl Fn(&Connection) -> bool) -> bool {
        let oldest = self.connections.iter().find(|(_, it)| of(it));
        let Some(number) = oldest.map(|(&number, _)| number) else {
            return false;
        };
        if let Some(connection) = self.connections.remove(&number) {
            connection.leave.cancel();
        }
        true
    }

    /// The network with the most that have said nothing.
    fn greediest(&self) -> Option<PeerNetwork> {
        let mut silent = HashMap::<PeerNetwork, usize>::new();
        for connection in self.connections.values().filter(|it| it.is_silent()) {
            *silent.entry(connection.network).or_default() += 1;
        }
        let most = silent.into_iter().max_by_key(|&(_, count)| count);
        most.map(|(network, _)| network)
    }
}

impl Connection {
    fn is_silent(&self) -> bool {
        !self.has_spoken.load(Ordering::Relaxed)
    }

    fn is_slow(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > UNDISTURBED
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn fill(unproved: &Unproved, number: u8, count: usize) -> Vec<Place> {
        let enter = |_| unproved.enter(address(number)).expect("a place");
        (0..count).map(enter).collect()
    }

    fn left(places: &[Place]) -> usize {
        let over = |place: &&Place| place.over().now_or_never().is_some();
        places.iter().filter(over).count()
    }

    #[test]
    fn the_silent_of_the_network_with_the_most_make_room_for_others() {
        let unproved = Unproved::default();
        let few = fill(&unproved, 1, 8);
        let many: Vec<_> = (2..6)
            .map(|network| fill(&unproved, network, (ALL - 8) / 4))
            .collect();
        let node = fill(&unproved, 9, 64);
        assert_eq!(left(&few) + left(&node), 0);
        assert_eq!(many.iter().map(|places| left(places)).sum::<usize>(), 64);
        assert_eq!(unproved.table().connections.len(), ALL);
        drop((few, many, node));
        assert!(unproved.table().connections.is_empty());
    }

    #[test]
    fn a_network_that_has_its_fill_gives_room_to_its_own_and_others_never_feel_it() {
        let unproved = Unproved::default();
        let others = fill(&unproved, 1, 8);
        let silent = fill(&unproved, 2, PER_NETWORK);
        let node = fill(&unproved, 2, 64);
        assert_eq!(left(&silent), 64, "the oldest");
        assert!(silent[..64].iter().all(|place| place.leave.is_cancelled()));
        assert_eq!(left(&others) + left(&node), 0);
    }

    #[test]
    fn those_who_talk_are_cut_off_for_nobody_unless_they_are_slow() {
        let unproved = Unproved::default();
        let talking = fill(&unproved, 1, PER_NETWORK);
        talking.iter().for_each(Place::has_spoken);
        assert!(unproved.enter(address(1)).is_none());
        assert_eq!(left(&talking), 0);
        let later = Instant::now() + UNDISTURBED * 2;
        assert!(unproved.enter_at(address(1), later).is_some());
        assert_eq!(left(&talking), 1);
    }

    #[test]
    fn all_that_talk_have_a_bound_together() {
        let unproved = Unproved::default();
        let talking: Vec<_> = (1..=4)
            .map(|network| fill(&unproved, network, PER_NETWORK))
            .collect();
        talking.iter().flatten().for_each(Place::has_spoken);
        assert!(unproved.enter(address(9)).is_none());
    }
}
