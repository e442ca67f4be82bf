//! Where the data is, for every command: the folder, or a database that several servers share.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure};
use clap::Args;

use crate::server::data_dir::DataDir;
use crate::server::store::{DatabaseUrl, Store};

/// Where the server keeps its data.
#[derive(Debug, Args)]
pub struct DataDirArg {
    /// The folder of the database and the keys; `serve` makes it [default: the package's,
    /// /var/lib/holistics-tunnel-server, where that is there; else holistics-tunnel-data]
    #[arg(long, global = true, env = DataDirArg::VARIABLE, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// A PostgreSQL database, 14 or newer, that several servers share, in the place of the folder's own:
    /// postgres://USER@HOST/DATABASE. A password goes into the variable or into ~/.pgpass, not into an argument,
    /// which everybody on this machine sees
    #[arg(
        long,
        global = true,
        env = DataDirArg::DATABASE_VARIABLE,
        hide_env_values = true,
        value_name = "URL"
    )]
    // As text: what clap cannot read it shows, and there may be a password in it.
    database_url: Option<String>,
}

impl DataDirArg {
    /// Its variable.
    pub const VARIABLE: &str = "HOLISTICS_TUNNEL_SERVER_DATA_DIR";

    /// The variable of the database that several servers share.
    pub const DATABASE_VARIABLE: &str = "HOLISTICS_TUNNEL_SERVER_DATABASE_URL";

    /// Opens the database that was named, or else the folder's own.
    pub async fn open_store(
        &self,
        data_dir: &DataDir,
        new_installation: bool,
    ) -> anyhow::Result<Store> {
        let Some(url) = self.database_url()? else {
            return data_dir.open_store(new_installation).await;
        };
        data_dir.connect(&url, new_installation).await
    }

    /// The database that was named.
    pub fn database_url(&self) -> anyhow::Result<Option<DatabaseUrl>> {
        let url = self.database_url.as_deref();
        url.map(|url| database_url(url, "--database-url", Self::DATABASE_VARIABLE))
            .transpose()
    }

    /// The folder that was named, or else the default one. An operator's shell does not have the service's
    /// variables: so the package's folder is found without.
    pub fn path(&self) -> PathBuf {
        match &self.data_dir {
            Some(named) => named.clone(),
            None if Self::packaged().is_dir() => Self::packaged().to_owned(),
            None => PathBuf::from("holistics-tunnel-data"),
        }
    }

    /// Where the server of the .deb or .rpm has its data; only root can make it.
    pub fn packaged() -> &'static Path {
        Path::new("/var/lib/holistics-tunnel-server")
    }
}

/// The database of this flag or variable. A password in an argument is seen by everybody on this machine.
pub(super) fn database_url(text: &str, flag: &str, variable: &str) -> anyhow::Result<DatabaseUrl> {
    let url = text.parse::<DatabaseUrl>();
    let url =
        url.map_err(|why| anyhow!("cannot use the database in {flag} or {variable}: {why}"))?;
    let is_flag = |argument: OsString| {
        let argument = argument.to_string_lossy();
        let rest = argument.strip_prefix(flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    ensure!(
        !(url.has_password() && env::args_os().any(is_flag)),
        "everybody on this machine sees the password in {flag}: change it, and put the address into {variable} or \
         the password into ~/.pgpass"
    );
    Ok(url)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::server::cli::Cli;

    #[test]
    fn an_address_that_cannot_be_read_is_not_shown_with_its_password() {
        let address = "postgres://ann:se#cret@db.internal/tunnels";
        let line = ["x", "token", "list", "--database-url", address];
        assert!(Cli::try_parse_from(line).is_ok());
        let why = database_url(address, "--database-url", "VARIABLE").unwrap_err();
        let why = format!("{why:#}");
        assert!(why.contains("--database-url"), "{why}");
        assert!(!why.contains("cret"), "{why}");
    }
}
