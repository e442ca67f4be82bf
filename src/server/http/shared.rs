//! What the pages and the live streams share.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Semaphore;
use url::Url;

use super::rate_limit::RateLimit;
use crate::server::passwords::Passwords;
use crate::server::store::SessionLimits;

/// Live streams at a time. Each holds a task, a socket and a few KiB.
const STREAMS: usize = 256;

/// Which kind of cookies browsers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookies {
    /// By https, for the whole host.
    OfHost,
    /// By https, for the path of the public URL.
    OfPath,
    /// By plain http.
    Plain,
}

/// Kept for the life of the server.
pub struct Shared {
    /// A permit for each live stream.
    pub streams: Arc<Semaphore>,
    /// How long a browser stays signed in.
    pub limits: SessionLimits,
    /// What hashes passwords.
    pub passwords: Passwords,
    pub(super) sign_ins: RateLimit,
    /// Whether browsers come by https, if perhaps through a proxy.
    pub https: bool,
    /// Scheme, host and port, as browsers send it in `Origin`.
    pub origin: String,
    /// The path of the public URL, without a slash at the end.
    base: String,
}

impl Shared {
    /// For a server that browsers call by this URL.
    ///
    /// # Errors
    /// It is no URL, or the system gives no more threads.
    pub fn new(public_url: &str, limits: SessionLimits) -> anyhow::Result<Self> {
        let url = Url::parse(public_url).context("the public URL cannot be read")?;
        Ok(Shared {
            streams: Arc::new(Semaphore::new(STREAMS)),
            limits,
            passwords: Passwords::start()?,
            sign_ins: RateLimit::default(),
            https: url.scheme() == "https",
            origin: url.origin().ascii_serialization(),
            base: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// How many live streams are open.
    pub fn open_streams(&self) -> usize {
        STREAMS - self.streams.available_permits()
    }

    /// Which kind of cookies browsers get.
    pub fn cookies(&self) -> Cookies {
        match (self.https, self.base.is_empty()) {
            (true, true) => Cookies::OfHost,
            (true, false) => Cookies::OfPath,
            (false, _) => Cookies::Plain,
        }
    }

    /// A path of this server as browsers see it.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}
