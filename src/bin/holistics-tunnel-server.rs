//! The vendor's program; all of it is in `holistics_tunnel::server`.

use std::process::ExitCode;

use clap::Parser;
use holistics_tunnel::server::{self, cli::Cli};

fn main() -> ExitCode {
    match server::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holistics-tunnel-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}
