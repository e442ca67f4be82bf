//! What the other nodes say: which there are, whether they live, and which tunnels they hold.
//!
//! It is read every second, and kept as it was while the database cannot be read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, SetOnce, mpsc};
use tokio::time::{Instant, sleep};

use super::dead_nodes;
use super::holders::{CertificateHash, Held, Holders, Peer};
use super::liveness::Liveness;
use crate::protocol::{DataSourceId, TunnelId};
use crate::server::domain::ControlPlane;
use crate::server::store::{
    self, DatabaseUrl, DeadNode, Line, NodeRow, NodeSessionRow, NodeState, Role,
};

/// How often is read.
const EVERY: Duration = Duration::from_secs(1);

/// How far apart it is read at least, if somebody asks for it.
const APART: Duration = Duration::from_millis(100);

/// How long reading may take.
const LIMIT: Duration = Duration::from_secs(5);

/// If nothing was read for longer than this, it says nothing of the present.
const PRESENT: Duration = Duration::from_secs(5);

/// Time counts only while this node's own beat is seen to move: if nobody can write, no beat moves.
const OWN_BEAT: Duration = Duration::from_secs(4);

/// A session of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    pub node: String,
    /// The node's region.
    pub region: String,
    /// Whose port it holds.
    pub tunnel: TunnelId,
    /// Whose tunnel that is.
    pub data_source: DataSourceId,
    pub port: Option<u16>,
    /// When it logged in.
    pub since: jiff::Timestamp,
    /// The address that the bastion came from.
    pub bastion: String,
    /// The key that it has proved.
    pub public_key: String,
}

/// A node as this one sees it.
#[derive(Debug, Clone)]
pub struct SeenNode {
    /// As it is stored.
    pub row: NodeRow,
    /// Whether it counts: it has not ended, and its beat moves.
    pub is_alive: bool,
    /// For how long its beat was seen to stand still.
    pub still: Duration,
    /// How many tunnels it holds.
    pub tunnels: usize,
}

/// The view of one node. It itself is among the nodes, and its own sessions are not among the sessions.
#[derive(Debug)]
pub struct View {
    own: String,
    /// This node's region.
    region: String,
    seen: RwLock<Seen>,
    table: Holders,
    wanted: Notify,
    /// Set once it was read for the first time.
    has_looked: SetOnce<()>,
}

#[derive(Debug, Default)]
struct Seen {
    nodes: Vec<SeenNode>,
    sessions: HashMap<TunnelId, Vec<Arc<Elsewhere>>>,
    /// The tunnels that others have held since somebody asked last, and do not hold now.
    left: HashSet<TunnelId>,
    at: Option<Instant>,
}

/// What other nodes did in a span of time.
#[derive(Debug, Default)]
pub struct Others {
    /// The tunnels that they held in it, if only for a part.
    pub held: HashSet<TunnelId>,
    /// Whether this is known. If not, they may have held any.
    pub is_known: bool,
    /// Whether it is upon this node to say that a tunnel was held by nobody.
    pub tells_of_silence: bool,
}

impl View {
    /// Nothing is known yet. `table` is what connections are passed on by.
    pub fn new(own: String, region: String, table: Holders) -> Self {
        View {
            own,
            region,
            seen: RwLock::default(),
            table,
            wanted: Notify::new(),
            has_looked: SetOnce::new(),
        }
    }

    /// Whether another node holds this tunnel.
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        self.read(|seen| seen.sessions.contains_key(&tunnel))
    }

    /// The sessions of other nodes that hold this tunnel.
    pub fn holders(&self, tunnel: TunnelId) -> Vec<Arc<Elsewhere>> {
        self.read(|seen| seen.sessions.get(&tunnel).cloned().unwrap_or_default())
    }

    /// The tunnels that other nodes hold.
    pub fn tunnels(&self) -> Vec<TunnelId> {
        self.read(|seen| seen.sessions.keys().copied().collect())
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<SeenNode> {
        self.read(|seen| seen.nodes.clone())
    }

    /// Whether another node of this region can take this one's tunnels over.
    pub fn has_another_for_tunnels(&self, region: &str) -> bool {
        let can = |node: &SeenNode| {
            let row = &node.row;
            let is_up = node.is_alive && row.state == NodeState::Up;
            is_up && row.role != Role::Web && row.region == region && row.name != self.own
        };
        self.read(|seen| seen.nodes.iter().any(can))
    }

    /// Whether it was read: before that, all that others hold seems to be down.
    pub fn has_looked(&self) -> bool {
        self.has_looked.initialized()
    }

    /// Waits until it was read for the first time.
    pub async fn first_look(&self) {
        self.has_looked.wait().await;
    }

    /// Has it read soon.
    pub fn look(&self) {
        self.wanted.notify_one();
    }

    /// What the others did since this was asked last.
    pub fn others(&self) -> Others {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let mut held = std::mem::take(&mut seen.left);
        held.extend(seen.sessions.keys());
        let is_known = seen.at.is_some_and(|at| at.elapsed() < PRESENT);
        // Of those that could: the one that lives longest.
        let with_tunnels = seen
            .nodes
            .iter()
            .filter(|node| node.is_alive && node.row.role != Role::Web);
        let oldest = with_tunnels.min_by_key(|node| node.row.epoch);
        Others {
            held,
            is_known,
            tells_of_silence: is_known && oldest.is_some_and(|node| node.row.name == self.own),
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads until it is aborted, and has it noted what dead nodes have left.
    pub async fn keep(&self, control: &ControlPlane, url: &DatabaseUrl) {
        let (dead, found) = mpsc::unbounded_channel();
        tokio::join!(
            self.read_on(control, url, dead),
            dead_nodes::note(found, control)
        );
    }

    async fn read_on(
        &self,
        control: &ControlPlane,
        url: &DatabaseUrl,
        dead: mpsc::UnboundedSender<DeadNode>,
    ) {
        let mut reader = Reader {
            own: self.own.clone(),
            line: Line::new(url, LIMIT),
            nodes: HashMap::new(),
            own_row: None,
            last: None,
            has_changed: false,
        };
        let mut could_read = true;
        loop {
            match reader.read().await {
                Ok(()) => {
                    could_read = true;
                    let has_changed = std::mem::take(&mut reader.has_changed);
                    self.take(&reader, has_changed, control);
                    // Once is enough.
                    let _ = self.has_looked.set(());
                    for node in reader.newly_dead() {
                        // Whoever takes them lives as long as this.
                        let _ = dead.send(node);
                    }
                }
                Err(error) => {
                    reader.last = None;
                    if std::mem::replace(&mut could_read, false) {
                        tracing::warn!(
                            ?error,
                            "cannot read what other nodes do; what was known last holds on"
                        );
                    }
                }
            }
            sleep(APART).await;
            tokio::select! {
                () = sleep(EVERY - APART) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Takes over what was read, and tells whoever waits for it.
    fn take(&self, reader: &Reader, has_changed: bool, control: &ControlPlane) {
        let nodes = reader.seen(control);
        if !has_changed {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            (seen.nodes, seen.at) = (nodes, Some(Instant::now()));
            return;
        }
        let mut sessions: HashMap<TunnelId, Vec<Arc<Elsewhere>>> = HashMap::new();
        let all = reader.alive().flat_map(|node| node.sessions.values());
        for session in all {
            let holders = sessions.entry(session.tunnel).or_default();
            holders.push(Arc::clone(session));
        }
        let mut concerned = BTreeSet::new();
        {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            let seen = &mut *seen;
            for (tunnel, before) in &seen.sessions {
                if !sessions.contains_key(tunnel) {
                    seen.left.insert(*tunnel);
                    concerned.extend(before.iter().map(|session| session.data_source));
                }
            }
            for (tunnel, now) in &sessions {
                if !seen.sessions.contains_key(tunnel) {
                    concerned.extend(now.iter().map(|session| session.data_source));
                }
            }
            seen.sessions = sessions;
            (seen.nodes, seen.at) = (nodes, Some(Instant::now()));
        }
        self.fill_the_table(reader);
        for data_source in concerned {
            control.changes.announce(data_source);
        }
    }

    fn fill_the_table(&self, reader: &Reader) {
        // Also those that do not say that they live: one that is cut off from the database alone passes on.
        let there = || {
            let all = reader.nodes.values();
            all.filter(|node| node.row.state != NodeState::Stopped)
        };
        let certificates = there().filter_map(|node| certificate(&node.row));
        let peers: HashMap<_, _> = there()
            .filter_map(|node| Some((node.row.name.as_str(), peer(&node.row)?)))
            .collect();
        let mut held: HashMap<(TunnelId, u16), Vec<Arc<Peer>>> = HashMap::new();
        for session in reader.alive().flat_map(|node| node.sessions.values()) {
            if let (Some(port), Some(peer)) = (session.port, peers.get(session.node.as_str())) {
                let holders = held.entry((session.tunnel, port)).or_default();
                holders.push(Arc::clone(peer));
            }
        }
        let is_here = |peer: &Arc<Peer>| peer.region == self.region;
        let held = held.into_iter().map(|((tunnel, port), peers)| Held {
            tunnel,
            port,
            is_here: peers.iter().any(is_here),
            peers,
        });
        // Those first who may ask, so that nobody is told of one who would be refused.
        self.table.replace_peers(certificates);
        self.table.replace(held.collect());
    }
}

fn certificate(row: &NodeRow) -> Option<CertificateHash> {
    row.certificate.as_deref()?.try_into().ok()
}

fn peer(row: &NodeRow) -> Option<Arc<Peer>> {
    Some(Arc::new(Peer {
        node: row.name.clone(),
        region: row.region.clone(),
        address: row.peer_address.clone()?,
        certificate: certificate(row)?,
        draining: row.state == NodeState::Draining,
    }))
}

/// Reads, and remembers what it has read.
struct Reader {
    own: String,
    line: Line,
    nodes: HashMap<String, Known>,
    own_row: Option<(NodeRow, Liveness)>,
    /// When the last reading began, if it succeeded.
    last: Option<Instant>,
    /// Whether anything is otherwise than what was last taken over, also by a reading that failed after that.
    has_changed: bool,
}

/// Another node.
struct Known {
    row: NodeRow,
    liveness: Liveness,
    sessions: HashMap<TunnelId, Arc<Elsewhere>>,
    /// The life and the version of which the sessions are.
    read: Option<(i64, i64)>,
    /// Whether it was handed over as dead.
    handed_over: bool,
}

impl Known {
    fn is_alive(&self) -> bool {
        self.row.state != NodeState::Stopped && self.liveness.is_alive()
    }
}

impl Reader {
    /// Reads once.
    async fn read(&mut self) -> store::Result<()> {
        let begun = Instant::now();
        let rows = self.line.nodes().await?;
        let passed = self.last.map_or(Duration::ZERO, |last| begun - last);
        self.last = Some(begun);
        let names: HashSet<_> = rows.iter().map(|row| row.name.clone()).collect();
        let before = self.nodes.len();
        self.nodes.retain(|name, _| names.contains(name));
        self.has_changed |= self.nodes.len() != before;
        let (own, others): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.name == self.own);
        for row in own {
            let (known, liveness) = self
                .own_row
                .get_or_insert_with(|| (row.clone(), Liveness::new(row.epoch, row.beat)));
            liveness.see(row.epoch, row.beat, passed);
            *known = row;
        }
        let own_beat_moves = self
            .own_row
            .as_ref()
            .is_some_and(|(_, liveness)| liveness.still() < OWN_BEAT);
        let passed = if own_beat_moves {
            passed
        } else {
            Duration::ZERO
        };
        for row in others {
            self.read_one(row, passed).await?;
        }
        Ok(())
    }

    async fn read_one(&mut self, row: NodeRow, passed: Duration) -> store::Result<()> {
        self.has_changed |= !self.nodes.contains_key(&row.name);
        let known = self.nodes.entry(row.name.clone()).or_insert_with(|| Known {
            liveness: Liveness::new(row.epoch, row.beat),
            row: row.clone(),
            sessions: HashMap::new(),
            read: None,
            handed_over: false,
        });
        let was_alive = known.is_alive();
        known.liveness.see(row.epoch, row.beat, passed);
        let former = std::mem::replace(&mut known.row, row);
        if former.epoch != known.row.epoch {
            known.sessions.clear();
            known.read = None;
            self.has_changed = true;
        }
        let now = &known.row;
        self.has_changed |= was_alive != known.is_alive()
            || former.state != now.state
            || former.region != now.region
            || former.peer_address != now.peer_address
            || former.certificate != now.certificate;
        if was_alive && !known.is_alive() && now.state != NodeState::Stopped {
            tracing::warn!(
                node = now.name,
                "this node is declared dead: it has stopped sending heartbeats"
            );
        }
        let present = (known.row.epoch, known.row.facts);
        if known.is_alive() && known.read != Some(present) {
            let version = known.read.map_or(-1, |(_, version)| version);
            let rows = self.line.sessions_of(&known.row.life(), version).await?;
            let number = rows.len();
            let (name, region) = (known.row.name.clone(), known.row.region.clone());
            let sessions: HashMap<_, _> = rows
                .into_iter()
                .filter_map(|row| session(&name, &region, row, &known.sessions))
                .collect();
            // One that should have been known and was not: the next time, all are read whole.
            known.read = (sessions.len() == number).then_some(present);
            known.sessions = sessions;
            self.has_changed = true;
        }
        Ok(())
    }

    fn alive(&self) -> impl Iterator<Item = &Known> {
        self.nodes.values().filter(|node| node.is_alive())
    }

    /// As the page shows them.
    fn seen(&self, control: &ControlPlane) -> Vec<SeenNode> {
        let others = self.nodes.values().map(|node| SeenNode {
            row: node.row.clone(),
            is_alive: node.is_alive(),
            still: node.liveness.still(),
            tunnels: if node.is_alive() {
                node.sessions.len()
            } else {
                0
            },
        });
        let own = self.own_row.iter().map(|(row, liveness)| SeenNode {
            row: row.clone(),
            is_alive: true,
            still: liveness.still(),
            tunnels: control
                .tunnels
                .local()
                .map_or(0, |local| local.tunnels_up()),
        });
        let mut nodes: Vec<_> = own.chain(others).collect();
        nodes.sort_by(|one, other| one.row.name.cmp(&other.row.name));
        nodes
    }

    /// The nodes that are dead since this was asked last.
    fn newly_dead(&mut self) -> Vec<DeadNode> {
        let mut newly = Vec::new();
        for node in self.nodes.values_mut() {
            let is_dead = node.row.state != NodeState::Stopped && !node.liveness.is_alive();
            if is_dead && !node.handed_over {
                newly.push(DeadNode::from(&node.row));
                // Others may take its sessions from it: if it lives again, they are read whole.
                node.read = None;
            }
            node.handed_over = is_dead;
        }
        newly
    }
}

/// A session as it was read, or as it was known before.
fn session(
    node: &str,
    region: &str,
    row: NodeSessionRow,
    known: &HashMap<TunnelId, Arc<Elsewhere>>,
) -> Option<(TunnelId, Arc<Elsewhere>)> {
    let tunnel = row.tunnel;
    let (Some(since), Some(bastion), Some(public_key)) = (row.since, row.bastion, row.public_key)
    else {
        return Some((tunnel, Arc::clone(known.get(&tunnel)?)));
    };
    let session = Elsewhere {
        node: node.to_owned(),
        region: region.to_owned(),
        tunnel,
        data_source: row.data_source,
        port: row.port.and_then(|port| port.try_into().ok()),
        since: jiff::Timestamp::from_millisecond(since).unwrap_or(jiff::Timestamp::MAX),
        bastion,
        public_key,
    };
    Some((tunnel, Arc::new(session)))
}
