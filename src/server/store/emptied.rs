//! A database of PostgreSQL's that has lost everything: made anew, to be restored, while servers that have worked with it
//! go on or are started again. Nothing may be made in it, since a restore would stumble over that; and nothing is learnt
//! from it, since to a node an empty table of keys means that every tunnel was revoked.
//!
//! It is an outage: what is known on disk goes on until somebody has restored it.

use anyhow::Context as _;

use super::postgres::{self, DatabaseUrl, Unavailable, bounded};
use super::{Result, Store};

impl Store {
    /// Makes sure that something was made in this database before, for a folder from which a server has run.
    ///
    /// # Errors
    /// There is nothing, which is an [outage](Store::is_outage), or it cannot be asked.
    pub async fn refuse_without_schema(url: &DatabaseUrl) -> anyhow::Result<()> {
        let mut connection = postgres::connect(url).await?;
        let asked = sqlx::query_scalar("SELECT to_regclass('data_sources') IS NOT NULL");
        let has_schema: bool = bounded(asked.fetch_one(&mut connection))
            .await
            .with_context(|| format!("cannot use the database {url}"))?;
        if has_schema {
            Ok(())
        } else {
            Err(emptied(&format!("the database {url}")))
        }
    }

    /// Makes sure that it knows any data source, where a node knows keys of tunnels.
    ///
    /// # Errors
    /// It knows none, which is an [outage](Store::is_outage), or it cannot be asked.
    pub async fn refuse_without_data_sources(&self) -> anyhow::Result<()> {
        if self.has_data_sources().await? {
            Ok(())
        } else {
            Err(emptied("the database"))
        }
    }

    /// Whether there was ever a data source.
    pub async fn has_data_sources(&self) -> Result<bool> {
        let asked = self
            .readers
            .sql("SELECT EXISTS (SELECT 1 FROM data_sources)");
        asked.value().await
    }
}

fn emptied(database: &str) -> anyhow::Error {
    let why = format!(
        "{database} is empty, though this node has worked with one that was not: all data sources would be forgotten, and \
         all tunnels closed. Restore it from a backup (pg_restore). If a new installation is meant, start with: serve \
         --new-installation"
    );
    Unavailable(why).into()
}
