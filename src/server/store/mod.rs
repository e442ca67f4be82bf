//! What the control plane keeps: data sources, tunnels, logins, keys, tokens and events, in SQLite.
//!
//! It is SQL alone. [`Store`] reads; what belongs together is written by one [`Writing`]. Which change is
//! allowed, what a token is and what a password is sealed with is the business of `domain`.

mod actor;
mod api_tokens;
mod audit;
mod data_sources;
mod events;
mod folded;
mod history;
mod host_keys;
mod idempotency;
mod keys;
mod lists;
mod logins;
mod operators;
mod ports;
mod record;
mod restored;
mod sign_ins;
mod tokens;
mod tunnels;
pub mod whole;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};
use tokio::sync::Mutex;

pub use actor::{Actor, ActorKind};
pub use api_tokens::{ApiToken, ListedApiToken, NewApiToken, Scope};
pub use audit::AuditEntry;
pub use events::{Event, EventKind};
pub use history::TunnelDay;
pub use host_keys::{Knowledge, Source};
pub use idempotency::{NamedRequest, RequestName};
pub use keys::{GrantRow, TunnelKeys};
pub use lists::{Filter, Part, Stage, Up};
pub use logins::{SealedPassword, StoredLogin};
pub use operators::{ListedOperator, OperatorAccount, OperatorId};
pub use ports::{PortChoice, PortRange};
pub use record::{Record, Registrant, TunnelRecord};
pub use restored::Given;
pub use sign_ins::SessionLimits;
pub use tokens::{CommandRow, NewToken, StoredToken, TokenHash, TokenKind};
pub use tunnels::{EnrollmentRow, Registration, SessionRow};

/// How long a statement waits for another process (`token create` beside `serve`) to finish writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a check that has succeeded is not repeated.
const CHECK_HOLDS: Duration = Duration::from_secs(1);

/// Connections for reading; each holds a thread and a page cache of at most 2 MiB.
const READERS: u32 = 4;

/// What the schema is made of.
static MIGRATIONS: Migrator = sqlx::migrate!("src/server/store/migrations");

/// The database failed.
#[derive(Debug, thiserror::Error)]
#[error("the database failed")]
pub struct StoreError(#[from] sqlx::Error);

impl StoreError {
    /// Whether the database cannot be used now, which is no fault of what was asked.
    pub fn is_outage(&self) -> bool {
        /// SQLite's primary result codes for: busy, input or output failed, full, cannot be opened.
        const CODES: [i32; 4] = [5, 10, 13, 14];
        match &self.0 {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => {
                let code = error.code().and_then(|code| code.parse::<i32>().ok());
                code.is_some_and(|code| CODES.contains(&(code & 0xff)))
            }
            _ => false,
        }
    }
}

/// What was asked of the database.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    readers: SqlitePool,
    // SQLite takes one writer at a time; with one connection they queue here, in order.
    writer: SqlitePool,
    /// When a check has last succeeded.
    written: Arc<Mutex<Option<Instant>>>,
}

impl Store {
    /// Opens the database; makes the file and brings its schema up to date.
    ///
    /// # Errors
    /// The file cannot be opened or made, or was written by a newer version.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let writer = connect(options.clone(), 1)
            .await
            .with_context(|| format!("cannot open the database {}", path.display()))?;
        MIGRATIONS
            .run(&writer)
            .await
            .with_context(|| format!("cannot update the schema of {}", path.display()))?;
        let readers = connect(options, READERS).await?;
        Ok(Store {
            readers,
            writer,
            written: Arc::default(),
        })
    }

    /// Checks that the database can be read and written. Strangers may ask as often as they like, so what was
    /// seen a moment ago holds.
    ///
    /// # Errors
    /// It cannot.
    pub async fn check(&self) -> Result<()> {
        let mut written = self.written.lock().await;
        if written.is_some_and(|at| at.elapsed() < CHECK_HOLDS) {
            return Ok(());
        }
        *written = None;
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO readiness VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = $1")
            .bind(now())
            .execute(&mut *tx.0)
            .await?;
        tx.commit().await?;
        *written = Some(Instant::now());
        Ok(())
    }

    /// Waits for what runs and closes the files.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Begins to write, when those before have ended.
    pub async fn write(&self) -> Result<Writing> {
        Ok(Writing(self.writer.begin_with("BEGIN IMMEDIATE").await?))
    }
}

/// A transaction that holds the write lock from its start, so that it never fails half-way because another
/// one wrote first. Dropped before [`Writing::commit`], it has changed nothing.
#[derive(Debug)]
pub struct Writing(Transaction<'static, Sqlite>);

impl Writing {
    /// Keeps what was written.
    pub async fn commit(self) -> Result<()> {
        Ok(self.0.commit().await?)
    }
}

async fn connect(options: SqliteConnectOptions, connections: u32) -> sqlx::Result<SqlitePool> {
    PoolOptions::new()
        .max_connections(connections)
        // A statement that finds the disk full may end the transaction beneath sqlx, which then counts one that
        // is not there, and refuses every other: such a connection is thrown away.
        .after_release(|connection: &mut SqliteConnection, _| {
            Box::pin(async move {
                // What is queued for it, such as the end of a transaction, comes before the answer.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
}

/// Many values as one, for a statement that unpacks them with `json_each`.
fn json(values: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(error.into()).into())
}

/// Milliseconds since the Unix epoch, as the database keeps times.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A stored time. What is out of jiff's range (the year 9999) was not written by this program.
fn timestamp(milliseconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX)
}
