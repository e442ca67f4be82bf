//! What the control plane keeps: data sources, tunnels, logins, keys, tokens and events, in SQLite or PostgreSQL.
//!
//! It is SQL alone, one text for both engines (`sql`); how each is opened stands in `sqlite` and `postgres`. [`Store`] reads; what belongs together is written by one [`Writing`]. Which change is
//! allowed, what a token is and what a password is sealed with is the business of `domain`.

mod actor;
mod api_tokens;
mod audit;
mod data_sources;
mod dead_nodes;
mod emptied;
mod events;
mod folded;
mod history;
mod host_keys;
mod idempotency;
mod key_changes;
mod keys;
mod late;
mod line;
mod listening;
mod lists;
mod logins;
mod moves;
pub(crate) mod moving;
mod node_sessions;
mod nodes;
mod notices;
mod operators;
mod ports;
mod postgres;
mod record;
mod region_host_keys;
mod regions;
mod restored;
mod sign_ins;
mod sql;
mod sqlite;
#[cfg(test)]
mod test_store;
mod tokens;
mod tunnels;
pub(crate) mod whole;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

pub use actor::{Actor, ActorKind};
pub use api_tokens::{ApiToken, ListedApiToken, NewApiToken, Scope};
pub use audit::AuditEntry;
pub use dead_nodes::DeadNode;
pub use events::{Event, EventKind};
pub use history::TunnelDay;
pub use host_keys::{Knowledge, Source};
pub use idempotency::{NamedRequest, RequestName};
pub use key_changes::{Confirmations, KeyRow, KeyRows, OpenTunnel};
pub use keys::{GrantRow, TunnelKeys};
pub use line::Line;
pub use listening::Listening;
pub use lists::{Filter, Part, Stage, Up};
pub use logins::{SealedPassword, StoredLogin};
pub use moves::MoveSeen;
pub use moving::Progress;
pub use node_sessions::{NodeSession, NodeSessionRow};
pub use nodes::{NewNode, NodeLife, NodeRow, NodeState, Role, Word};
pub use notices::{Notice, Notices};
pub use operators::{ListedOperator, OperatorAccount, OperatorId};
pub use ports::{PortChoice, PortRange};
pub use postgres::DatabaseUrl;
pub use record::{NextPlace, Record, Registrant, TunnelRecord};
pub use region_host_keys::SealedHostKey;
pub use regions::{DEFAULT_REGION, Region, RegionUse};
pub use restored::Given;
pub use sign_ins::SessionLimits;
pub use sql::Engine;
#[cfg(test)]
pub(crate) use test_store::TestStore;
pub use tokens::{CommandRow, NewToken, StoredToken, TokenHash, TokenKind};
pub use tunnels::{EnrollmentRow, Registration, SessionRow};

use self::late::Late;
use self::sql::{AnyTransaction, Pool, Statement};
use super::deaths;

/// How long a check that succeeded is not repeated.
const CHECK_HOLDS: Duration = Duration::from_secs(1);

/// The database failed.
#[derive(Debug, thiserror::Error)]
#[error("the database failed")]
pub struct StoreError(#[from] sqlx::Error);

impl StoreError {
    /// Whether the database cannot be used now, which is no fault of what was asked.
    pub fn is_outage(&self) -> bool {
        is_outage(&self.0)
    }
}

/// Whether this says that the database cannot be used until it mends itself, or somebody mends it: the one rule for
/// requests and for the start.
fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        // What a load balancer with no PostgreSQL behind it answers: nothing.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            sqlite::is_outage(&code) || postgres::is_outage(&code)
        }
        _ => false,
    }
}

/// What was asked of the database.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    readers: Arc<Late>,
    writer: Arc<Late>,
    /// When the last check ended, and whether it succeeded.
    checked: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Store {
    /// Opens the database in this file; makes it and brings its schema up to date.
    ///
    /// # Errors
    /// The file cannot be opened or made, or was written by a newer version.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let (readers, writer) = sqlite::open(path).await?;
        Ok(Self::new(readers, writer))
    }

    /// Opens the database at `postgres://…`, and brings its schema up to date.
    pub async fn connect(url: &DatabaseUrl) -> anyhow::Result<Self> {
        let (readers, writer) = postgres::open(url).await?;
        Ok(Self::new(readers, writer))
    }

    /// One that is not opened yet, whose use fails at once, for a server that starts while its database cannot be
    /// used.
    pub async fn shut(url: &DatabaseUrl) -> Self {
        let (readers, writer) = (postgres::closed(url).await, postgres::closed(url).await);
        Store {
            readers: Arc::new(Late::shut(readers)),
            writer: Arc::new(Late::shut(writer)),
            checked: Arc::default(),
        }
    }

    /// Whether this error of [`Store::connect`] says that the database cannot be used now, and can be once it has mended
    /// itself or somebody has mended it: nothing has to change here.
    pub fn is_outage(error: &anyhow::Error) -> bool {
        postgres::is_outage_at_start(error)
    }

    /// Uses from now on what another one has opened, if this one is not open yet.
    pub fn take_over(&self, opened: &Store) {
        self.readers.set(opened.readers.pool().clone());
        self.writer.set(opened.writer.pool().clone());
    }

    /// Whether it is opened.
    pub fn is_open(&self) -> bool {
        self.readers.is_open() && self.writer.is_open()
    }

    fn new(readers: Pool, writer: Pool) -> Self {
        Store {
            readers: Arc::new(Late::open(readers)),
            writer: Arc::new(Late::open(writer)),
            checked: Arc::default(),
        }
    }

    /// Which engine keeps it.
    pub fn engine(&self) -> Engine {
        match self.readers.pool() {
            Pool::Sqlite(_) => Engine::Sqlite,
            Pool::Postgres(_) => Engine::Postgres,
        }
    }

    /// Checks that the database can be read and written. Strangers may ask as often as they like, so what was
    /// seen a moment ago holds, for those as well who have waited for it: while nothing can be written, each look takes
    /// as long as one waits for that.
    pub async fn check(&self) -> Result<()> {
        let asked = Instant::now();
        let mut checked = self.checked.lock().await;
        match *checked {
            Some((at, true)) if at.elapsed() < CHECK_HOLDS => return Ok(()),
            // It answers all who waited for it, and nobody later: what was mended is seen at once.
            Some((at, false)) if at > asked => return Err(sqlx::Error::PoolTimedOut.into()),
            _ => {}
        }
        let result = self.try_to_write().await;
        *checked = Some((Instant::now(), result.is_ok()));
        result
    }

    async fn try_to_write(&self) -> Result<()> {
        self.readers.sql("SELECT 1").execute().await?;
        let mut tx = self.write().await?;
        tx.sql("INSERT INTO readiness VALUES (1, now_ms()) ON CONFLICT (id) DO UPDATE SET at = excluded.at")
            .execute()
            .await?;
        tx.commit().await
    }

    /// What the database's clock shows. It decides what is over, since nodes that share a database have a clock each, and
    /// one of them may be wrong.
    pub async fn clock(&self) -> Result<jiff::Timestamp> {
        Ok(timestamp(
            self.readers.sql("SELECT now_ms()").value().await?,
        ))
    }

    /// Waits for what runs and closes the files.
    pub async fn close(&self) {
        self.readers.pool().close().await;
        self.writer.pool().close().await;
    }

    /// Begins to write, when those before have ended.
    pub async fn write(&self) -> Result<Writing> {
        Ok(Writing(match self.writer.pool() {
            Pool::Sqlite(pool) => AnyTransaction::Sqlite(sqlite::begin(pool).await?),
            Pool::Postgres(pool) => AnyTransaction::Postgres(postgres::begin(pool).await?),
        }))
    }
}

/// A transaction that holds the write lock from its start, so that it never fails half-way because another
/// one wrote first. Dropped before [`Writing::commit`], it has changed nothing.
#[derive(Debug)]
pub struct Writing(AnyTransaction);

impl Writing {
    /// Keeps what was written.
    #[track_caller]
    pub fn commit(self) -> impl Future<Output = Result<()>> {
        deaths::around(self.0.commit())
    }

    /// What the database's clock shows.
    pub async fn clock(&mut self) -> Result<jiff::Timestamp> {
        Ok(timestamp(self.sql("SELECT now_ms()").value().await?))
    }

    fn sql(&mut self, text: impl Into<Cow<'static, str>>) -> Statement<'_> {
        self.0.sql(text)
    }
}

/// Many values as one, for a statement that unpacks them with `json_each`.
fn json(values: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(error.into()).into())
}

/// A span as the database keeps it.
fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Milliseconds since the Unix epoch, as the database keeps times, by this machine's clock: for what is only shown.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A stored time. What is out of jiff's range (the year 9999) was not written by this program.
fn timestamp(milliseconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX)
}
