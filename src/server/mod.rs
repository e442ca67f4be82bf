//! The vendor's program, `holistics-tunnel-server`.
//!
//! - [`cli`] reads the command line; [`serve`] runs the server and [`core_tasks`], without which it
//!   ends with a `farewell`; [`operator_tokens`], [`operators`], [`login_link`], [`host_keys`], [`nodes`], [`regions`], [`migrate`] and [`backup`]
//!   are the other commands; [`manual`] is what is generated from their description. [`log`] is what people
//!   and programs read of it, and [`service_manager`] what systemd is told.
//! - [`http`] leads requests to the API and the pages.
//! - [`domain`] holds the rules and the use cases, and knows neither HTTP nor SQL.
//! - [`store`] keeps everything, in one SQLite file under the [`data_dir`], which is its owner's alone
//!   ([`data_owner`]), or in PostgreSQL; [`last_run`] looks whether the file is the right one. What is a file is written
//!   by [`whole_file`], and [`scratch`] is where a command puts several together: a kill leaves nothing that stays; [`deaths`]
//!   is where tests have it killed.
//! - [`cluster`] is what several servers on one PostgreSQL know of each other, how they pass connections on, and what each
//!   keeps for itself; [`region_keys`] are the host keys that those of one region share.
//! - [`tunnel_server`] speaks SSH; [`session_recorder`] writes down what it sees.
//! - `accepting` is how connections are accepted, `tls` how certificates are judged that nobody vouches for; `passwords`
//!   hashes them; [`probe`] is "Test connection"; [`metrics`] is what Prometheus reads.

mod accepting;
mod backup;
pub mod cli;
pub mod cluster;
mod core_tasks;
pub mod data_dir;
mod data_owner;
mod deaths;
pub mod domain;
mod expiry;
mod farewell;
mod file_mark;
#[cfg(fuzzing)]
pub mod fuzzing;
mod history_recorder;
mod host_keys;
pub mod http;
mod last_run;
mod log;
mod login_link;
mod manual;
pub mod metrics;
mod migrate;
mod nodes;
mod operator_tokens;
mod operators;
mod overlaps;
mod passwords;
pub mod probe;
mod region_keys;
pub mod regions;
mod scratch;
mod serve;
mod service_manager;
mod session_recorder;
pub mod sign_in_link;
pub mod store;
mod tls;
pub mod tunnel_server;
mod whole_file;

use cli::{Cli, Command};

/// Carries out what the command line asks for.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let _log = log::start(cli.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        match cli.command {
            Command::Serve(settings) => serve::run(*settings).await,
            Command::Token(arguments) => operator_tokens::run(arguments).await,
            Command::Operator(arguments) => operators::run(arguments).await,
            Command::LoginLink(arguments) => login_link::run(arguments).await,
            Command::Backup(arguments) => backup::make::run(arguments).await,
            Command::Restore(arguments) => backup::restore::run(arguments).await,
            Command::Migrate(arguments) => migrate::run(*arguments).await,
            Command::HostKey(arguments) => host_keys::run(arguments).await,
            Command::Node(arguments) => nodes::run(arguments).await,
            Command::Region(arguments) => regions::run(arguments).await,
            Command::Completions { shell } => manual::completions(shell),
            Command::Man { dir } => manual::man(dir.as_deref()),
            Command::TestConnection => probe::apart::carry_out().await,
        }
    });
    runtime.shutdown_timeout(farewell::THREADS);
    done
}
