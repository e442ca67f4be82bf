//! Key exchanges that cost nobody else anything: how often a client may begin one, and where the slow
//! ones are computed.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::kex::{KexAlgorithm, KexAlgorithmImplementor as _, KexCause};
use crate::server::Session;
use crate::session::{EncryptedState, Exchange};
use crate::{Error, kex};

/// The shortest time between two exchanges of one session. A client that wants new keys every 10 MB
/// gets 100 MB/s, and one that wants nothing but new keys takes a hundredth of a processor.
const PACE: Duration = Duration::from_millis(100);

/// Where the slow exchanges of strangers are computed, one after the other. With more at the same time
/// they would take the processors from the tunnels.
static STRANGERS: Semaphore = Semaphore::const_new(1);

/// The same for those who have logged in: strangers never make them wait.
static KNOWN: Semaphore = Semaphore::const_new(1);

/// How long a stranger's exchange may wait for its turn: that of a thousand others. It bounds what waits
/// of those who have hung up meanwhile, which nobody can see before their turn.
const STRANGERS_PATIENCE: Duration = Duration::from_secs(10);

/// Those that take about a millisecond or more. A whole answer, with its signature and its way over
/// loopback, took at the least, in a release build: curve25519 0.23 ms, mlkem768x25519 0.29, nistp256
/// 0.49, nistp521 0.98, nistp384 1.2, group14 9.7; group16, which is not offered, 150.
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

/// Computes a server's part of an exchange; a slow one apart from the sessions' threads, which carry
/// everybody's bytes.
///
/// # Errors
/// The client's part is wrong, or a stranger's turn has not come in time.
pub(crate) async fn server_dh(
    name: kex::Name,
    cause: &KexCause,
    mut kex: KexAlgorithm,
    exchange: &mut Exchange,
    client_part: &[u8],
) -> Result<KexAlgorithm, Error> {
    if !SLOW.contains(&name) {
        kex.server_dh(exchange, client_part)?;
        return Ok(kex);
    }
    // They are never closed, so that the inner errors cannot happen.
    let _permit = if cause.is_rekey() {
        KNOWN.acquire().await
    } else {
        timeout(STRANGERS_PATIENCE, STRANGERS.acquire()).await?
    };
    let mut there = std::mem::take(exchange);
    let client_part = client_part.to_vec();
    // It ends early only by a panic of the arithmetic.
    let (computed, kex, back) = tokio::task::spawn_blocking(move || {
        let computed = kex.server_dh(&mut there, &client_part);
        (computed, kex, there)
    })
    .await
    .map_err(|_| Error::KexInit)?;
    *exchange = back;
    computed?;
    Ok(kex)
}
