//! `node`: the servers that share a database.

use clap::{Args, Subcommand};

use super::DataDirArg;
use crate::server::cluster::node;

/// `node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// What to do with nodes.
    #[command(subcommand)]
    pub action: NodeAction,
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum NodeAction {
    /// List the nodes: what each does, whether it lives and how many tunnels it holds
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask a node to drain: others are used, its bastions go to them, and what runs through it goes on for
    /// --drain-timeout of `serve`. SIGTERM does the same before the node ends
    Drain {
        /// Its name
        #[arg(value_parser = node::name)]
        name: String,

        /// Ask it not to drain any more
        #[arg(long)]
        undo: bool,
    },
    /// Forget a node that is lost for good, so that nobody waits for it any more
    Forget {
        /// Its name
        #[arg(value_parser = node::name)]
        name: String,
    },
}
