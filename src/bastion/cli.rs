//! The command line: types only. What a command does stands in `commands`, one file each.

mod arguments;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use arguments::*;

use super::help;

/// Lets a vendor reach a database in your closed network, through a tunnel that this host opens.
///
/// Run it as the user who will own the tunnel, without sudo: single commands ask for root, and each of
/// them is shown first.
#[derive(Debug, Parser)]
#[command(
    name = "holistics-tunnel",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = help::PROGRAM
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every flag's variable begins with: `--key-type` is `HOLISTICS_TUNNEL_KEY_TYPE`.
const ENVIRONMENT: &str = "HOLISTICS_TUNNEL_";

impl Cli {
    /// Reads the command line; ends the process where it is wrong, or where help is asked for.
    pub fn read() -> Self {
        let matches = Self::described().get_matches();
        // clap has checked against the very description that the types give.
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The command line with the environment variable of every flag.
    pub fn described() -> clap::Command {
        with_variables(Self::command())
    }
}

fn with_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let Some(flag) = arg
                .get_long()
                .filter(|flag| !["help", "version"].contains(flag))
            else {
                return arg;
            };
            let variable = format!("{ENVIRONMENT}{}", flag.to_uppercase().replace('-', "_"));
            let may_be_secret = ["token", "proxy-command"].contains(&flag);
            arg.env(variable).hide_env_values(may_be_secret)
        })
        .mut_subcommands(with_variables)
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Show every command that runs, with its exit status
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// No colours; NO_COLOR does the same
    #[arg(long, global = true)]
    pub no_color: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up a tunnel: install what is missing, enroll this host, prove the tunnel, install the service
    #[command(after_help = help::SETUP)]
    Setup(Setup),
    /// Show what setup would do on this host, and change nothing
    #[command(after_help = help::PLAN)]
    Plan(Plan),
    /// Remove a tunnel from this host and from the control plane; the last one takes the service with it
    #[command(after_help = help::UNINSTALL)]
    UninstallTunnel(UninstallTunnel),
    /// Point a tunnel at a different database; its remote port and its key stay
    UpdateTunnel(UpdateTunnel),
    /// Replace the key pair of this host's tunnels, which reconnect one at a time
    RotateKey(RotateKey),
    /// Show the tunnels of this host
    List(List),
    /// Show whether the tunnels are up; exit status 0 only if all of them are
    #[command(after_help = help::STATUS)]
    Status(Status),
    /// Check everything a tunnel depends on, and say how to fix what fails; exit status 0 only if nothing does
    Doctor(Doctor),
    /// Start, stop or restart all tunnels of this host, or show whether they are up
    Service(Service),
    /// Show the logs of the tunnels, from ssh and autossh
    Logs(Logs),
    /// Run one tunnel in the foreground, for a container or a supervisor
    Run(Run),
    /// Show how to set a tunnel up by hand, with its values filled in
    Manual(Manual),
    /// Print the completions for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions(Completions),
    /// Print the manual page, or write the pages of all commands into a folder
    #[command(after_help = help::MAN)]
    Man(Man),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::described().debug_assert();
    }

    #[test]
    fn what_every_command_takes_stands_before_or_after_its_name() {
        for line in lines(&Cli::described()) {
            for flag in ["--verbose", "-v", "--quiet", "-q", "--no-color"] {
                let read = |at: usize| {
                    let mut line = line.clone();
                    line.insert(at, flag.to_owned());
                    let read = Cli::described()
                        .try_get_matches_from(&line)
                        .and_then(|matches| Cli::from_arg_matches(&matches));
                    read.unwrap_or_else(|error| panic!("{line:?}: {error}"))
                        .global
                };
                let first = format!("{:?}", read(1));
                assert!(first.contains("true"), "{line:?}: {flag} changes nothing");
                for at in 2..=line.len() {
                    assert_eq!(format!("{:?}", read(at)), first, "{line:?}: {flag} at {at}");
                }
            }
        }
    }

    /// The shortest line of every command.
    fn lines(command: &clap::Command) -> Vec<Vec<String>> {
        let name = command.get_name();
        let of = |command: &clap::Command| {
            let needed = command
                .get_positionals()
                .filter(|arg| arg.is_required_set());
            let first_of = |arg: &clap::Arg| arg.get_possible_values()[0].get_name().to_owned();
            let words = [name.to_owned(), command.get_name().to_owned()];
            words.into_iter().chain(needed.map(first_of)).collect()
        };
        command.get_subcommands().map(of).collect()
    }

    #[test]
    fn a_removal_command_with_a_second_yes_is_understood() {
        let words = [
            "holistics-tunnel",
            "uninstall-tunnel",
            "1",
            "--yes",
            "--yes",
        ];
        let cli = Cli::try_parse_from(words).unwrap();
        assert!(matches!(cli.command, Command::UninstallTunnel(removal) if removal.yes));
    }
}
