//! Everything from SQLite's file into an empty database of PostgreSQL, in one transaction of it.
//!
//! Rows go over as PostgreSQL's own COPY takes them, so many at a time that little of them is in memory. Whatever fails
//! leaves the database as it was.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};
use tokio::time::timeout;

use super::postgres::{self, DatabaseUrl};
use super::sqlite::BUSY_TIMEOUT;
use crate::server::deaths;

/// All tables, each behind those that its rows refer to.
const TABLES: [&str; 16] = [
    "regions",
    "data_sources",
    "keys",
    "tunnels",
    "operators",
    "tokens",
    "events",
    "login_links",
    "browser_sessions",
    "audit_log",
    "logins",
    "known_host_keys",
    "former_ports",
    "last_run",
    "idempotency_keys",
    "tunnel_days",
];

/// What is no installation's: SQLite's own, and the row by which writing is tried.
const LEFT: [&str; 3] = ["sqlite_sequence", "_sqlx_migrations", "readiness"];

/// So many rows, or so many bytes of them, are sent at a time.
const ROWS_AT_A_TIME: usize = 5_000;
const BYTES_AT_A_TIME: usize = 4 << 20;

/// How long the database may take for those, or to count a table.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The table that is copied.
    pub table: &'static str,
    /// How many of its rows are.
    pub copied: u64,
    /// How many it has.
    pub rows: u64,
}

/// A copy that is whole, and not yet to be seen by anybody.
#[derive(Debug)]
pub struct Copied {
    file: SqliteConnection,
    postgres: PgConnection,
    /// How many rows each table has.
    pub tables: Vec<(&'static str, u64)>,
}

/// Whether this database is the copy of that file, made by a command that did not live to say so.
pub async fn is_copied(file: &Path, url: &DatabaseUrl) -> anyhow::Result<bool> {
    // Each run on the file has a mark in it, which nobody makes in PostgreSQL.
    const MARK: &str = "SELECT mark FROM last_run";
    let mut from = open(file).await?;
    let known: Option<String> = sqlx::query_scalar(MARK).fetch_optional(&mut from).await?;
    let mut to = postgres::connect(url).await?;
    let has_schema = "SELECT to_regclass('last_run') IS NOT NULL";
    if !bounded(sqlx::query_scalar(has_schema).fetch_one(&mut to)).await? {
        return Ok(false);
    }
    let found: Option<String> = bounded(sqlx::query_scalar(MARK).fetch_optional(&mut to)).await?;
    Ok(known.is_some() && known == found)
}

/// Copies everything. Until the copy is [kept](Copied::keep), it is not there; meanwhile nobody writes to the file.
///
/// # Errors
/// The database cannot be used or is not empty, the file cannot be read, or something did not arrive.
pub async fn copy(
    file: &Path,
    url: &DatabaseUrl,
    mut tell: impl FnMut(Progress),
) -> anyhow::Result<Copied> {
    // As it is refused or made ready for a server.
    let (readers, writer) = postgres::open(url).await?;
    readers.close().await;
    writer.close().await;
    let mut postgres = postgres::connect(url).await?;
    let mut file_connection = open(file).await?;
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut file_connection)
        .await
        .with_context(|| format!("cannot keep others from writing to {}", file.display()))?;
    check_tables(&mut file_connection).await?;
    begin(&mut postgres, url).await?;
    let mut tables = Vec::new();
    for table in TABLES {
        let rows = copy_table(&mut file_connection, &mut postgres, table, &mut tell).await;
        let rows = rows.with_context(|| format!("cannot copy the table {table} to {url}"))?;
        tables.push((table, rows));
    }
    carry_on_numbers(&mut file_connection, &mut postgres)
        .await
        .with_context(|| format!("cannot carry on with the numbers in {url}"))?;
    Ok(Copied {
        file: file_connection,
        postgres,
        tables,
    })
}

impl Copied {
    /// Makes the copy the installation.
    ///
    /// # Errors
    /// The database did not say that it has kept it.
    pub async fn keep(mut self) -> anyhow::Result<()> {
        let committing = sqlx::raw_sql("COMMIT").execute(&mut self.postgres);
        bounded(deaths::around(committing)).await?;
        let _ = timeout(ANSWER_TIMEOUT, self.postgres.close()).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut self.file).await?;
        self.file.close().await?;
        Ok(())
    }
}

async fn open(file: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(BUSY_TIMEOUT);
    SqliteConnection::connect_with(&options)
        .await
        .with_context(|| format!("cannot read the database {}", file.display()))
}

/// Nothing is forgotten that a later schema has.
async fn check_tables(file: &mut SqliteConnection) -> anyhow::Result<()> {
    let query = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let found: Vec<String> = sqlx::query_scalar(query).fetch_all(file).await?;
    let is_known =
        |name: &&String| TABLES.contains(&name.as_str()) || LEFT.contains(&name.as_str());
    if let Some(unknown) = found.iter().find(|name| !is_known(name)) {
        bail!("this program does not know how to move the table {unknown}");
    }
    Ok(())
}

/// Begins the one transaction, in a database in which there is nothing yet.
async fn begin(postgres: &mut PgConnection, url: &DatabaseUrl) -> anyhow::Result<()> {
    let cannot = || format!("cannot begin to write to {url}");
    // Nobody begins to use it meanwhile, and whoever looks later has to wait for the end.
    let all = TABLES.join(", ");
    let lock =
        format!("SET lock_timeout = '10s'; BEGIN; LOCK TABLE {all} IN ACCESS EXCLUSIVE MODE");
    execute(postgres, &lock).await.with_context(cannot)?;
    for table in TABLES {
        let query = format!("SELECT EXISTS (SELECT FROM {table})");
        let query = sqlx::query_scalar(AssertSqlSafe(query));
        let is_used: bool = bounded(query.fetch_one(&mut *postgres))
            .await
            .with_context(cannot)?;
        ensure!(
            !is_used,
            "there is an installation in {url} already ({table} is not empty): nothing was changed. Name an empty \
             database"
        );
    }
    // Nobody waits to be told of what happened long ago.
    execute(postgres, "ALTER TABLE events DISABLE TRIGGER USER")
        .await
        .with_context(cannot)
}

async fn copy_table(
    file: &mut SqliteConnection,
    postgres: &mut PgConnection,
    table: &'static str,
    tell: &mut impl FnMut(Progress),
) -> anyhow::Result<u64> {
    let columns = columns(file, postgres, table).await?;
    let names: Vec<_> = columns
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let names = names.join(", ");
    let statement = format!("COPY {table} ({names}) FROM STDIN");
    let values: Vec<_> = columns
        .iter()
        .map(|(name, kind)| match kind.as_str() {
            "bytea" => format!("'\\x' || hex(\"{name}\")"),
            _ => format!("CAST(\"{name}\" AS TEXT)"),
        })
        .collect();
    // Of a column without a value, this is none either; but hex() makes an empty text of it.
    let values: Vec<_> = values
        .iter()
        .zip(&columns)
        .map(|(value, (name, _))| format!("CASE WHEN \"{name}\" IS NOT NULL THEN {value} END"))
        .collect();
    let count = format!("SELECT count(*) FROM {table}");
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone()))
        .fetch_one(&mut *file)
        .await?;
    let rows = u64::try_from(rows)?;
    let mut progress = Progress {
        table,
        copied: 0,
        rows,
    };
    tell(progress);
    let select = AssertSqlSafe(format!("SELECT {} FROM {table}", values.join(", ")));
    let mut all = sqlx::query(select).fetch(&mut *file);
    let mut lines = String::new();
    let mut held = 0;
    loop {
        let row = all.try_next().await?;
        let is_last = row.is_none();
        if let Some(row) = row {
            add_line(&mut lines, &row, columns.len())?;
            held += 1;
        }
        if held > 0 && (is_last || held >= ROWS_AT_A_TIME || lines.len() >= BYTES_AT_A_TIME) {
            let sent = bounded(async {
                let mut copy = postgres.copy_in_raw(&statement).await?;
                copy.send(lines.as_bytes()).await?;
                copy.finish().await
            });
            progress.copied += sent.await?;
            tell(progress);
            lines.clear();
            held = 0;
        }
        if is_last {
            break;
        }
    }
    drop(all);
    let count = sqlx::query_scalar(AssertSqlSafe(count));
    let arrived: i64 = bounded(count.fetch_one(&mut *postgres)).await?;
    ensure!(
        u64::try_from(arrived)? == rows && progress.copied == rows,
        "of {rows} rows {arrived} arrived"
    );
    Ok(rows)
}

/// Columns that PostgreSQL's tables have for several servers, and a value of their own for what one server kept.
const ONLY_THERE: [(&str, &str); 1] = [("tunnel_days", "node")];

/// The names of a table's columns, and their types in PostgreSQL.
async fn columns(
    file: &mut SqliteConnection,
    postgres: &mut PgConnection,
    table: &str,
) -> anyhow::Result<Vec<(String, String)>> {
    let query = sqlx::query_as(
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
         WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attname COLLATE \"C\"",
    );
    let mut there: Vec<(String, String)> = bounded(query.bind(table).fetch_all(postgres)).await?;
    there.retain(|(column, _)| !ONLY_THERE.contains(&(table, column)));
    let here: Vec<String> =
        sqlx::query_scalar("SELECT name FROM pragma_table_info($1) ORDER BY name")
            .bind(table)
            .fetch_all(file)
            .await?;
    ensure!(
        there.iter().map(|(name, _)| name).eq(&here),
        "it has other columns there than here: {there:?} and {here:?}"
    );
    Ok(there)
}

/// Adds a row as COPY reads it.
fn add_line(lines: &mut String, row: &SqliteRow, columns: usize) -> anyhow::Result<()> {
    for column in 0..columns {
        if column > 0 {
            lines.push('\t');
        }
        match row.try_get::<Option<&str>, _>(column)? {
            None => lines.push_str("\\N"),
            Some(value) => add_value(lines, value),
        }
    }
    lines.push('\n');
    Ok(())
}

fn add_value(lines: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => lines.push_str("\\\\"),
            '\t' => lines.push_str("\\t"),
            '\n' => lines.push_str("\\n"),
            '\r' => lines.push_str("\\r"),
            other => lines.push(other),
        }
    }
}

/// No number is given again, also none of a row that is gone.
async fn carry_on_numbers(
    file: &mut SqliteConnection,
    postgres: &mut PgConnection,
) -> anyhow::Result<()> {
    let given: Vec<(String, i64)> =
        sqlx::query_as("SELECT name, seq FROM sqlite_sequence WHERE seq > 0")
            .fetch_all(file)
            .await?;
    let mut statements = String::new();
    for (table, last) in given {
        ensure!(
            TABLES.contains(&table.as_str()),
            "nothing is known of the numbers of {table}"
        );
        writeln!(
            statements,
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'),
                 GREATEST({last}, (SELECT COALESCE(max(id), 0) FROM {table})));"
        )?;
    }
    // Nodes take all keys over as if they were new.
    statements.push_str(
        "INSERT INTO key_changes (tunnel_id, version)
             SELECT id, nextval('key_versions') FROM tunnels WHERE enrolled_at IS NOT NULL;
         ALTER TABLE events ENABLE TRIGGER USER;",
    );
    execute(postgres, &statements).await
}

async fn execute(postgres: &mut PgConnection, statements: &str) -> anyhow::Result<()> {
    let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    bounded(statements.execute(postgres)).await?;
    Ok(())
}

async fn bounded<T>(answer: impl Future<Output = sqlx::Result<T>>) -> anyhow::Result<T> {
    Ok(timeout(ANSWER_TIMEOUT, answer)
        .await
        .with_context(|| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_for_copy_arrives_as_it_was() {
        let mut line = String::new();
        add_value(&mut line, "a\tb\nc\rd\\Ne");
        assert_eq!(line, r"a\tb\nc\rd\\Ne");
    }
}
