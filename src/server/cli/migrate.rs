//! `migrate`: from the folder's own database into one that several servers share.

use anyhow::Context as _;
use clap::Args;

use super::DataDirArg;
use super::data_dir::database_url;
use crate::server::store::DatabaseUrl;

/// `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// The database, in which there is nothing yet [default: --database-url]. A password goes into the variable or
    /// into ~/.pgpass, as there
    #[arg(
        long,
        env = MigrateArgs::VARIABLE,
        hide_env_values = true,
        value_name = "URL"
    )]
    to: Option<String>,

    /// Say what was moved as JSON
    #[arg(long)]
    pub json: bool,
}

impl MigrateArgs {
    const VARIABLE: &str = "HOLISTICS_TUNNEL_SERVER_TO";

    /// The database that takes it all.
    pub fn target(&self) -> anyhow::Result<DatabaseUrl> {
        if let Some(url) = &self.to {
            return database_url(url, "--to", Self::VARIABLE);
        }
        self.data
            .database_url()?
            .context("name the database: migrate --to postgres://USER@HOST/DATABASE")
    }
}
