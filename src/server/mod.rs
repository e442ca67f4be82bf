//! The vendor's program, `holistics-tunnel-server`.
//!
//! - [`cli`] reads the command line; [`serve`] runs the server and [`core_tasks`], without which it
//!   ends, [`operator_tokens`] the `token` commands.
//! - [`app`] is what everything works with; [`router`] leads requests to [`api`] and [`web`], and
//!   [`browser`] tells both who is signed in.
//! - [`api`] is the HTTP API under `/api/v1`; [`scripts`] and [`downloads`] are what a bastion
//!   fetches before it has the program.
//! - [`store`] keeps everything, in one SQLite file under the [`data_dir`].
//! - [`tunnel_server`] speaks SSH; [`sessions`] writes down what it sees.
//! - [`probe`] is "Test connection"; [`logins`] decides when a saved password is used for it, and
//!   [`sealing`] encrypts what is saved. [`metrics`] is what Prometheus reads.
//! - [`web`] is what a browser shows; [`operators`] the `login-link` command.

pub mod address;
pub mod api;
pub mod app;
pub mod browser;
pub mod changes;
pub mod cli;
pub mod core_tasks;
pub mod data_dir;
pub mod downloads;
pub mod inputs;
pub mod logins;
pub mod metrics;
pub mod operator_tokens;
pub mod operators;
pub mod probe;
pub mod public_key;
pub mod router;
pub mod scripts;
pub mod sealing;
pub mod secret;
pub mod serve;
pub mod sessions;
pub mod store;
pub mod token;
pub mod tunnel_server;
pub mod web;

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, LogFormat};

/// Carries out what the command line asks for.
///
/// # Errors
/// The command failed; the message says how.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    start_log(cli.log_format);
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

fn start_log(format: LogFormat) {
    // russh writes a line for many a thing that a stranger may send, as often as he sends it. What
    // matters of them the tunnel server writes itself.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,russh=off"));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_ansi(colours)
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
