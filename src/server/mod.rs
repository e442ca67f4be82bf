//! The vendor's program, `holistics-tunnel-server`.
//!
//! - [`cli`] reads the command line; [`serve`] runs the server and [`core_tasks`], without which it
//!   ends, [`operator_tokens`] and [`operators`] the other commands. [`log`] is what people and programs read of it.
//! - [`http`] leads requests to the API and the pages.
//! - [`domain`] holds the rules and the use cases, and knows neither HTTP nor SQL.
//! - [`store`] keeps everything, in one SQLite file under the [`data_dir`].
//! - [`tunnel_server`] speaks SSH; [`session_recorder`] writes down what it sees.
//! - [`probe`] is "Test connection"; [`metrics`] is what Prometheus reads.

pub mod cli;
pub mod core_tasks;
pub mod data_dir;
pub mod domain;
pub mod http;
pub mod log;
pub mod metrics;
pub mod operator_tokens;
pub mod operators;
pub mod probe;
pub mod serve;
pub mod session_recorder;
pub mod store;
pub mod tunnel_server;

use cli::{Cli, Command};

/// Carries out what the command line asks for.
///
/// # Errors
/// The command failed; the message says how.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let _log = log::start(cli.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(settings) => serve::run(*settings).await,
            Command::Token(arguments) => operator_tokens::run(arguments).await,
            Command::LoginLink(arguments) => operators::run(arguments).await,
        }
    })
}
