//! `host-key`: a new host key for the tunnel server.

use clap::{Args, Subcommand};

use super::DataDirArg;
use crate::server::cluster::node;

/// `host-key`.
#[derive(Debug, Args)]
pub struct HostKeyArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// Of which region, where several servers share a database [default: default]
    #[arg(long, global = true, value_name = "NAME", value_parser = node::name)]
    pub region: Option<String>,

    /// What to do with host keys.
    #[command(subcommand)]
    pub action: HostKeyAction,
}

/// What to do with host keys.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum HostKeyAction {
    /// Show the current and the next host key, and which tunnels' bastions know which
    List {
        /// As one JSON object, with every tunnel
        #[arg(long)]
        json: bool,
    },
    /// Make the next host key and announce it: new bastions pin it beside the current one, others when
    /// `update-tunnel` or `rotate-key` runs on them
    Next,
    /// Make the next host key the current one. Running sessions go on; the old key is kept until it is
    /// dropped
    Promote {
        /// Also if there are bastions that do not know it, and cannot come back once they lose their
        /// connection, until `update-tunnel` has run on them
        #[arg(long)]
        force: bool,
    },
    /// Delete the host key that was kept when the current one took its place
    Drop,
}
