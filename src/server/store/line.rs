//! A connection to PostgreSQL of one's own, for what several nodes tell each other.
//!
//! It stands beside those that requests share, so that no request holds up a sign of life; and it is given up as
//! soon as it does not answer in time, since one that hangs is worse than none.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::timeout;

use super::sql::Statement;
use super::{DatabaseUrl, Result, postgres};

/// How long it may take at least to make the connection: that needs several times as many answers as anything that is
/// done on it, and a database that is far away gives each of them late.
const CONNECTING: Duration = Duration::from_secs(5);

/// The connection. It is made when it is needed first, and again after it was given up.
#[derive(Debug)]
pub struct Line {
    url: DatabaseUrl,
    limit: Duration,
    connection: Option<PgConnection>,
}

impl Line {
    /// One on which nothing takes longer than this, once it is made.
    pub fn new(url: &DatabaseUrl, limit: Duration) -> Self {
        Line {
            url: url.clone(),
            limit,
            connection: None,
        }
    }

    /// Takes the connection out. Where it is not put back, it is given up.
    pub(super) async fn take(&mut self) -> Result<PgConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                let connecting = postgres::line(&self.url, self.limit);
                within(self.limit.max(CONNECTING), connecting).await
            }
        }
    }

    pub(super) fn put_back(&mut self, connection: PgConnection) {
        self.connection = Some(connection);
    }

    pub(super) async fn bounded<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.limit, work).await
    }

    pub(super) fn sql<'c>(
        connection: &'c mut PgConnection,
        text: impl Into<Cow<'static, str>>,
    ) -> Statement<'c> {
        Statement::on(connection, text)
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
    }
}
