//! Which session holds which port: one port, one holder.
//!
//! A tunnel is up exactly while its port stands in the table. A port passes from a silent
//! session to a new one of the same tunnel without its listener being closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info};

use super::Grant;
use super::activity::Activity;
use super::counters::Counters;
use super::events::{SessionEvent, SessionEvents};
use super::forward::{self, Holder};
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

/// A port in use.
struct Holding {
    holder: watch::Sender<Holder>,
    /// Ends the listener and every connection through it, also when it is merely dropped.
    stop: DropGuard,
    listener: JoinHandle<()>,
}

impl Holding {
    fn session(&self) -> Arc<LiveSession> {
        Arc::clone(&self.holder.borrow().session)
    }

    /// Returns when the port is closed.
    async fn end(self) {
        drop(self.stop);
        // An error would be a panic in the task; the port is closed then, too.
        let _ = self.listener.await;
    }
}

/// The ports of the whole server.
pub(super) struct Ports {
    address: IpAddr,
    table: Mutex<Table<Holding>>,
    /// Announced while the table is locked, so that they come in the order in which they happened.
    events: SessionEvents,
    activity: Activity,
    window_budget: Arc<Budget>,
    counters: Arc<Counters>,
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
    Stale(Row<Holding>),
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
        let row = {
            let mut table = self.all.table();
            match table.get(port) {
                Some(row) if row.session == self.session => self.all.remove(&mut table, port),
                _ => None,
            }
        };
        let Some(row) = row else { return false };
        log_down(&row);
        row.holding.end().await;
        true
    }
}

impl Drop for OwnPorts {
    fn drop(&mut self) {
        let mut table = self.all.table();
        let ports = table.ports_of(self.session).to_vec();
        let rows: Vec<_> = ports
            .into_iter()
            .filter_map(|port| self.all.remove(&mut table, port))
            .collect();
        drop(table);
        // If the log itself has failed, to fail again in here would end the process.
        if !std::thread::panicking() {
            rows.iter().for_each(log_down);
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
            table: Mutex::default(),
            events: SessionEvents::default(),
            activity: Activity::default(),
            window_budget,
            counters: Arc::default(),
            shutdown,
        }
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
        &self.counters
    }

    /// How many ports are held.
    pub(super) fn in_use(&self) -> usize {
        self.table().len()
    }

    /// The tunnels whose ports are held.
    pub(super) fn tunnels(&self) -> Vec<TunnelId> {
        self.table().tunnels().collect()
    }

    pub(super) fn is_up(&self, tunnel: TunnelId) -> bool {
        self.table().port_of(tunnel).is_some()
    }

    /// Whether this session holds a port.
    pub(super) fn has_one(&self, session: SessionId) -> bool {
        !self.table().ports_of(session).is_empty()
    }

    /// The session that holds a tunnel's port.
    pub(super) fn holder(&self, tunnel: TunnelId) -> Option<super::Holder> {
        let table = self.table();
        let session = table.get(table.port_of(tunnel)?)?.holding.session();
        Some(super::Holder {
            since: session.since(),
            public_key: session.key().to_owned(),
        })
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
                    self.counters.refused.held_ports.inc();
                    return Err(Refusal::Own);
                }
                Found::Stale(row) => self.evict(row).await,
                Found::Held(holder) => {
                    let is_replaced = grant.replaces && holder.key() != session.key();
                    if !is_replaced && holder.is_alive().await {
                        self.counters.refused.held_ports.inc();
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
                        self.counters.refused.taken_ports.inc();
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
        let row = {
            let mut table = self.table();
            table
                .port_of(tunnel)
                .and_then(|port| self.remove(&mut table, port))
        };
        if let Some(row) = row {
            self.evict(row).await;
        }
    }

    fn find(&self, grant: Grant, session: SessionId) -> Found {
        let mut table = self.table();
        let former = table.port_of(grant.tunnel_id).unwrap_or(grant.port);
        let holder = table.get(grant.port).map_or(grant.tunnel_id, |r| r.tunnel);
        let stale = if former != grant.port {
            self.remove(&mut table, former)
        } else if holder != grant.tunnel_id {
            self.remove(&mut table, grant.port)
        } else {
            None
        };
        if let Some(stale) = stale {
            return Found::Stale(stale);
        }
        match table.get(grant.port) {
            None => Found::Free,
            Some(row) if row.session == session => Found::Own,
            Some(row) => Found::Held(row.holding.session()),
        }
    }

    /// Binds a free port. Another session may have been quicker, or the listener that was there
    /// before is still being closed: both are errors that pass.
    fn listen(self: &Arc<Self>, grant: Grant, newcomer: &Holder) -> io::Result<()> {
        let mut table = self.table();
        if table.get(grant.port).is_some() || table.port_of(grant.tunnel_id).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = bind(SocketAddr::new(self.address, grant.port))?;
        let (holder, holder_seen) = watch::channel(newcomer.clone());
        let stop = self.shutdown.child_token();
        let listening = forward::listen(
            listener,
            grant.port,
            holder_seen,
            Arc::clone(&self.window_budget),
            Arc::clone(&self.counters),
            self.activity.up(grant.tunnel_id),
            stop.clone(),
        );
        self.insert(&mut table, grant, holder, stop, listening);
        Ok(())
    }

    fn insert(
        self: &Arc<Self>,
        table: &mut Table<Holding>,
        grant: Grant,
        holder: watch::Sender<Holder>,
        stop: CancellationToken,
        listening: impl Future<Output = ()> + Send + 'static,
    ) {
        let session = Arc::clone(&holder.borrow().session);
        let (ports, stopped) = (Arc::clone(self), stop.clone());
        let listener = tokio::spawn(async move {
            let _ = AssertUnwindSafe(listening).catch_unwind().await;
            if !stopped.is_cancelled() {
                ports.lost(grant.port);
            }
        });
        let row = Row {
            tunnel: grant.tunnel_id,
            session: session.id,
            holding: Holding {
                holder,
                stop: stop.drop_guard(),
                listener,
            },
        };
        table.insert(grant.port, row);
        self.events
            .announce(SessionEvent::Up(grant.tunnel_id), Some(session.key()));
        info!(tunnel = grant.tunnel_id.0, port = grant.port, %session, "tunnel up");
    }

    /// Called by a listener that has ended though nobody stopped it. Its tunnel is down then, and
    /// the session has to come again, since it does not know.
    fn lost(&self, port: u16) {
        let row = {
            let mut table = self.table();
            // Another one may listen there by now.
            match table.get(port) {
                Some(row) if row.holding.listener.id() == tokio::task::id() => {
                    self.remove(&mut table, port)
                }
                _ => None,
            }
        };
        if let Some(row) = row {
            error!(
                tunnel = row.tunnel.0,
                port, "the port's listener has ended by itself"
            );
            let session = row.holding.session();
            session.close("the tunnel's listener has failed; connect again");
        }
    }

    /// Hands the listening port from a session that is silent, or whose key is replaced, to a new
    /// one, unless it has passed on.
    fn pass_over(&self, grant: Grant, former: &LiveSession, newcomer: &Holder) -> bool {
        let session = &newcomer.session;
        {
            let mut table = self.table();
            match table.get(grant.port) {
                Some(row) if row.tunnel == grant.tunnel_id && row.session == former.id => {
                    row.holding.holder.send_replace(newcomer.clone());
                }
                _ => return false,
            }
            table.pass(grant.port, session.id);
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
        self.counters.takeovers.inc();
        true
    }

    /// Closes what was taken out of the table against its session's will.
    async fn evict(&self, row: Row<Holding>) {
        log_down(&row);
        let session = row.holding.session();
        row.holding.end().await;
        if self.table().ports_of(session.id).is_empty() {
            session.close("the tunnel was closed by the server");
        }
    }

    /// Takes a port out of the table: its tunnel is down. The port closes when the row is dropped.
    fn remove(&self, table: &mut Table<Holding>, port: u16) -> Option<Row<Holding>> {
        let row = table.remove(port)?;
        self.events.announce(SessionEvent::Down(row.tunnel), None);
        self.activity.down(row.tunnel);
        Some(row)
    }

    fn table(&self) -> MutexGuard<'_, Table<Holding>> {
        // Nothing that is done to the table under this lock can panic half-way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_down(row: &Row<Holding>) {
    info!(tunnel = row.tunnel.0, session = %row.holding.session(), "tunnel down");
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

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
            let holder = watch::channel(Holder {
                session,
                address: String::new(),
            });
            let listening = async move { assert!(!panics, "a bug") };
            let stop = ports.shutdown.child_token();
            ports.insert(&mut ports.table(), GRANT, holder.0, stop, listening);
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
