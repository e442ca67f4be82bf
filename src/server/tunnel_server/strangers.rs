//! Connections that have not logged in: how many, and which of them makes room for another.
//!
//! Nobody who only holds connections open keeps others out. A newcomer is let in, and whoever has
//! said nothing goes: of the newcomer's own address if that has its fill, so that other addresses
//! never feel it and a bastion behind the same address gets in all the same; else of the address
//! with the most of them. Those who talk are not cut off for others, unless they take much longer
//! than a login does; between them chance decides, as in sshd (`limits.rs`).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::limits::{EARLY_DROP, LOGIN_UNDISTURBED, LOOKED_AT, Limits};
use super::live_session::SessionId;
use super::opening::Opening;
use super::socket::Socket;
use crate::server::domain::peer_network::PeerNetwork;

struct Stranger {
    network: PeerNetwork,
    since: Instant,
    socket: Arc<Socket>,
    opening: Arc<Opening>,
    leave: CancellationToken,
}

impl Stranger {
    fn is_slow(&self) -> bool {
        self.since.elapsed() > LOGIN_UNDISTURBED
    }
}

/// By the order in which they came.
type Table = BTreeMap<SessionId, Stranger>;

pub(super) struct Strangers {
    limits: Limits,
    table: Mutex<Table>,
}

/// The right to be here without a login; given back when dropped.
pub(super) struct Visit {
    number: SessionId,
    all: Arc<Strangers>,
    leave: CancellationToken,
}

impl Visit {
    /// Becomes ready when it has to make room for another.
    pub(super) async fn over(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.all.table().remove(&self.number);
    }
}

impl Strangers {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Strangers {
            limits,
            table: Mutex::default(),
        })
    }

    /// Lets a connection in, numbered in the order of arrival, or not.
    pub(super) fn admit(
        self: &Arc<Self>,
        number: SessionId,
        peer: SocketAddr,
        socket: &Arc<Socket>,
        opening: &Arc<Opening>,
    ) -> Option<Visit> {
        let network = PeerNetwork::of(peer.ip());
        let leave = CancellationToken::new();
        let mut table = self.table();
        if !self.has_room(&mut table, network) {
            return None;
        }
        table.insert(
            number,
            Stranger {
                network,
                since: Instant::now(),
                socket: Arc::clone(socket),
                opening: Arc::clone(opening),
                leave: leave.clone(),
            },
        );
        drop(table);
        Some(Visit {
            number,
            all: Arc::clone(self),
            leave,
        })
    }

    fn has_room(&self, table: &mut Table, network: PeerNetwork) -> bool {
        let of_its_own = table.values().filter(|s| s.network == network).count();
        if of_its_own >= self.limits.unauthenticated_per_address {
            return a_silent_one_leaves(table, |s| s.network == network)
                || a_slow_one_leaves(table, |s| s.network == network);
        }
        if table.len() < self.limits.early_drop_from() {
            return true;
        }
        let greediest = greediest(table);
        if a_silent_one_leaves(table, |s| Some(s.network) == greediest)
            || a_silent_one_leaves(table, |_| true)
        {
            return true;
        }
        if table.len() >= self.limits.unauthenticated {
            return a_slow_one_leaves(table, |_| true);
        }
        rand::random::<f64>() >= self.chance_of_early_drop(table.len())
    }

    fn chance_of_early_drop(&self, waiting: usize) -> f64 {
        let (from, full) = (self.limits.early_drop_from(), self.limits.unauthenticated);
        let share = (waiting - from) as f64 / (full - from) as f64;
        EARLY_DROP + (1.0 - EARLY_DROP) * share
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table whole: every change of it is a single operation.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest of these leaves that has sent no line, if there is one. What has arrived and is not read
/// yet counts as sent: on a busy server that is our own fault.
fn a_silent_one_leaves(table: &mut Table, of: impl Fn(&Stranger) -> bool) -> bool {
    let oldest = table
        .iter()
        .filter(|(_, stranger)| of(stranger) && !stranger.opening.has_line())
        .take(LOOKED_AT)
        .find(|(_, stranger)| !stranger.socket.has_unread())
        .map(|(&number, _)| number);
    leaves(table, oldest)
}

/// The oldest of these leaves, if it has had time enough for a login.
fn a_slow_one_leaves(table: &mut Table, of: impl Fn(&Stranger) -> bool) -> bool {
    let oldest = table
        .iter()
        .find(|(_, stranger)| of(stranger))
        .filter(|(_, stranger)| stranger.is_slow())
        .map(|(&number, _)| number);
    leaves(table, oldest)
}

fn leaves(table: &mut Table, number: Option<SessionId>) -> bool {
    let Some(stranger) = number.and_then(|number| table.remove(&number)) else {
        return false;
    };
    stranger.leave.cancel();
    true
}

/// The network with the most that have not sent their first line.
fn greediest(table: &Table) -> Option<PeerNetwork> {
    let mut waiting = HashMap::<PeerNetwork, usize>::new();
    for stranger in table.values().filter(|s| !s.opening.has_line()) {
        *waiting.entry(stranger.network).or_default() += 1;
    }
    let most = waiting.into_iter().max_by_key(|&(_, count)| count);
    most.map(|(network, _)| network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_to_be_refused_grows_from_a_third_to_certainty() {
        let limits = Limits {
            unauthenticated: 100,
            ..Limits::default()
        };
        let strangers = Strangers::new(limits);
        assert_eq!(strangers.chance_of_early_drop(50), EARLY_DROP);
        assert_eq!(strangers.chance_of_early_drop(100), 1.0);
        assert!(strangers.chance_of_early_drop(75) < 0.7);
    }
}
