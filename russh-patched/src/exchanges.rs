//! Key exchanges that cost nobody else anything: how often a client may begin one, and where the slow
//! ones are computed.

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::server::Session;
use crate::session::EncryptedState;
use crate::{Error, kex};

/// The shortest time between two exchanges of one session. A client that wants new keys every 10 MB
/// gets 100 MB/s, and one that wants nothing but new keys takes a hundredth of a processor.
const PACE: Duration = Duration::from_millis(100);

/// How many slow exchanges are computed at the same time, of all sessions together. With one, the
/// others wait for milliseconds; with more, they would take the processors from the tunnels.
static SLOW_LANE: Semaphore = Semaphore::const_new(1);

/// Those that take more than a millisecond.
const SLOW: [kex::Name; 3] = [
    kex::DH_G14_SHA256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
];

impl Session {
    /// How long an exchange that the client begins has to wait: it may exchange keys once before it
    /// has logged in, and at a bounded rate afterwards.
    ///
    /// # Errors
    /// It has not logged in.
    pub(crate) fn pause_before_exchange(&self) -> Result<Duration, Error> {
        let Some(encrypted) = &self.common.encrypted else {
            return Ok(Duration::ZERO);
        };
        match encrypted.state {
            EncryptedState::InitCompression | EncryptedState::Authenticated => {
                Ok(PACE.saturating_sub(encrypted.last_rekey.elapsed()))
            }
            _ => Err(Error::NotAuthenticated),
        }
    }
}

/// Computes a server's part of an exchange; a slow one apart from the runtime's threads, which carry
/// everybody's bytes.
pub(crate) async fn aside<T>(name: kex::Name, compute: impl FnOnce() -> T) -> T {
    if !SLOW.contains(&name) {
        return compute();
    }
    // It is never closed, so an error cannot happen.
    let _permit = SLOW_LANE.acquire().await;
    tokio::task::block_in_place(compute)
}
