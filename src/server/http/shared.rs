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

    /// The name of the cookie for this purpose. Browsers take a `__Host-` cookie only by https, from no other
    /// host of the domain, and for all paths of this one; a `__Secure-` cookie only by https.
    pub(super) fn cookie_name(&self, purpose: &str) -> String {
        let prefix = match (self.https, self.base.is_empty()) {
            (true, true) => "__Host-",
            (true, false) => "__Secure-",
            (false, _) => "",
        };
        format!("{prefix}holistics-tunnel{purpose}")
    }

    /// A path of this server as browsers see it.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_cookie_has_a_name_that_browsers_take_with_its_path() {
        let name = |url| {
            let (idle, lifetime) = (Duration::from_secs(1), Duration::from_secs(1));
            let shared = Shared::new(url, SessionLimits { idle, lifetime }).unwrap();
            shared.cookie_name("-form")
        };
        assert_eq!(name("https://a.example"), "__Host-holistics-tunnel-form");
        assert_eq!(
            name("https://a.example/b/"),
            "__Secure-holistics-tunnel-form"
        );
        assert_eq!(name("http://a.example/b"), "holistics-tunnel-form");
    }
}
