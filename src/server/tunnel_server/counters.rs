//! What the tunnel server counts, for Prometheus.
//!
//! Counting a packet is one atomic addition. What is open is not counted but held: its number falls
//! with the thing itself, however that ends.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::unfinished::Why;
use crate::server::cluster::peer_link::listener;
use crate::server::metrics::counts::{PREFIX, by};

/// How many of something are open.
#[derive(Debug, Default)]
pub struct Open(Gauge);

/// One that is open, until it is dropped.
pub(super) struct Token(Gauge);

impl Open {
    pub(super) fn enter(&self) -> Token {
        self.0.inc();
        Token(self.0.clone())
    }

    /// How many are open now.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Counters {
    /// All of it, as it is shown.
    pub registry: Registry,
    /// Sessions whose key is proved.
    pub sessions: Open,
    pub takeovers: Counter,
    pub ended: Ended,
    pub paced: Counter,
    pub refused: Refused,
    pub unfinished: Unfinished,
    /// Connections that are carried now.
    pub connections: Open,
    pub accepted: Counter,
    pub unreachable: Counter,
    pub from_bastions: Counter,
    pub to_bastions: Counter,
    pub fronted: Fronted,
    /// Nodes that have not answered lately.
    pub suspects: Gauge,
    pub by_peers: ByPeers,
}

/// Connections to ports whose tunnels other nodes hold.
#[derive(Debug)]
pub struct Fronted {
    /// Those that are carried now.
    pub open: Open,
    /// Another node has taken them.
    pub passed_on: Counter,
    /// This node holds the tunnel itself by now.
    pub own: Counter,
    /// Every node has answered that it does not hold the tunnel.
    pub not_held: Counter,
    /// The tunnel's sessions have as many as they may.
    pub full: Counter,
    /// No node has answered.
    pub unanswered: Counter,
    /// Too many of the tunnel's connections look for its holder already.
    pub too_many: Counter,
}

/// What other nodes, and strangers, have asked this one to take.
#[derive(Debug)]
pub struct ByPeers {
    /// Connections that were taken.
    pub accepted: Counter,
    pub not_held: Counter,
    pub full: Counter,
    refused: [Counter; listener::Refused::NAMES.len()],
}

impl ByPeers {
    /// How often somebody was not let in, or not heard, for this reason.
    pub fn refused(&self, why: listener::Refused) -> &Counter {
        &self.refused[why as usize]
    }
}

/// Sessions that the server has ended.
#[derive(Debug)]
pub struct Ended {
    /// They were given no port.
    pub unused: Counter,
    /// They made room for a newer session of their key.
    pub replaced: Counter,
    pub silent: Counter,
    /// They sent what no client may send.
    pub misused: Counter,
    /// This node drains.
    pub drained: Counter,
}

/// Connections that ended before a login, by the reason.
#[derive(Debug)]
pub struct Unfinished([Counter; Why::ALL.len()]);

impl Unfinished {
    pub(super) fn inc(&self, why: Why) {
        self.0[why as usize].inc();
    }

    /// How many so far, by the reason's name.
    pub fn by_reason(&self) -> Vec<(&'static str, u64)> {
        let names = Why::ALL.iter().map(|&(_, name)| name);
        names.zip(self.0.iter().map(Counter::get)).collect()
    }
}

/// What was refused.
#[derive(Debug)]
pub struct Refused {
    pub ssh_connections: Counter,
    /// Of a key whose other sessions all hold ports.
    pub sessions: Counter,
    pub late_logins: Counter,
    pub users: Counter,
    pub keys: Counter,
    /// They are too weak.
    pub signatures: Counter,
    pub addresses: Counter,
    /// They are not the key's.
    pub ports: Counter,
    pub held_ports: Counter,
    /// Another program has them.
    pub taken_ports: Counter,
    /// Shells, commands, subsystems, and forwarding of other kinds.
    pub other_requests: Counter,
    /// Connections beyond a session's bound.
    pub connections: Counter,
    /// Connections to a session that lets none through any more, since this node drains.
    pub drained: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let all = &mut registry;
        let open = |all: &mut Registry, name: &str, help: &str| {
            let open = Open::default();
            all.register(name, help, open.0.clone());
            open
        };
        let count = |all: &mut Registry, name: &str, help: &str| {
            let count = Counter::default();
            all.register(name, help, count.clone());
            count
        };
        let sessions = open(all, "ssh_sessions", "SSH sessions whose key is proved");
        let [unused, replaced, silent, misused, drained] = by(
            all,
            "ssh_sessions_ended",
            "SSH sessions that the server ended, by why",
            "reason",
            ["unused", "too_many_of_key", "silent", "misused", "drained"],
        );
        let unfinished = by(
            all,
            "ssh_connections_unfinished",
            "SSH connections that ended before a login, by why; refused logins are counted by themselves",
            "reason",
            Why::ALL.map(|(_, name)| name),
        );
        let paced = count(
            all,
            "forwards_paced",
            "Requests to listen, or to stop it, that had to wait since their session asked too often",
        );
        let takeovers = count(
            all,
            "takeovers",
            "Ports that passed from a silent session to a new one, or to a new key's",
        );
        let [
            keys,
            users,
            signatures,
            late_logins,
            ssh_connections,
            too_many_of_key,
        ] = by(
            all,
            "logins_refused",
            "SSH logins that were refused, by what was wrong",
            "reason",
            [
                "key",
                "user",
                "signature",
                "late",
                "too_many",
                "too_many_of_key",
            ],
        );
        let [addresses, ports, held_ports, taken_ports] = by(
            all,
            "forwards_refused",
            "Requests to listen that were refused, by what was wrong with the port",
            "reason",
            ["address", "port", "held", "taken"],
        );
        let other_requests = count(
            all,
            "ssh_requests_refused",
            "Shells, commands and forwarding of other kinds that were refused",
        );
        let connections = open(
            all,
            "forwarded_connections",
            "Connections through tunnels that are open",
        );
        let accepted = count(
            all,
            "forwarded_connections_accepted",
            "Connections to tunnels' ports",
        );
        let [unreachable, too_many, refused_by_draining] = by(
            all,
            "forwarded_connections_failed",
            "Connections to tunnels' ports that came to nothing, by the reason",
            "reason",
            ["unreachable", "too_many", "drained"],
        );
        let [from_bastions, to_bastions] = by(
            all,
            "forwarded_bytes",
            "Bytes carried through tunnels, by their direction",
            "direction",
            ["from_bastion", "to_bastion"],
        );
        let fronted = fronted(all);
        let suspects = Gauge::default();
        all.register(
            "peers_suspect",
            "Other nodes that have not answered lately, so that they are asked last",
            suspects.clone(),
        );
        let by_peers = by_peers(all);
        Counters {
            registry,
            sessions,
            takeovers,
            ended: Ended {
                unused,
                replaced,
                silent,
                misused,
                drained,
            },
            paced,
            refused: Refused {
                ssh_connections,
                sessions: too_many_of_key,
                late_logins,
                users,
                keys,
                signatures,
                addresses,
                ports,
                held_ports,
                taken_ports,
                other_requests,
                connections: too_many,
                drained: refused_by_draining,
            },
            unfinished: Unfinished(unfinished),
            connections,
            accepted,
            unreachable,
            from_bastions,
            to_bastions,
            fronted,
            suspects,
            by_peers,
        }
    }
}

fn fronted(all: &mut Registry) -> Fronted {
    let open = Open::default();
    all.register(
        "fronted_connections",
        "Connections that this node passes on to others and that are open",
        open.0.clone(),
    );
    let [passed_on, own, not_held, full, unanswered, too_many] = by(
        all,
        "fronted_connections_accepted",
        "Connections to ports whose tunnels other nodes hold, by what came of them",
        "outcome",
        [
            "passed_on",
            "own",
            "not_held",
            "full",
            "unanswered",
            "too_many",
        ],
    );
    Fronted {
        open,
        passed_on,
        own,
        not_held,
        full,
        unanswered,
        too_many,
    }
}

fn by_peers(all: &mut Registry) -> ByPeers {
    let [accepted, not_held, full] = by(
        all,
        "peer_requests",
        "Connections that other nodes asked this one to take, by the answer",
        "answer",
        ["accepted", "not_held", "full"],
    );
    let refused = by(
        all,
        "peer_connections_refused",
        "Connections to --peer-listen that came to nothing, by the reason",
        "reason",
        listener::Refused::NAMES,
    );
    ByPeers {
        accepted,
        not_held,
        full,
        refused,
    }
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
        drop(two);
        assert_eq!(open.get(), 0);
    }

    #[test]
    fn what_came_to_no_login_is_counted_under_its_own_name() {
        for (at, (why, _)) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, at);
        }
    }
}
