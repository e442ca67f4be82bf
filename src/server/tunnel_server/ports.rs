//! Which session holds which port: one port, one holder.
//!
//! A tunnel is up exactly while its port stands in this table. A port passes from a silent
//! session to a new one of the same tunnel without its listener being closed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::counters::Counters;
use super::forward::{self, Holder};
use super::limits;
use super::live_session::{LiveSession, SessionId};
use super::window::Budget;
use super::{Grant, SessionEvent};
use crate::protocol::TunnelId;

/// Why a session may not have a port that its key is granted.
#[derive(Debug, Error)]
pub(super) enum Refusal {
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
    tunnel: TunnelId,
    holder: watch::Sender<Holder>,
    /// Ends the listener and every connection through it.
    stop: CancellationToken,
    listener: JoinHandle<()>,
}

impl Holding {
    fn session(&self) -> Arc<LiveSession> {
        Arc::clone(&self.holder.borrow().session)
    }

    /// Returns when the port is closed.
    async fn end(self) {
        self.stop.cancel();
        // An error would be a panic in the task; the port is closed then, too.
        let _ = self.listener.await;
    }
}

/// The table of ports.
pub(super) struct Ports {
    address: IpAddr,
    holdings: Mutex<HashMap<u16, Holding>>,
    events: broadcast::Sender<SessionEvent>,
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
    /// Held by a session that has it for another tunnel: the port was given away meanwhile.
    Stale(Holding),
}

impl Ports {
    pub(super) fn new(
        address: IpAddr,
        window_budget: Arc<Budget>,
        shutdown: CancellationToken,
    ) -> Self {
        Ports {
            address,
            holdings: Mutex::default(),
            events: broadcast::channel(1024).0,
            window_budget,
            counters: Arc::default(),
            shutdown,
        }
    }

    pub(super) fn events(&self) -> broadcast::Receiver<SessionEvent> {
        self.events.subscribe()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many ports are held.
    pub(super) fn in_use(&self) -> usize {
        self.table().len()
    }

    pub(super) fn is_up(&self, tunnel: TunnelId) -> bool {
        self.table().values().any(|h| h.tunnel == tunnel)
    }

    /// Whether this session holds a port.
    pub(super) fn has_one(&self, session: SessionId) -> bool {
        self.table().values().any(|h| h.session().id == session)
    }

    /// The session that holds a tunnel's port.
    pub(super) fn holder(&self, tunnel: TunnelId) -> Option<super::Holder> {
        let table = self.table();
        let session = table.values().find(|h| h.tunnel == tunnel)?.session();
        Some(super::Holder {
            since: session.since(),
            public_key: session.key().to_owned(),
        })
    }

    /// Makes the session the holder of the granted port.
    ///
    /// # Errors
    /// The port cannot be bound, or its holder has shown a sign of life.
    pub(super) async fn claim(
        &self,
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
                Found::Own => return Ok(()),
                Found::Stale(holding) => self.evict(holding).await,
                Found::Held(holder) => {
                    let is_replaced = grant.replaces && holder.key() != session.key();
                    if !is_replaced && holder.is_alive().await {
                        self.counters.refused.held_ports.one();
                        self.announce(SessionEvent::RefusedHeld(grant.tunnel_id));
                        return Err(Refusal::Held(holder.to_string()));
                    }
                    if self.pass_over(grant, &holder, &newcomer) {
                        return Ok(());
                    }
                }
                Found::Free => match self.listen(grant, &newcomer) {
                    Ok(()) => return Ok(()),
                    Err(cause) if Instant::now() > deadline => {
                        self.counters.refused.taken_ports.one();
                        let address = SocketAddr::new(self.address, grant.port);
                        return Err(Refusal::Bind { address, cause });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }

    /// Gives up a port, if this session holds it. Connections through it end, too: a port that
    /// is nobody's carries nothing.
    pub(super) async fn release(&self, port: u16, session: SessionId) -> bool {
        let holding = {
            let mut table = self.table();
            match table.get(&port) {
                Some(holding) if holding.session().id == session => table.remove(&port),
                _ => None,
            }
        };
        let Some(holding) = holding else { return false };
        self.close(holding).await;
        true
    }

    /// Gives up every port of a session that has ended.
    pub(super) async fn release_all(&self, session: SessionId) {
        for holding in self.remove_where(|h| h.session().id == session) {
            self.close(holding).await;
        }
    }

    /// Closes a tunnel, and its session if that holds nothing else.
    pub(super) async fn close_tunnel(&self, tunnel: TunnelId) {
        for holding in self.remove_where(|h| h.tunnel == tunnel) {
            self.evict(holding).await;
        }
    }

    fn find(&self, grant: Grant, session: SessionId) -> Found {
        let mut table = self.table();
        let Some(holding) = table.get(&grant.port) else {
            return Found::Free;
        };
        if holding.tunnel == grant.tunnel_id {
            let holder = holding.session();
            return if holder.id == session {
                Found::Own
            } else {
                Found::Held(holder)
            };
        }
        match table.remove(&grant.port) {
            Some(holding) => Found::Stale(holding),
            None => Found::Free,
        }
    }

    /// Binds a free port. Another session may have been quicker, or the listener that was there
    /// before is still being closed: both are errors that pass.
    fn listen(&self, grant: Grant, newcomer: &Holder) -> io::Result<()> {
        let mut table = self.table();
        if table.contains_key(&grant.port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = bind(SocketAddr::new(self.address, grant.port))?;
        let (holder, holder_seen) = watch::channel(newcomer.clone());
        let stop = self.shutdown.child_token();
        let listener = tokio::spawn(forward::listen(
            listener,
            grant.port,
            holder_seen,
            Arc::clone(&self.window_budget),
            Arc::clone(&self.counters),
            stop.clone(),
        ));
        table.insert(
            grant.port,
            Holding {
                tunnel: grant.tunnel_id,
                holder,
                stop,
                listener,
            },
        );
        drop(table);
        info!(tunnel = grant.tunnel_id, port = grant.port, session = %newcomer.session, "tunnel up");
        self.announce(SessionEvent::Up(grant.tunnel_id));
        Ok(())
    }

    /// Hands the listening port from a session that is silent, or whose key is replaced, to a new
    /// one, unless it has passed on.
    fn pass_over(&self, grant: Grant, former: &LiveSession, newcomer: &Holder) -> bool {
        {
            let table = self.table();
            match table.get(&grant.port) {
                Some(h) if h.tunnel == grant.tunnel_id && h.session().id == former.id => {
                    h.holder.send_replace(newcomer.clone());
                }
                _ => return false,
            }
        }
        former.close(
            "the port has passed to a new session: this one was silent, or its key is replaced",
        );
        info!(
            tunnel = grant.tunnel_id,
            port = grant.port,
            former = %former,
            session = %newcomer.session,
            "tunnel taken over"
        );
        self.counters.takeovers.one();
        self.announce(SessionEvent::TakenOver(grant.tunnel_id));
        true
    }

    /// Closes a holding against its session's will.
    async fn evict(&self, holding: Holding) {
        let session = holding.session();
        self.close(holding).await;
        let holds_more = self.table().values().any(|h| h.session().id == session.id);
        if !holds_more {
            session.close("the tunnel was closed by the server");
        }
    }

    async fn close(&self, holding: Holding) {
        info!(tunnel = holding.tunnel, session = %holding.session(), "tunnel down");
        self.announce(SessionEvent::Down(holding.tunnel));
        holding.end().await;
    }

    fn remove_where(&self, condition: impl Fn(&Holding) -> bool) -> Vec<Holding> {
        self.table()
            .extract_if(|_, holding| condition(holding))
            .map(|(_, holding)| holding)
            .collect()
    }

    fn announce(&self, event: SessionEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u16, Holding>> {
        // A panic elsewhere leaves the table whole: every change of it is a single operation.
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
