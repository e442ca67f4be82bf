//! What the tunnel server counts: plain numbers, for whoever shows them.
//!
//! Counting a packet is one atomic addition. What is open is not counted but held: its number falls
//! with the thing itself, however that ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::unfinished::Why;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something are open.
#[derive(Debug, Default)]
pub struct Open(Arc<()>);

/// One that is open, until it is dropped.
pub(super) type Token = Arc<()>;

impl Open {
    pub(super) fn enter(&self) -> Token {
        Arc::clone(&self.0)
    }

    /// How many are open now.
    pub fn get(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions whose key is proved.
    pub sessions: Open,
    /// Ports that passed from a session to another one.
    pub takeovers: Count,
    /// Sessions that ended since the server wanted it.
    pub ended: Ended,
    /// Requests for ports, or to give them up, that had to wait since there were too many.
    pub paced: Count,
    /// What was refused.
    pub refused: Refused,
    /// Connections that ended before a login.
    pub unfinished: Unfinished,
    /// Connections that are carried now.
    pub connections: Open,
    /// Connections that were accepted on forwarded ports.
    pub accepted: Count,
    /// Accepted connections for which the bastion could not reach its database.
    pub unreachable: Count,
    /// Bytes carried from bastions.
    pub from_bastions: Count,
    /// Bytes carried to bastions.
    pub to_bastions: Count,
}

/// Sessions that the server has ended, by the reason.
#[derive(Debug, Default)]
pub struct Ended {
    /// They were given no port.
    pub unused: Count,
    /// They made room for a newer session of their key.
    pub replaced: Count,
    /// They showed no sign of life.
    pub silent: Count,
    /// They sent what no client may send.
    pub misused: Count,
}

/// Connections that ended before a login, by the reason.
#[derive(Debug, Default)]
pub struct Unfinished([Count; Why::ALL.len()]);

impl Unfinished {
    pub(super) fn one(&self, why: Why) {
        self.0[why as usize].one();
    }

    /// How many so far, by the reason's name.
    pub fn by_reason(&self) -> Vec<(&'static str, u64)> {
        let names = Why::ALL.iter().map(|&(_, name)| name);
        names.zip(self.0.iter().map(Count::get)).collect()
    }
}

/// What was refused, by its reason.
#[derive(Debug, Default)]
pub struct Refused {
    /// SSH connections beyond the bounds.
    pub ssh_connections: Count,
    /// Sessions of a key whose other sessions all hold ports.
    pub sessions: Count,
    /// Logins that were not made in time.
    pub late_logins: Count,
    /// Logins as another user than the one there is.
    pub users: Count,
    /// Keys that are not enrolled, or not known to be.
    pub keys: Count,
    /// Signatures that are too weak.
    pub signatures: Count,
    /// Listening on another address than the forward address.
    pub addresses: Count,
    /// Listening on a port that is not the key's.
    pub ports: Count,
    /// Listening on a port that a living session holds.
    pub held_ports: Count,
    /// Listening on a port that another program has.
    pub taken_ports: Count,
    /// Shells, commands, subsystems, and forwarding of other kinds.
    pub other_requests: Count,
    /// Connections beyond a session's bound.
    pub connections: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_not_open() {
        let open = Open::default();
        let one = open.enter();
        let two = open.enter();
        assert_eq!(open.get(), 2);
        drop(one);
        assert_eq!(open.get(), 1);
        drop(two);
        assert_eq!(open.get(), 0);
    }

    #[test]
    fn what_came_to_no_login_is_counted_under_its_own_name() {
        for (why, name) in Why::ALL {
            let unfinished = Unfinished::default();
            unfinished.one(why);
            let counted = unfinished.by_reason();
            let one: Vec<_> = counted.iter().filter(|(_, count)| *count == 1).collect();
            assert_eq!(one, [&(name, 1)]);
        }
    }
}
