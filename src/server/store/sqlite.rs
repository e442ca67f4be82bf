//! SQLite: one file, which this server alone writes to.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};

use super::sql::Pool;
use crate::server::deaths;

/// How long a statement waits for another process (`token create` beside `serve`) to finish writing.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// Connections for reading; each holds a thread and a page cache of at most 2 MiB.
const READERS: u32 = 4;

/// What the schema is made of.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("src/server/store/migrations/sqlite");

/// The connections for reading, and the one for writing.
pub(super) async fn open(path: &Path) -> anyhow::Result<(Pool, Pool)> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true);
    // SQLite takes one writer at a time; with one connection they queue here, in order.
    let writer = connect(options.clone(), 1)
        .await
        .with_context(|| format!("cannot open the database {}", path.display()))?;
    let mut connection = writer.acquire().await?;
    deaths::migrate(&MIGRATIONS, &mut *connection)
        .await
        .with_context(|| format!("cannot update the schema of {}", path.display()))?;
    drop(connection);
    let readers = connect(options, READERS).await?;
    Ok((Pool::Sqlite(readers), Pool::Sqlite(writer)))
}

/// Begins to write, as the only one.
pub(super) async fn begin(writer: &SqlitePool) -> sqlx::Result<Transaction<'static, Sqlite>> {
    writer.begin_with("BEGIN IMMEDIATE").await
}

/// Whether this result code says that the database cannot be used now.
pub(super) fn is_outage(code: &str) -> bool {
    /// The primary codes for: busy, input or output failed, full, cannot be opened.
    const CODES: [i32; 4] = [5, 10, 13, 14];
    // PostgreSQL's have five letters or digits.
    code.len() < 5
        && code
            .parse()
            .is_ok_and(|code: i32| CODES.contains(&(code & 0xff)))
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
