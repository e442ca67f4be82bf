//! Which session holds which port: one port, one holder. And which ports are listened on for other nodes.
//!
//! A tunnel is up exactly while its port stands in the table. A port passes from a silent
//! session to a new one of the same tunnel without its listener being closed; so it does from another node's
//! tunnel to a session of this one, and back.
//!
//! A session `claim`s a port and gives it up (`giving_up`); a port whose tunnel another node holds is in
//! `other_nodes`; what they all do with a listener is in `listening`.

mod claim;
mod giving_up;
mod listening;
mod other_nodes;
#[cfg(test)]
mod test_ports;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) use self::giving_up::OwnPorts;
use self::listening::Listening;
use self::other_nodes::Fronted;
use super::activity::Activity;
use super::counters::Counters;
use super::events::{SessionEvent, SessionEvents};
use super::forward::{Common, Own};
use super::fronts::Fronts;
use super::live_session::{LiveSession, SessionId};
use super::table::Table;
use super::window::Budget;
use crate::protocol::TunnelId;

/// A port that a session holds.
struct Holding {
    own: Arc<Own>,
    /// Ends every connection through it, also when it is merely dropped.
    connections: DropGuard,
    listening: Listening,
}

/// What is listened on.
#[derive(Default)]
struct State {
    /// For sessions of this node.
    own: Table<Holding>,
    /// For other nodes; none of them is among the above.
    fronts: HashMap<u16, Fronted>,
    /// Those whose listener has been stopped and is not gone yet.
    closing: HashMap<u16, CancellationToken>,
}

/// The ports of the whole server.
pub(super) struct Ports {
    address: IpAddr,
    state: Mutex<State>,
    /// Once this node is one of several.
    fronting: OnceLock<Arc<Fronts>>,
    front_lost: Notify,
    /// Once this node is about to end: it fronts no more.
    fronts_have_ended: AtomicBool,
    /// Announced while the table is locked, so that they come in the order in which they happened.
    events: SessionEvents,
    activity: Activity,
    common: Common,
    /// Ends everything.
    shutdown: CancellationToken,
}

impl Ports {
    pub(super) fn new(
        address: IpAddr,
        window_budget: Arc<Budget>,
        shutdown: CancellationToken,
    ) -> Self {
        Ports {
            address,
            state: Mutex::default(),
            fronting: OnceLock::new(),
            front_lost: Notify::new(),
            fronts_have_ended: AtomicBool::new(false),
            events: SessionEvents::default(),
            activity: Activity::default(),
            common: Common {
                window_budget,
                counters: Arc::default(),
            },
            shutdown,
        }
    }

    /// Told when everything here is to end.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.shutdown.child_token()
    }

    /// Where ports listen.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    pub(super) fn events(&self) -> &SessionEvents {
        &self.events
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.common.counters
    }

    pub(super) fn shared_counters(&self) -> Arc<Counters> {
        Arc::clone(&self.common.counters)
    }

    /// How many ports are held.
    pub(super) fn in_use(&self) -> usize {
        self.state().own.len()
    }

    /// The tunnels whose ports are held.
    pub(super) fn tunnels(&self) -> Vec<TunnelId> {
        self.state().own.tunnels().collect()
    }

    pub(super) fn is_up(&self, tunnel: TunnelId) -> bool {
        self.state().own.port_of(tunnel).is_some()
    }

    /// Says again that a tunnel is up, if it is: never after it was said that it is down.
    pub(super) fn announce_again(&self, tunnel: TunnelId) {
        let state = self.state();
        let row = state
            .own
            .port_of(tunnel)
            .and_then(|port| state.own.get(port));
        if let Some(row) = row {
            let key = row.holding.own.holder.session.key();
            self.events.announce(SessionEvent::Up(tunnel), Some(key));
        }
    }

    /// Whether this session holds a port.
    pub(super) fn has_one(&self, session: SessionId) -> bool {
        !self.state().own.ports_of(session).is_empty()
    }

    /// The session that holds a tunnel's port.
    pub(super) fn holder(&self, tunnel: TunnelId) -> Option<super::Holder> {
        let state = self.state();
        let own = &state.own;
        let held = &own.get(own.port_of(tunnel)?)?.holding.own;
        let session = &held.holder.session;
        Some(super::Holder {
            since: session.since(),
            public_key: session.key().to_owned(),
            port: held.port,
        })
    }

    /// Every tunnel whose port is held, with the session that holds it.
    pub(super) fn holders(&self) -> Vec<(TunnelId, Arc<LiveSession>)> {
        let state = self.state();
        let own = &state.own;
        let holder = |tunnel| {
            let row = own.get(own.port_of(tunnel)?)?;
            Some((tunnel, Arc::clone(&row.holding.own.holder.session)))
        };
        own.tunnels().filter_map(holder).collect()
    }

    /// The port of a tunnel, if a session of this node holds it.
    pub(super) fn own(&self, tunnel: TunnelId, port: u16) -> Option<Arc<Own>> {
        let state = self.state();
        let row = state.own.get(port).filter(|row| row.tunnel == tunnel)?;
        Some(Arc::clone(&row.holding.own))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done to it under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
