//! The vendor's program, `holistics-tunnel-server`.
//!
//! - [`certificate`] is the web's, kept fresh.
//! - [`cli`] reads the command line; [`serve`] runs the server and [`core_tasks`], without which it
//!   ends, [`operator_tokens`] the `token` commands. [`log`] is what people and programs read of it.
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
pub mod certificate;
pub mod changes;
pub mod cli;
pub mod core_tasks;
pub mod data_dir;
pub mod downloads;
pub mod inputs;
pub mod log;
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
