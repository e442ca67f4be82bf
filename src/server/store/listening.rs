//! What PostgreSQL tells of itself: NOTIFY, heard on a connection of its own.

use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgListener, Postgres};
use tokio::time::timeout;

use super::sql::Pool;
use super::{Result, Store, StoreError};

/// How long the connection may take to be made, and to answer whether it is still there.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection that hears what is told on one channel.
#[derive(Debug)]
pub struct Listening(PgListener);

impl Store {
    /// Begins to listen on this channel.
    pub async fn listen(&self, channel: &str) -> Result<Listening> {
        let Pool::Postgres(readers) = self.readers.pool() else {
            return Err(sqlx::Error::Configuration("SQLite tells nothing".into()).into());
        };
        // A pool of one, whose connection is given to nobody else.
        let own = PoolOptions::<Postgres>::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(LIMIT)
            .connect_lazy_with(readers.connect_options().as_ref().clone());
        let mut listener = PgListener::connect_with(&own).await?;
        // Whoever listens has to look at what it missed, so it begins anew.
        listener.eager_reconnect(false);
        bounded(listener.listen(channel)).await?;
        Ok(Listening(listener))
    }
}

impl Listening {
    /// Waits until something is told; what was told meanwhile counts as one. It may be dropped while it waits.
    ///
    /// # Errors
    /// The connection is lost, and with it what was told since: begin anew.
    pub async fn next(&mut self) -> Result<()> {
        let mut told = Some(self.0.try_recv().await);
        while let Some(one) = told {
            if one?.is_none() {
                return Err(sqlx::Error::WorkerCrashed.into());
            }
            told = self.0.try_recv().now_or_never();
        }
        Ok(())
    }

    /// Makes sure that the connection is still there: one that has silently gone tells nothing.
    pub async fn check(&mut self) -> Result<()> {
        bounded(sqlx::query("SELECT 1").execute(&mut self.0))
            .await
            .map(drop)
    }
}

async fn bounded<T>(work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match timeout(LIMIT, work).await {
        Ok(done) => done.map_err(StoreError::from),
        Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
    }
}
