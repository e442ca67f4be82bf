//! PostgreSQL: one database that several nodes share.
//!
//! Whether it is what it must be stands in `check`. Nothing here waits without a bound, also for a database that says
//! nothing any more: the bounds that PostgreSQL itself keeps to hold only while it runs.

mod check;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, Postgres, Transaction,
};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::sql::Pool;
use crate::server::deaths;

/// Connections for reading, of each node.
const READERS: u32 = 6;

/// Connections for writing, of each node. One writes at a time; the others wait for it in the database.
const WRITERS: u32 = 3;

/// Connections that a node has for itself: for its beat, what it holds, which keys it has taken over and what others do,
/// two to be told of changes, and two while it starts.
const LINES: u32 = 8;

/// How long a first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// What each transaction sees, whatever is usual in this database: what was committed before each statement, so that who
/// has waited for the lock of another sees what that one wrote, and none fails for it.
const READ_COMMITTED: &str = "SET default_transaction_isolation = 'read committed'";

/// How long the database lets a statement run, and wait for another's lock.
const STATEMENT_TIMEOUT: &str = "10s";

/// How long an answer may take: longer than the database itself lets it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(13);

/// How long an idle connection may take to show that it lives, and one that is given back to be of use again.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long bringing the schema up to date may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// The lock that whoever writes holds, so that there is one writer at a time, as with SQLite, and numbers come in
/// the order in which they become visible. Any number will do that nobody else takes.
const WRITE_LOCK: i64 = 0x686f_6c69_7374_7772;

/// What the schema is made of. Its numbers are those of SQLite's.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("src/server/store/migrations/postgres");

/// Where the database is. It may hold a password, and shows none.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: PgConnectOptions,
    has_password: bool,
}

impl DatabaseUrl {
    /// Whether a password stands in it.
    pub fn has_password(&self) -> bool {
        self.has_password
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(
                "it has to begin with postgres://, as in postgres://user@host/database".to_owned(),
            );
        }
        let refused = |error: &dyn fmt::Display| format!("it is no address of a database: {error}");
        let url: url::Url = text.parse().map_err(|error| refused(&error))?;
        let options = PgConnectOptions::from_url(&url).map_err(|error| refused(&error))?;
        Ok(DatabaseUrl {
            options: options.application_name("holistics-tunnel-server"),
            has_password: url.password().is_some()
                || url.query_pairs().any(|(name, _)| name == "password"),
        })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        match options.get_socket() {
            Some(socket) => write!(f, "{database} in {}", socket.display()),
            None => write!(
                f,
                "{database} on {}:{}",
                options.get_host(),
                options.get_port()
            ),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The connections for reading and those for writing.
pub(super) async fn open(url: &DatabaseUrl) -> anyhow::Result<(Pool, Pool)> {
    let mut connection = connect(url).await?;
    check::check(&mut connection, url).await?;
    migrate(&mut connection, url).await?;
    let _ = timeout(PING_TIMEOUT, connection.close()).await;
    let readers = pool(url, READERS);
    let writer = pool(url, WRITERS);
    Ok((Pool::Postgres(readers), Pool::Postgres(writer)))
}

/// Connections that fail at once.
pub(super) async fn closed(url: &DatabaseUrl) -> Pool {
    let closed = pool(url, 1);
    closed.close().await;
    Pool::Postgres(closed)
}

/// Why a database cannot be used until it has mended itself or somebody has mended it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unavailable(pub(super) String);

/// Whether an error of [`open`] says that, and not that it is the wrong database.
pub(super) fn is_outage_at_start(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let failed = cause.downcast_ref::<sqlx::Error>();
        cause.is::<Unavailable>() || cause.is::<Elapsed>() || failed.is_some_and(super::is_outage)
    })
}

/// Brings the schema up to date.
async fn migrate(connection: &mut PgConnection, url: &DatabaseUrl) -> anyhow::Result<()> {
    let cannot = || format!("cannot update the schema of {url}");
    // Another server may need long for it, and whoever waits serves no tunnels.
    let set = format!("SET lock_timeout = '{STATEMENT_TIMEOUT}'");
    let limited = bounded(connection.execute(sqlx::AssertSqlSafe(set)));
    limited.await.with_context(cannot)?;
    let migrated = timeout(MIGRATION_TIMEOUT, deaths::migrate(&MIGRATIONS, connection))
        .await
        .with_context(|| format!("it takes longer than {} s", MIGRATION_TIMEOUT.as_secs()))
        .with_context(cannot)?;
    migrated
        .map_err(|error| {
            if is_locked(&error) {
                anyhow::Error::new(error)
                    .context("another server does it at this moment; start again once it has")
            } else {
                error.into()
            }
        })
        .with_context(cannot)
}

fn is_locked(error: &MigrateError) -> bool {
    let MigrateError::Execute(sqlx::Error::Database(error)) = error else {
        return false;
    };
    error.code().as_deref() == Some("55P03")
}

/// A connection of its own.
pub(super) async fn connect(url: &DatabaseUrl) -> anyhow::Result<PgConnection> {
    let connecting = timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&url.options));
    let (why, is_outage) = match connecting.await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => (check::why(&error, url), super::is_outage(&error)),
        Err(_) => {
            let why = format!(
                "it does not answer within {} s; check whether its address is right and nothing in between drops what \
                 is sent",
                CONNECT_TIMEOUT.as_secs()
            );
            (why, true)
        }
    };
    let cannot = format!("cannot connect to the database {url}: {why}");
    if is_outage {
        Err(Unavailable(cannot).into())
    } else {
        bail!(cannot)
    }
}

/// A connection of its own on which the database lets nothing run for longer than this.
pub(super) async fn line(url: &DatabaseUrl, limit: Duration) -> super::Result<PgConnection> {
    let mut connection = PgConnection::connect_with(&url.options).await?;
    let milliseconds = limit.as_millis();
    // At once: the database may be far away.
    let set = format!(
        "{READ_COMMITTED}; SET statement_timeout = {milliseconds}; SET lock_timeout = {milliseconds}"
    );
    connection.execute(sqlx::AssertSqlSafe(set)).await?;
    Ok(connection)
}

/// What listens for notifications, on a connection of its own.
pub(super) async fn listener(url: &DatabaseUrl) -> sqlx::Result<PgListener> {
    let pool = PoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .connect_lazy_with(url.options.clone());
    PgListener::connect_with(&pool).await
}

/// Begins to write, as the only one.
pub(super) async fn begin(writer: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    bounded(async {
        let mut tx = writer.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(WRITE_LOCK)
            .execute(&mut *tx)
            .await?;
        Ok(tx)
    })
    .await
}

/// An answer, or the error that none came.
pub(super) async fn bounded<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answered = timeout(ANSWER_TIMEOUT, answer).await;
    answered.unwrap_or_else(|_| Err(no_answer()))
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(
        io::ErrorKind::TimedOut,
        "PostgreSQL does not answer",
    ))
}

/// Whether the connection still leads to somebody who answers. What was left over on it comes before.
async fn ping(connection: &mut PgConnection) -> sqlx::Result<()> {
    let answered = timeout(PING_TIMEOUT, connection.ping()).await;
    answered.unwrap_or_else(|_| Err(no_answer()))
}

/// Whether this SQLSTATE says that the database cannot be used now.
pub(super) fn is_outage(code: &str) -> bool {
    // Connection, login, too few resources, ended by an administrator, its disk.
    const CLASSES: [&str; 5] = ["08", "28", "53", "57", "58"];
    // Read-only, as a standby is; was idle too long; waited too long; no such database; no right.
    const CODES: [&str; 5] = ["25006", "25P03", "55P03", "3D000", "42501"];
    CLASSES
        .iter()
        .any(|class| code.len() == 5 && code.starts_with(class))
        || CODES.contains(&code)
}

fn pool(url: &DatabaseUrl, connections: u32) -> PgPool {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection: &mut PgConnection, _| {
            Box::pin(async move {
                let set = format!(
                    "{READ_COMMITTED}; SET statement_timeout = '{STATEMENT_TIMEOUT}'; \
                     SET lock_timeout = '{STATEMENT_TIMEOUT}'; \
                     SET idle_in_transaction_session_timeout = '{STATEMENT_TIMEOUT}'"
                );
                connection.execute(sqlx::AssertSqlSafe(set)).await?;
                Ok(())
            })
        })
        // The pool's own looks wait for an answer for ever.
        .test_before_acquire(false)
        .before_acquire(|connection: &mut PgConnection, _| {
            Box::pin(async move { ping(connection).await.map(|()| true) })
        })
        .after_release(|connection: &mut PgConnection, _| {
            Box::pin(async move { ping(connection).await.map(|()| true) })
        })
        .connect_lazy_with(url.options.clone())
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::Migrate;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixStream};
    use tokio::time::sleep;

    use super::*;
    use crate::server::store::{Line, NodeLife, NodeState, TestStore};

    /// How long what is sent to a database that is far away takes there, and as long back.
    const FAR: Duration = Duration::from_millis(160);

    async fn copy_late(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut part = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut part).await {
            sleep(FAR).await;
            if to.write_all(&part[..length]).await.is_err() {
                return;
            }
        }
    }

    /// Where this database seems to be far away.
    async fn far_away(store: &crate::server::store::Store) -> DatabaseUrl {
        let Pool::Postgres(near) = store.readers.pool().clone() else {
            panic!("it is no PostgreSQL");
        };
        let near = near.connect_options();
        let socket = near.get_socket().expect("it is reached by its socket");
        let socket = socket.join(format!(".s.PGSQL.{}", near.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, to_client) = client.into_split();
                let server = UnixStream::connect(&socket).await.unwrap();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(copy_late(from_client, to_server));
                tokio::spawn(copy_late(from_server, to_client));
            }
        });
        let database = near.get_database().unwrap();
        let user = near.get_username();
        format!("postgres://{user}@127.0.0.1:{port}/{database}")
            .parse()
            .unwrap()
    }

    #[tokio::test]
    async fn a_node_beats_also_where_the_database_is_far_away() {
        let Some(kept) = TestStore::on_postgres().await else {
            return;
        };
        let url = far_away(&kept.store).await;
        let mut line = Line::new(&url, crate::server::cluster::beat::LIMIT);
        let life = NodeLife {
            name: "one".to_owned(),
            epoch: 1,
        };
        line.beat(&life, NodeState::Up).await.unwrap();
    }

    #[tokio::test]
    async fn a_transaction_sees_what_was_committed_before_it_could_write_whatever_is_usual_there() {
        let Some(kept) = TestStore::on_postgres().await else {
            return;
        };
        kept.execute(
            "DO $$ BEGIN
                 EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database());
             END $$",
        )
        .await;
        let mut tx = kept.store.write().await.unwrap();
        let isolation = tx.sql("SELECT current_setting('transaction_isolation')");
        let isolation: String = isolation.value().await.unwrap();
        assert_eq!(isolation, "read committed");
    }
    #[tokio::test]
    async fn a_start_does_not_wait_for_whoever_updates_the_schema_for_as_long_as_that_may_take() {
        let Some(kept) = TestStore::on_postgres().await else {
            return;
        };
        let Pool::Postgres(pool) = kept.store.readers.pool() else {
            panic!("it is no PostgreSQL");
        };
        let url = DatabaseUrl {
            options: pool.connect_options().as_ref().clone(),
            has_password: false,
        };
        let mut updates = connect(&url).await.unwrap();
        Migrate::lock(&mut updates).await.unwrap();
        let limit = MIGRATION_TIMEOUT / 10;
        let refused = timeout(limit, open(&url)).await.expect("it waits less");
        let refused = refused.unwrap_err();
        assert!(is_outage_at_start(&refused), "{refused:#}");
        let told = format!("{refused:#}");
        assert!(told.contains("another server does it"), "{told}");
    }
}
