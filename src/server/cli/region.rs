//! `region`: where tunnels end.

use clap::{Args, Subcommand};

use super::DataDirArg;
use super::values::ssh_host;
use crate::server::cluster::node;
use crate::server::store::PortRange;

/// `region`.
#[derive(Debug, Args)]
pub struct RegionArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// What to do with regions.
    #[command(subcommand)]
    pub action: RegionAction,
}

/// What to do with regions.
#[derive(Debug, Subcommand)]
pub enum RegionAction {
    /// Add a region. Its tunnel servers are started with `serve --region NAME`
    Add {
        /// What it is called
        #[arg(value_parser = node::name)]
        name: String,

        /// What bastions call its tunnel servers; a second one may lead to others of them
        #[arg(long, value_name = "HOST", value_parser = ssh_host, required = true, num_args = 1)]
        ssh_host: Vec<String>,

        /// The tunnel servers' port as bastions see it
        #[arg(
            long,
            value_name = "PORT",
            default_value_t = 50_022,
            value_parser = clap::value_parser!(u16).range(1..)
        )]
        ssh_port: u16,

        /// The ports given to tunnels; keep them outside the kernel's ephemeral range
        #[arg(long, value_name = "FIRST-LAST", default_value = "20000-29999")]
        ports: PortRange,
    },
    /// Change a region. Bastions that are set up go on; `update-tunnel` on them takes the new name and port over
    Change {
        /// Which
        #[arg(value_parser = node::name)]
        name: String,

        /// What bastions call its tunnel servers from now on; a second one may lead to others of them
        #[arg(long, value_name = "HOST", value_parser = ssh_host, num_args = 1)]
        ssh_host: Vec<String>,

        /// The tunnel servers' port as bastions see it
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        ssh_port: Option<u16>,

        /// The ports given to tunnels from now on; those that have one keep it
        #[arg(long, value_name = "FIRST-LAST")]
        ports: Option<PortRange>,
    },
    /// List the regions: how bastions reach them, and their ports
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a region in which there are no tunnels and no servers any more
    Remove {
        /// Which
        #[arg(value_parser = node::name)]
        name: String,
    },
}
