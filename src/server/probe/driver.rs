//! What a kind of database needs for a test: a way through the stages, each of which leads to the next.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::allowance::Allowance;
use super::report::Failure;
use crate::protocol::{ConnectionTest, TlsMode};

/// What a stage found, in words, and what the next one goes on with.
pub(super) struct Found<T: ?Sized> {
    pub(super) said: String,
    pub(super) next: Box<T>,
}

impl<T: ?Sized> Found<T> {
    pub(super) fn new(said: impl Into<String>, next: Box<T>) -> Self {
        Found {
            said: said.into(),
            next,
        }
    }
}

/// Where a database is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Where to connect.
    pub(super) address: SocketAddr,
    /// `host:port` as the one who connects to the database sees it.
    pub(super) database: String,
    /// Whether a tunnel leads there.
    pub(super) is_tunnelled: bool,
    /// Whether that may be this machine itself.
    pub(super) own_machine_allowed: bool,
    /// What may be heard from there.
    pub(super) allowance: Allowance,
}

impl Place {
    /// The database's own name, for what goes by names: TLS, HTTP.
    pub(super) fn host(&self) -> &str {
        let host = self.database.rsplit_once(':');
        host.map_or(self.database.as_str(), |(host, _)| host)
    }
}

/// A kind of database.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    /// Connects, and hears that such a database answers.
    async fn reach(&self, place: &Place, tls: TlsMode) -> Result<Found<dyn Reached>, Failure>;
}

/// A database that answers.
#[async_trait]
pub(super) trait Reached: Send {
    /// Agrees on encryption, or on none.
    async fn encrypt(self: Box<Self>, tls: TlsMode) -> Result<Found<dyn Ready>, Failure>;
}

/// A database with which it is agreed whether to encrypt.
#[async_trait]
pub(super) trait Ready: Send {
    /// Logs in.
    async fn login(self: Box<Self>, login: &ConnectionTest) -> Result<Box<dyn Session>, Failure>;
}

/// A session that is logged in.
#[async_trait]
pub(super) trait Session: Send {
    /// Runs `SELECT 1`, and asks the database what it is.
    async fn query(&mut self) -> Result<Answer, Failure>;

    /// Says goodbye, so that the database does not count a lost connection. The caller bounds the time.
    async fn close(self: Box<Self>);
}

/// What a query found.
pub(super) struct Answer {
    /// How long `SELECT 1` took there and back.
    pub(super) round_trip: Duration,
    /// What the database says it is.
    pub(super) version: String,
}

/// The remedy for a database's error by its code, from a list of a driver's own.
pub(super) fn remedy<C: PartialEq>(
    remedies: &[(&[C], &'static str)],
    code: Option<&C>,
) -> Option<&'static str> {
    let code = code?;
    let found = remedies.iter().find(|(codes, _)| codes.contains(code))?;
    Some(found.1)
}

/// A database's refusal, with the remedy for its code.
pub(super) fn refused<C: PartialEq>(
    said: String,
    remedies: &[(&[C], &'static str)],
    code: &C,
) -> Failure {
    let remedy = remedy(remedies, Some(code));
    Failure::new(said, remedy.unwrap_or("Look at the database's own log."))
}

/// A query that fails though the login worked; in the database's own words.
pub(super) fn query_failure(words: String) -> Failure {
    Failure::new(
        words,
        "The login works, but a plain query does not: look at the database's own log.",
    )
}
