//! A session whose key is proved, as those see it who carry connections through it.
//!
//! What its client may ask for is in `client`; which ports it holds is in `ports`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use russh::Disconnect;
use russh::server::Handle;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

use super::delivery::Deliveries;
use super::limits;
use super::log_lines::{Kind, LeftOut, LogLines, Who};
use super::round_trip::RoundTrip;
use super::socket::Socket;
use super::window::Budget;

/// A session's number, in the order of arrival and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionId(pub(super) u64);

/// A session whose key is proved.
pub(super) struct LiveSession {
    pub(super) id: SessionId,
    pub(super) handle: Handle,
    /// Where it and all its connections live.
    pub(super) scheduler: runtime::Handle,
    /// One for each connection that may be forwarded at the same time.
    pub(super) slots: Arc<Semaphore>,
    pub(super) window_budget: Arc<Budget>,
    pub(super) round_trip: Arc<RoundTrip>,
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) socket: Arc<Socket>,
    pub(super) peer: SocketAddr,
    pub(super) key: ProvedKey,
    pub(super) since: jiff::Timestamp,
    /// Whether it has ever been given a port.
    pub(super) was_given_a_port: AtomicBool,
    pub(super) log_lines: Arc<LogLines>,
    /// Whether it waits for an answer of ours, and therefore cannot show that it is alive.
    pub(super) waits_for_us: AtomicBool,
}

/// For logs: which client this is.
impl fmt::Display for LiveSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.peer, self.key.fingerprint)
    }
}

impl LiveSession {
    /// The key it has proved.
    pub(super) fn key(&self) -> &str {
        &self.key.line
    }

    /// When it logged in.
    pub(super) fn since(&self) -> jiff::Timestamp {
        self.since
    }

    /// Whether another line of this kind about its key may be written to the log.
    pub(super) fn may_log(&self, kind: Kind) -> Option<LeftOut> {
        self.log_lines
            .may(kind, Who::Key(self.key.fingerprint.clone()))
    }

    /// A place for one connection more.
    ///
    /// # Errors
    /// It has none, or lets no connection through any more.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        Arc::clone(&self.slots).try_acquire_owned()
    }

    /// Has no connection go through it any more, if none goes through it now. `places` is how many may.
    pub(super) fn close_to_connections(&self, places: usize) -> bool {
        let all = u32::try_from(places).unwrap_or(u32::MAX);
        match self.slots.try_acquire_many(all) {
            Ok(_) => {
                self.slots.close();
                true
            }
            Err(_) => false,
        }
    }

    /// Until the answer is dropped, the session counts as alive.
    pub(super) fn wait_for_us(&self) -> WaitsForUs<'_> {
        self.waits_for_us.store(true, Ordering::Relaxed);
        WaitsForUs(&self.waits_for_us)
    }

    /// Asks for a sign of life. Whatever arrives counts: on a busy line the answer itself may be
    /// behind megabytes of data.
    pub(super) async fn is_alive(&self) -> bool {
        if self.waits_for_us.load(Ordering::Relaxed) {
            return true;
        }
        let heard = self.socket.heard();
        tokio::select! {
            () = heard => true,
            answer = self.handle.ping() => answer.is_ok(),
            () = tokio::time::sleep(limits::SIGN_OF_LIFE) => false,
        }
    }

    /// Says goodbye if the client listens, and closes the connection in any case.
    pub(super) fn close(&self, reason: &'static str) {
        let (handle, socket) = (self.handle.clone(), Arc::clone(&self.socket));
        tokio::spawn(async move {
            let farewell = async {
                let language = String::new();
                let _ = handle
                    .disconnect(Disconnect::ByApplication, reason.to_owned(), language)
                    .await;
                // The session's task ends, and with it the receiver of this ping, when the
                // client has been told and has closed its side.
                let _ = handle.ping().await;
            };
            let _ = timeout(limits::FAREWELL, farewell).await;
            socket.close();
        });
    }
}

/// While it is there, a session waits for an answer of ours.
pub(super) struct WaitsForUs<'a>(&'a AtomicBool);

impl Drop for WaitsForUs<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A key whose owner has signed with it.
#[derive(Clone)]
pub(super) struct ProvedKey {
    /// OpenSSH's one-line form without a comment.
    pub(super) line: String,
    /// `SHA256:…`, for logs.
    pub(super) fingerprint: String,
}
