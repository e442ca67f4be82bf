//! The command line of `holistics-tunnel-server`. Every flag has an environment variable
//! `HOLISTICS_TUNNEL_SERVER_<FLAG>`.

mod access;
mod backup;
mod bounds;
mod data_dir;
mod host_keys;
mod migrate;
mod nodes;
mod region;
mod serve;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::probe::apart::SUBCOMMAND;

pub use access::{LoginLinkArgs, OperatorAction, OperatorArgs, TokenAction, TokenArgs};
pub use backup::{BackupArgs, RestoreArgs};
pub use data_dir::DataDirArg;
pub use host_keys::{HostKeyAction, HostKeyArgs};
pub use migrate::MigrateArgs;
pub use nodes::{NodeAction, NodeArgs};
pub use region::{RegionAction, RegionArgs};
pub use serve::Serve;

/// The vendor's side of holistics-tunnel: the control plane and the SSH tunnel server.
#[derive(Debug, Parser)]
#[command(name = "holistics-tunnel-server", version, max_term_width = 100)]
pub struct Cli {
    /// How the log on stderr is written; what is logged, RUST_LOG decides (default: info)
    #[arg(
        long,
        global = true,
        env = "HOLISTICS_TUNNEL_SERVER_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Where the data is, for every command: before its name or after it.
    #[command(flatten)]
    pub data: DataDirArg,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the API and the tunnel server
    Serve(Box<Serve>),
    /// Make, list and revoke operators' API tokens; works while the server runs
    Token(TokenArgs),
    /// List, disable, enable and remove operators; works while the server runs
    Operator(OperatorArgs),
    /// Make a link that signs an operator in once; works while the server runs
    LoginLink(LoginLinkArgs),
    /// Write everything the server keeps into one file, also while it runs. The file holds the secret
    /// keys: keep it where nobody else can read it
    Backup(BackupArgs),
    /// Bring a backup back. The server must not run
    Restore(RestoreArgs),
    /// Move everything from the data folder's own database into one of PostgreSQL, which several servers can share.
    /// The server must not run
    Migrate(Box<MigrateArgs>),
    /// Change the tunnel server's host key without locking a bastion out; works while the server runs
    HostKey(HostKeyArgs),
    /// List the servers that share a database, or have one drain
    Node(NodeArgs),
    /// Add, change, list and remove regions: where tunnels end, each with names, host keys and ports of its own
    Region(RegionArgs),
    /// Print a script with which a shell completes this program's command lines
    Completions {
        /// Of which shell
        shell: CompletedShell,
    },
    /// Print the manual page
    Man {
        /// Write a page for each command into this folder instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// One connection test, as the server runs each apart from itself: reads it from standard input
    #[command(name = SUBCOMMAND, hide = true)]
    TestConnection,
}

/// The shells that `completions` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "their names say it")]
pub enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_package_s_settings_are_variables_of_flags_of_serve_with_values_that_work() {
        let settings = include_str!("../../packaging/server/default");
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let mut line = vec!["x".to_owned(), "serve".to_owned()];
        for setting in settings.lines().filter_map(|line| line.strip_prefix('#')) {
            // What is commented out and no sentence.
            let Some((name, value)) = setting
                .split_once('=')
                .filter(|(name, _)| !name.contains(' '))
            else {
                continue;
            };
            let flag = serve
                .get_arguments()
                .chain(command.get_arguments())
                .find(|flag| flag.get_env().is_some_and(|variable| variable == name));
            let flag = flag.unwrap_or_else(|| panic!("no flag has {name}"));
            line.push(format!("--{}={value}", flag.get_long().unwrap()));
        }
        assert!(line.len() > 8, "{line:?}");
        Cli::try_parse_from(&line).unwrap();
        let active = settings
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        assert_eq!(
            active.count(),
            0,
            "the settings are the program's until somebody changes them"
        );
    }

    #[test]
    fn what_every_command_takes_stands_before_or_after_its_name() {
        let shared = ["--data-dir=/srv/elsewhere", "--log-format=json"];
        for line in lines(&Cli::command()) {
            for flag in shared {
                let read = |at: usize| {
                    let mut line = line.clone();
                    line.insert(at, flag.to_owned());
                    let read = Cli::try_parse_from(&line);
                    format!(
                        "{:?}",
                        read.unwrap_or_else(|error| panic!("{line:?}: {error}"))
                    )
                };
                let first = read(1);
                for at in 2..=line.len() {
                    assert_eq!(read(at), first, "{line:?}: {flag} at {at}");
                }
                let without = format!("{:?}", Cli::try_parse_from(&line));
                assert_ne!(first, without, "{line:?}: {flag} changes nothing");
                assert!(
                    !first.contains("holistics-tunnel-data") || flag != shared[0],
                    "{first}"
                );
            }
        }
    }

    fn example(needed: &clap::Arg) -> String {
        let values = needed.get_possible_values();
        let first = values.first();
        let value = first.map_or_else(|| "x".to_owned(), |value| value.get_name().to_owned());
        match needed.get_long() {
            Some(flag) => format!("--{flag}={value}"),
            None => value,
        }
    }

    /// The shortest line of every command that does something.
    fn lines(command: &clap::Command) -> Vec<Vec<String>> {
        let own = [command.get_name().to_owned()];
        if !command.has_subcommands() {
            let needed = command.get_arguments().filter(|arg| arg.is_required_set());
            return vec![own.into_iter().chain(needed.map(example)).collect()];
        }
        let below = command.get_subcommands().flat_map(lines);
        below.map(|line| [&own[..], &line].concat()).collect()
    }
}
