//! The database as a whole, whether or not a server uses it: copied, counted, and looked at for damage.

use std::path::Path;

use anyhow::{Context, ensure};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use super::sqlite::{BUSY_TIMEOUT, MIGRATIONS};

/// A database with a table has more than one page, in its file or in the journal beside it; this is a page.
const PAGE_BYTES: u64 = 4096;

/// The version of the schema that this program has.
pub fn newest_schema() -> i64 {
    let versions = MIGRATIONS.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// Whether nothing was ever kept in this file, or it does not exist.
pub async fn is_empty(path: &Path) -> anyhow::Result<bool> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Ok(metadata) if metadata.len() > PAGE_BYTES => return Ok(false),
        _ => {}
    }
    let mut connection = open(path).await?;
    let things: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut connection)
        .await
        .with_context(|| cannot_read(path))?;
    connection.close().await?;
    Ok(things == 0)
}

/// Copies the database as it stands at one moment, also while a server writes to it, into a file that does not
/// exist. Returns the version of its schema.
pub async fn copy(from: &Path, to: &Path) -> anyhow::Result<i64> {
    let mut connection = open(from).await?;
    let to_text = to
        .to_str()
        .with_context(|| format!("{} is not UTF-8", to.display()))?;
    sqlx::query("VACUUM INTO ?")
        .bind(to_text)
        .execute(&mut connection)
        .await
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    connection.close().await?;
    let mut copied = open(to).await?;
    let schema = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut copied)
        .await
        .with_context(|| cannot_read(from))?;
    copied.close().await?;
    Ok(schema)
}

/// Looks through all of it for damage.
pub async fn check(path: &Path) -> anyhow::Result<()> {
    let mut connection = open(path).await?;
    let found: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .with_context(|| cannot_read(path))?;
    connection.close().await?;
    ensure!(found == "ok", "the database is damaged: {found}");
    Ok(())
}

async fn open(path: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT);
    SqliteConnection::connect_with(&options)
        .await
        .with_context(|| cannot_read(path))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read the database {}", path.display())
}
