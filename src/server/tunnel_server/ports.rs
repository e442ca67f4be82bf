//! Which session holds which port: one port, one holder. And which ports are listened on for other nodes.
//!
//! A tunnel is up exactly while its port stands in the table. A port passes from a silent
//! session to a new one of the same tunnel without its listener being closed; so it does from another node's
//! tunnel to a session of this one, and back.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info};

use super::Grant;
use super::activity::Activity;
use super::counters::Counters;
use super::events::{SessionEvent, SessionEvents};
use super::forward::{self, Common, Holder, Own, Target};
use super::fronts::{Front, Fronts};
use super::limits;
use super::live_session::{LiveSession, SessionId};
use super::table::{Row, Table};
use super::window::Budget;
use crate::protocol::TunnelId;

/// Why a session may not have a port that its key is granted.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// It has it already.
    #[error("this session listens on the port already")]
    Own,
    /// Another session has it, is alive, and is not replaced.
    #[error(
        "another session of this tunnel, from {0}, holds the port and is alive; is the bastion \
         a copy of another machine?"
    )]
    Held(String),
    /// The port cannot be bound.
    #[error(
        "cannot listen on {address}: {cause}; is another program using the port? \
         (ss -ltnp shows which)"
    )]
    Bind {
        address: SocketAddr,
        cause: io::Error,
    },
}

/// A port that a session holds.
struct Holding {
    own: Arc<Own>,
    /// Ends every connection through it, also when it is merely dropped.
    connections: DropGuard,
    listening: Listening,
}

/// A listener, and where its connections go.
struct Listening {
    target: watch::Sender<Target>,
    /// Ends it, also when it is merely dropped.
    stop: DropGuard,
    listener: JoinHandle<()>,
}

/// A port that is listened on since another node holds it.
struct Fronted {
    tunnel: TunnelId,
    listening: Listening,
}

/// A port that its session no longer holds. Its connections end with it.
struct GivenUp {
    tunnel: TunnelId,
    session: Arc<LiveSession>,
    connections: DropGuard,
    /// None if another node holds it: then it stays.
    closing: Option<Listening>,
}

impl GivenUp {
    /// Returns when the port is closed, if it is to be.
    async fn end(self) {
        drop(self.connections);
        if let Some(Listening { stop, listener, .. }) = self.closing {
            drop(stop);
            // An error would be a panic in the task; the port is closed then, too.
            let _ = listener.await;
        }
    }
}

/// What is listened on.
#[derive(Default)]
struct State {
    /// For sessions of this node.
    own: Table<Holding>,
    /// For other nodes; none of them is among the above.
    fronts: HashMap<u16, Fronted>,
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

/// What a look at a port finds, for a session that wants it.
enum Found {
    Free,
    Own,
    Held(Arc<LiveSession>),
    /// The port was held for another tunnel, or the tunnel had another port: what is granted has
    /// changed meanwhile. It is no longer in the table.
    Stale(GivenUp),
}

/// The ports of one session. They are given up with it, however the session ends.
pub(super) struct OwnPorts {
    all: Arc<Ports>,
    session: SessionId,
}

impl OwnPorts {
    pub(super) fn new(all: &Arc<Ports>, session: SessionId) -> Self {
        OwnPorts {
            all: Arc::clone(all),
            session,
        }
    }

    /// Makes the session the holder of the granted port.
    ///
    /// # Errors
    /// The port cannot be bound, the session has it already, or its holder has shown a sign of life.
    pub(super) async fn claim(
        &self,
        grant: Grant,
        session: &Arc<LiveSession>,
        address: &str,
    ) -> Result<(), Refusal> {
        self.all.claim(grant, session, address).await
    }

    /// Gives up a port, if the session holds it. Connections through it end, too: a port that is
    /// nobody's carries nothing.
    pub(super) async fn release(&self, port: u16) -> bool {
        let given_up = {
            let mut state = self.all.state();
            match state.own.get(port) {
                Some(row) if row.session == self.session => self.all.remove(&mut state, port),
                _ => None,
            }
        };
        let Some(given_up) = given_up else {
            return false;
        };
        log_down(&given_up);
        given_up.end().await;
        true
    }
}

impl Drop for OwnPorts {
    fn drop(&mut self) {
        let mut state = self.all.state();
        let ports = state.own.ports_of(self.session).to_vec();
        let given_up: Vec<_> = ports
            .into_iter()
            .filter_map(|port| self.all.remove(&mut state, port))
            .collect();
        drop(state);
        // If the log itself has failed, to fail again in here would end the process.
        if !std::thread::panicking() {
            given_up.iter().for_each(log_down);
        }
    }
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

    /// From now on, ports that other nodes hold may be listened on.
    ///
    /// # Errors
    /// It has been said before.
    pub(super) fn front_by(&self, fronts: Arc<Fronts>) -> Result<(), Arc<Fronts>> {
        self.fronting.set(fronts)
    }

    pub(super) fn fronts(&self) -> Option<&Arc<Fronts>> {
        self.fronting.get()
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

    /// Whether this session holds a port.
    pub(super) fn has_one(&self, session: SessionId) -> bool {
        !self.state().own.ports_of(session).is_empty()
    }

    /// The session that holds a tunnel's port.
    pub(super) fn holder(&self, tunnel: TunnelId) -> Option<super::Holder> {
        let state = self.state();
        let own = &state.own;
        let session = &own.get(own.port_of(tunnel)?)?.holding.own.holder.session;
        Some(super::Holder {
            since: session.since(),
            public_key: session.key().to_owned(),
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

    async fn claim(
        self: &Arc<Self>,
        grant: Grant,
        session: &Arc<LiveSession>,
        address: &str,
    ) -> Result<(), Refusal> {
        let newcomer = Holder {
            session: Arc::clone(session),
            address: address.to_owned(),
        };
        let deadline = Instant::now() + limits::REBIND_TIME;
        loop {
            match self.find(grant, session.id) {
                Found::Own => {
                    self.counters().refused.held_ports.inc();
                    return Err(Refusal::Own);
                }
                Found::Stale(given_up) => self.evict(given_up).await,
                Found::Held(holder) => {
                    let is_replaced = grant.replaces && holder.key() != session.key();
                    if !is_replaced && holder.is_alive().await {
                        self.counters().refused.held_ports.inc();
                        self.events
                            .announce(SessionEvent::RefusedHeld(grant.tunnel_id), None);
                        return Err(Refusal::Held(holder.to_string()));
                    }
                    if self.pass_over(grant, &holder, &newcomer) {
                        return Ok(());
                    }
                }
                Found::Free => match self.listen(grant, &newcomer) {
                    Ok(()) => return Ok(()),
                    Err(cause) if Instant::now() > deadline => {
                        self.counters().refused.taken_ports.inc();
                        let address = SocketAddr::new(self.address, grant.port);
                        return Err(Refusal::Bind { address, cause });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }

    /// Closes a tunnel, and its session if that holds nothing else.
    pub(super) async fn close_tunnel(&self, tunnel: TunnelId) {
        let given_up = {
            let mut state = self.state();
            let port = state.own.port_of(tunnel);
            port.and_then(|port| self.remove(&mut state, port))
        };
        if let Some(given_up) = given_up {
            self.evict(given_up).await;
        }
    }

    fn find(&self, grant: Grant, session: SessionId) -> Found {
        let mut state = self.state();
        let table = &state.own;
        let former = table.port_of(grant.tunnel_id).unwrap_or(grant.port);
        let holder = table.get(grant.port).map_or(grant.tunnel_id, |r| r.tunnel);
        let stale = if former != grant.port {
            self.remove(&mut state, former)
        } else if holder != grant.tunnel_id {
            self.remove(&mut state, grant.port)
        } else {
            None
        };
        if let Some(stale) = stale {
            return Found::Stale(stale);
        }
        match state.own.get(grant.port) {
            None => Found::Free,
            Some(row) if row.session == session => Found::Own,
            Some(row) => Found::Held(Arc::clone(&row.holding.own.holder.session)),
        }
    }

    /// Listens on a port that no session of this node holds: on a new listener, or on that which is there for
    /// another node. Another session may have been quicker, or the listener that was there before is still
    /// being closed: both are errors that pass.
    fn listen(self: &Arc<Self>, grant: Grant, newcomer: &Holder) -> io::Result<()> {
        let mut state = self.state();
        let table = &state.own;
        if table.get(grant.port).is_some() || table.port_of(grant.tunnel_id).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let fronted = state.fronts.remove(&grant.port);
        let listener = match &fronted {
            Some(_) => None,
            None => Some(bind(SocketAddr::new(self.address, grant.port))?),
        };
        let stop = self.shutdown.child_token();
        let own = Arc::new(Own {
            port: grant.port,
            holder: newcomer.clone(),
            carried: self.activity.up(grant.tunnel_id),
            stop: stop.clone(),
            common: self.common.clone(),
        });
        let target = Target::Own(Arc::clone(&own));
        let listening = match (fronted, listener) {
            (Some(Fronted { listening, .. }), _) => {
                listening.target.send_replace(target);
                listening
            }
            (None, Some(listener)) => self.begin(listener, grant.port, target),
            // Where it is not there already, it was bound.
            (None, None) => return Err(io::ErrorKind::AddrInUse.into()),
        };
        let connections = stop.drop_guard();
        let holding = Holding {
            own,
            connections,
            listening,
        };
        self.insert(&mut state, grant.tunnel_id, holding);
        Ok(())
    }

    fn insert(&self, state: &mut State, tunnel: TunnelId, holding: Holding) {
        let port = holding.own.port;
        let session = Arc::clone(&holding.own.holder.session);
        let row = Row {
            tunnel,
            session: session.id,
            holding,
        };
        state.own.insert(port, row);
        self.events
            .announce(SessionEvent::Up(tunnel), Some(session.key()));
        info!(tunnel = tunnel.0, port, %session, "tunnel up");
    }

    fn begin(self: &Arc<Self>, listener: TcpListener, port: u16, target: Target) -> Listening {
        let (target, target_seen) = watch::channel(target);
        let stop = self.shutdown.child_token();
        let listening = forward::listen(listener, port, target_seen, stop.clone());
        self.watch(port, target, stop, listening)
    }

    fn watch(
        self: &Arc<Self>,
        port: u16,
        target: watch::Sender<Target>,
        stop: CancellationToken,
        listening: impl Future<Output = ()> + Send + 'static,
    ) -> Listening {
        let (ports, stopped) = (Arc::clone(self), stop.clone());
        let listener = tokio::spawn(async move {
            let _ = AssertUnwindSafe(listening).catch_unwind().await;
            if !stopped.is_cancelled() {
                ports.lost(port);
            }
        });
        Listening {
            target,
            stop: stop.drop_guard(),
            listener,
        }
    }

    /// Listens on a port that another node holds, if no session of this one does.
    ///
    /// # Errors
    /// It cannot be bound, perhaps only at this moment.
    pub(super) fn begin_front(self: &Arc<Self>, port: u16, tunnel: TunnelId) -> io::Result<()> {
        let mut state = self.state();
        let is_there = state.fronts.get(&port).map(|front| front.tunnel) == Some(tunnel);
        if is_there || state.own.get(port).is_some() {
            return Ok(());
        }
        let Some(target) = self.front(port) else {
            return Ok(());
        };
        let (tunnel, target) = (target.tunnel, Target::Front(target));
        let listening = match state.fronts.remove(&port) {
            Some(Fronted { listening, .. }) => {
                listening.target.send_replace(target);
                listening
            }
            None => {
                let listener = bind(SocketAddr::new(self.address, port))?;
                self.begin(listener, port, target)
            }
        };
        state.fronts.insert(port, Fronted { tunnel, listening });
        debug!(
            tunnel = tunnel.0,
            port, "listening for another node that holds the tunnel"
        );
        Ok(())
    }

    /// Ends listening on ports that no other node holds any more.
    pub(super) fn end_fronts(&self) {
        let mut state = self.state();
        let is_held = |port: u16| self.front(port).is_some();
        state.fronts.retain(|port, _| is_held(*port));
    }

    /// Ends listening for other nodes, once and for all.
    pub(super) fn front_no_more(&self) {
        self.fronts_have_ended.store(true, Ordering::Relaxed);
        self.end_fronts();
    }

    /// Returns when a port has to be listened on again that other nodes hold.
    pub(super) async fn a_front_is_lost(&self) {
        self.front_lost.notified().await;
    }

    /// Where a port's connections go if no session of this node holds it.
    fn front(&self, port: u16) -> Option<Arc<Front>> {
        if self.fronts_have_ended.load(Ordering::Relaxed) {
            return None;
        }
        let all = self.fronting.get()?;
        let tunnel = all.holders.tunnel_with(port)?;
        Some(Arc::new(Front {
            all: Arc::clone(all),
            tunnel,
            port,
        }))
    }

    /// Called by a listener that has ended though nobody stopped it. Its tunnel is down then, and
    /// the session has to come again, since it does not know.
    fn lost(&self, port: u16) {
        let is_this = |listening: &Listening| listening.listener.id() == tokio::task::id();
        let given_up = {
            let mut state = self.state();
            // Another one may listen there by now.
            match state.own.get(port) {
                Some(row) if is_this(&row.holding.listening) => {
                    let given_up = self.remove(&mut state, port);
                    // Nor does it listen for another node.
                    state.fronts.remove(&port);
                    given_up
                }
                _ => {
                    let front = state.fronts.get(&port);
                    if front.is_some_and(|front| is_this(&front.listening)) {
                        state.fronts.remove(&port);
                    }
                    None
                }
            }
        };
        error!(port, "the port's listener has ended by itself");
        self.front_lost.notify_one();
        if let Some(given_up) = given_up {
            log_down(&given_up);
            let session = given_up.session;
            session.close("the tunnel's listener has failed; connect again");
        }
    }

    /// Hands the listening port from a session that is silent, or whose key is replaced, to a new
    /// one, unless it has passed on.
    fn pass_over(&self, grant: Grant, former: &LiveSession, newcomer: &Holder) -> bool {
        let session = &newcomer.session;
        {
            let mut state = self.state();
            match state.own.get_mut(grant.port) {
                Some(row) if row.tunnel == grant.tunnel_id && row.session == former.id => {
                    let holding = &mut row.holding;
                    holding.own = Arc::new(Own {
                        holder: newcomer.clone(),
                        ..holding.own.as_ref().clone()
                    });
                    let target = Target::Own(Arc::clone(&holding.own));
                    holding.listening.target.send_replace(target);
                }
                _ => return false,
            }
            state.own.pass(grant.port, session.id);
            self.events.announce(
                SessionEvent::TakenOver(grant.tunnel_id),
                Some(session.key()),
            );
        }
        former.close(
            "the port has passed to a new session: this one was silent, or its key is replaced",
        );
        info!(
            tunnel = grant.tunnel_id.0,
            port = grant.port,
            former = %former,
            %session,
            "tunnel taken over"
        );
        self.counters().takeovers.inc();
        true
    }

    /// Closes what was taken out of the table against its session's will.
    async fn evict(&self, given_up: GivenUp) {
        log_down(&given_up);
        let session = Arc::clone(&given_up.session);
        given_up.end().await;
        if !self.has_one(session.id) {
            session.close("the tunnel was closed by the server");
        }
    }

    /// Takes a port from its session: the tunnel is down here. The port closes when the result is dropped,
    /// unless another node holds it.
    fn remove(&self, state: &mut State, port: u16) -> Option<GivenUp> {
        let Row {
            tunnel, holding, ..
        } = state.own.remove(port)?;
        self.events.announce(SessionEvent::Down(tunnel), None);
        self.activity.down(tunnel);
        let Holding {
            own,
            connections,
            listening,
        } = holding;
        let closing = match self.front(port) {
            Some(front) => {
                let tunnel = front.tunnel;
                listening.target.send_replace(Target::Front(front));
                state.fronts.insert(port, Fronted { tunnel, listening });
                None
            }
            None => Some(listening),
        };
        Some(GivenUp {
            tunnel,
            session: Arc::clone(&own.holder.session),
            connections,
            closing,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done to it under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_down(given_up: &GivenUp) {
    info!(tunnel = given_up.tunnel.0, session = %given_up.session, "tunnel down");
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use russh::server::{Config, Handler, run_stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;
    use crate::server::tunnel_server::live_session::ProvedKey;
    use crate::server::tunnel_server::socket::Socket;

    struct Nobody;

    impl Handler for Nobody {
        type Error = russh::Error;
    }

    /// A session whose client has gone silent, and the client's end of its connection.
    async fn session(id: SessionId) -> (Arc<LiveSession>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let (mut line, server) = tokio::io::duplex(1 << 16);
        line.write_all(b"SSH-2.0-test\r\n").await.unwrap();
        let ssh = run_stream(Arc::new(Config::default()), server, Nobody)
            .await
            .unwrap();
        let session = LiveSession {
            id,
            handle: ssh.handle(),
            scheduler: tokio::runtime::Handle::current(),
            slots: Arc::new(Semaphore::new(1)),
            deliveries: Arc::default(),
            round_trip: Arc::default(),
            log_lines: Arc::default(),
            was_given_a_port: AtomicBool::new(false),
            window_budget: Budget::per_session(),
            socket: Socket::new(accepted),
            peer,
            key: ProvedKey {
                line: "ssh-ed25519 AAAA".to_owned(),
                fingerprint: "SHA256:0".to_owned(),
            },
            since: jiff::Timestamp::now(),
            waits_for_us: AtomicBool::new(false),
        };
        (Arc::new(session), client)
    }

    fn ports() -> Arc<Ports> {
        let address = IpAddr::from([127, 0, 0, 1]);
        Arc::new(Ports::new(
            address,
            Budget::in_all(1 << 30),
            CancellationToken::new(),
        ))
    }

    /// The kernel chooses where it really listens.
    const GRANT: Grant = Grant {
        tunnel_id: TunnelId(1),
        port: 0,
        replaces: false,
    };

    async fn next_event(ports: &Ports) -> SessionEvent {
        timeout(Duration::from_secs(10), ports.events.wait())
            .await
            .expect("an event should have come");
        let noted = ports.events.take(1).noted();
        assert_eq!(noted.len(), 1);
        noted[0].event
    }

    #[tokio::test]
    async fn a_tunnel_whose_listener_has_died_is_down_and_its_bastion_is_disconnected() {
        for panics in [true, false] {
            let ports = ports();
            let (session, mut bastion) = session(SessionId(7)).await;
            let stop = ports.shutdown.child_token();
            let own = Arc::new(Own {
                port: GRANT.port,
                holder: Holder {
                    session,
                    address: String::new(),
                },
                carried: ports.activity.up(GRANT.tunnel_id),
                stop: stop.clone(),
                common: ports.common.clone(),
            });
            let listening = async move { assert!(!panics, "a bug") };
            {
                let mut state = ports.state();
                let target = watch::Sender::new(Target::Own(Arc::clone(&own)));
                let listening = ports.watch(GRANT.port, target, stop.clone(), listening);
                let holding = Holding {
                    own,
                    connections: stop.drop_guard(),
                    listening,
                };
                ports.insert(&mut state, GRANT.tunnel_id, holding);
            }
            assert_eq!(next_event(&ports).await, SessionEvent::Up(GRANT.tunnel_id));
            assert_eq!(
                next_event(&ports).await,
                SessionEvent::Down(GRANT.tunnel_id)
            );
            assert!(!ports.is_up(GRANT.tunnel_id));
            assert_eq!(bastion.read(&mut [0; 16]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn the_ports_of_a_session_are_free_when_it_ends_in_whatever_way() {
        let ports = ports();
        let (session, _bastion) = session(SessionId(7)).await;
        let own = OwnPorts::new(&ports, SessionId(7));
        own.claim(GRANT, &session, "").await.unwrap();
        assert!(matches!(
            own.claim(GRANT, &session, "").await,
            Err(Refusal::Own)
        ));
        assert_eq!(
            ports.holder(GRANT.tunnel_id).unwrap().public_key,
            session.key()
        );
        assert_eq!(next_event(&ports).await, SessionEvent::Up(GRANT.tunnel_id));

        let failing = tokio::spawn(async move {
            let _own = own;
            panic!("a bug");
        });
        assert!(failing.await.is_err());
        assert!(!ports.is_up(GRANT.tunnel_id));
        assert_eq!(
            next_event(&ports).await,
            SessionEvent::Down(GRANT.tunnel_id)
        );
    }

    #[tokio::test]
    async fn what_a_session_no_longer_holds_is_not_taken_from_its_new_holder() {
        let ports = ports();
        let (silent, _one) = session(SessionId(7)).await;
        let (newcomer, _two) = session(SessionId(8)).await;
        let (first, second) = (
            OwnPorts::new(&ports, SessionId(7)),
            OwnPorts::new(&ports, SessionId(8)),
        );
        first.claim(GRANT, &silent, "").await.unwrap();
        second.claim(GRANT, &newcomer, "").await.unwrap();
        drop(first);
        assert!(ports.is_up(GRANT.tunnel_id));
        drop(second);
        assert!(!ports.is_up(GRANT.tunnel_id));
    }
}
