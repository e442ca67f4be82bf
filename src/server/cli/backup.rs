//! `backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

use super::DataDirArg;
use crate::server::store::PortRange;

/// `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// The file to make, 0600; there must be none of this name. `-` is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Say what is in it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Where the data is to be.
    #[command(flatten)]
    pub data: DataDirArg,

    /// The file that `backup` made. `-` is standard input, which has to be a file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Take the place of the data that is in the folder. That is put aside below it, and what its database
    /// has given since the backup, numbers and ports, is given to nobody else
    #[arg(long)]
    pub replace: bool,

    /// Ports that no server of this installation has ever given, so that new tunnels get some at once.
    /// Where nobody can tell what was given since the backup, all others rest for --port-rest of `serve`
    #[arg(long, value_name = "FIRST-LAST")]
    pub unused_ports: Option<PortRange>,

    /// Say what was done as JSON
    #[arg(long)]
    pub json: bool,
}
