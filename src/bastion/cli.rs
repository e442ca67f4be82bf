//! The command line: types only. What a command does stands in `commands`, one file each.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use super::facts::Init;
use super::guide::GuideFor;
use super::help;
use super::ssh::KeyType;
use super::steps::autossh::source::Source;
use crate::protocol::TunnelId;

/// A vendor reaches a database in your closed network through a tunnel that this host opens.
///
/// Run it as the user who will own the tunnel, without sudo: it asks for root for single commands, and
/// shows each of them first.
#[derive(Debug, Parser)]
#[command(
    name = "holistics-tunnel",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = help::PROGRAM
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
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
            let is_secret = flag == "token";
            arg.env(variable).hide_env_values(is_secret)
        })
        .mut_subcommands(with_variables)
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Show every command that is run, with its exit status
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// No colours (NO_COLOR does the same)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up a tunnel: install what is missing, enroll this host, prove the tunnel, install the service
    #[command(after_help = help::SETUP)]
    Setup(Setup),
    /// Show what setup would do on this host, and change nothing
    #[command(after_help = help::PLAN)]
    Plan(Plan),
    /// Remove a tunnel from this host and from the control plane; with the last one, the service too
    #[command(after_help = help::UNINSTALL)]
    UninstallTunnel(UninstallTunnel),
    /// Point a tunnel at a different database; its remote port and its key stay
    UpdateTunnel(UpdateTunnel),
    /// Replace the key pair of this host's tunnels, which reconnect one at a time
    RotateKey(RotateKey),
    /// Show the tunnels of this host
    List(List),
    /// Show whether the tunnels are up; exit status 0 only if all that were asked about are
    #[command(after_help = help::STATUS)]
    Status(Status),
    /// Look at everything a tunnel depends on, and say what to do about what fails; exit status 0 only if nothing does
    Doctor(Doctor),
    /// Start, stop or restart all tunnels of this host, or show whether they are up
    Service(Service),
    /// Show what ssh and autossh have said about the tunnels
    Logs(Logs),
    /// Run one tunnel in the foreground, for a container or a supervisor
    Run(Run),
    /// Show how to set a tunnel up by hand, with its values filled in
    Manual(Manual),
    /// Write the completions of a shell to standard output
    #[command(after_help = help::COMPLETIONS)]
    Completions(Completions),
    /// Write the manual page to standard output, or all pages into a folder
    #[command(after_help = help::MAN)]
    Man(Man),
}

/// `setup`
#[derive(Debug, Args)]
pub struct Setup {
    /// The control plane, https://NAME, as in the command from the browser
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The one-time token; better given by --token-file, since other users can see arguments
    #[arg(long, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with the one-time token, for this user alone (0600), removed once it is read (- for
    /// standard input)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Do not ask whether to go on
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object for each event on standard output
    #[arg(long)]
    pub json: bool,
    /// Write the log of this run here [default: ~/.holistics/logs/setup-TIME.log]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// How long to wait until the data source is saved in the browser: 90s, 30m, 2h
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    pub wait: Duration,
    /// A private certificate authority that the control plane's certificate comes from (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Where a service h_autossh of somebody else's is there: stop its tunnels and move it aside
    /// without the question; --yes does not
    #[arg(long)]
    pub replace_service: bool,
    /// Go on even if the database cannot be reached from this host now
    #[arg(long)]
    pub no_database_check: bool,
    /// What the plan depends on.
    #[command(flatten)]
    pub plan: PlanOptions,
}

/// What a plan depends on.
#[derive(Debug, Args)]
pub struct PlanOptions {
    /// The kind of key to make where there is none
    #[arg(long, value_enum, default_value_t = KeyType::Rsa)]
    pub key_type: KeyType,
    /// What runs the service
    #[arg(long, value_enum, default_value_t = InitChoice::Auto)]
    pub init: InitChoice,
    /// Where the system's files go; a folder that this user can write needs no root
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub prefix: PathBuf,
    /// Where to take the source of autossh from, should it have to be compiled: a mirror's address, or
    /// a file [default: the author's site, or else Debian's archive]
    #[arg(long, value_name = "URL|FILE", value_parser = Source::parse)]
    pub autossh_source: Option<Source>,
    /// On RHEL and its relatives: enable EPEL where no enabled repository has autossh
    #[arg(long)]
    pub enable_epel: bool,
}

/// `plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// Plan for the host whose files are under this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// What the plan depends on.
    #[command(flatten)]
    pub plan: PlanOptions,
}

/// `uninstall-tunnel`
#[derive(Debug, Args)]
pub struct UninstallTunnel {
    /// The tunnel's number, as `list` shows it; asked for where it is left out
    #[arg(conflicts_with = "all", value_parser = tunnel_id())]
    pub id: Option<TunnelId>,
    /// Remove every tunnel of this host
    #[arg(long)]
    pub all: bool,
    /// Do not ask whether to go on
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Remove it from this host even if the control plane cannot be told
    #[arg(long)]
    pub force: bool,
    /// Take it off this host alone, and leave it to the machine that this one is a copy of
    #[arg(long, conflicts_with = "force")]
    pub local_only: bool,
    /// Keep the key pair when the last tunnel goes
    #[arg(long)]
    pub keep_keys: bool,
    /// The control plane, where two of them have a tunnel of that number; the one to tell, where this
    /// host knows nothing of the tunnel any more
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// A file with the removal token (0600), removed once it is read (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// One JSON object for each event on standard output
    #[arg(long)]
    pub json: bool,
    /// Write the log of this run here [default: ~/.holistics/logs/uninstall-tunnel-TIME.log]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// A private certificate authority that the control plane's certificate comes from (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
}

/// Which tunnel of this host is meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// The tunnel's number, as `list` shows it [default: all tunnels, or the only one]
    #[arg(value_parser = tunnel_id())]
    pub id: Option<TunnelId>,
    /// The control plane, where two of them have a tunnel of that number
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// `update-tunnel`
#[derive(Debug, Args)]
pub struct UpdateTunnel {
    /// Which tunnel.
    #[command(flatten)]
    pub which: Which,
    /// The database's new host as seen from here; the control plane is told [default: as in the browser]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The database's new port; the control plane is told [default: as in the browser]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Go on even if the database cannot be reached from this host now
    #[arg(long)]
    pub no_database_check: bool,
    /// Do not ask whether to go on
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Show what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object for each event on standard output
    #[arg(long)]
    pub json: bool,
    /// A private certificate authority that the control plane's certificate comes from (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
}

/// `rotate-key`
#[derive(Debug, Args)]
pub struct RotateKey {
    /// The kind of the new key [default: the kind of the present one]
    #[arg(long, value_enum)]
    pub key_type: Option<KeyType>,
    /// Do not ask whether to go on
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Show what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object for each event on standard output
    #[arg(long)]
    pub json: bool,
    /// A private certificate authority that the control planes' certificates come from (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
}

/// `list`
#[derive(Debug, Args)]
pub struct List {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `status`
#[derive(Debug, Args)]
pub struct Status {
    /// Which tunnel.
    #[command(flatten)]
    pub which: Which,
    /// As JSON; with --watch, one object for each change
    #[arg(long)]
    pub json: bool,
    /// Look again every two seconds, and show what changes, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// A private certificate authority that the control plane's certificate comes from (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Which tunnel.
    #[command(flatten)]
    pub which: Which,
    /// As JSON, once everything was looked at
    #[arg(long)]
    pub json: bool,
    /// Also write a report for support to this file (- for standard output): no tokens, keys or
    /// passwords, but names of hosts and users
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// A private certificate authority that the control plane's certificate comes from (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
}

/// `service`
#[derive(Debug, Args)]
pub struct Service {
    /// What to do with all tunnels of this host
    #[arg(value_enum)]
    pub action: ServiceAction,
    /// A private certificate authority that the control plane's certificate comes from (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
}

/// What `service` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceAction {
    /// Start what does not run
    Start,
    /// Stop all of them, until the next start or boot
    Stop,
    /// Stop and start them
    Restart,
    /// Show whether they are up, as `status` does
    Status,
}

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Which tunnel.
    #[command(flatten)]
    pub which: Which,
    /// Go on showing what comes, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines of each log
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub lines: usize,
    /// One JSON object for each line
    #[arg(long)]
    pub json: bool,
}

/// `run`
#[derive(Debug, Args)]
pub struct Run {
    /// Which tunnel.
    #[command(flatten)]
    pub which: Which,
}

/// `manual`
#[derive(Debug, Args)]
pub struct Manual {
    /// For which system
    #[arg(value_enum)]
    pub system: GuideFor,
    /// The tunnel's number; the only tunnel of this host where it is left out
    #[arg(long, value_name = "ID", value_parser = tunnel_id())]
    pub tunnel: Option<TunnelId>,
    /// The control plane, where two of them have a tunnel of that number
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub shell: CompletedShell,
}

/// A shell that completes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletedShell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `man`
#[derive(Debug, Args)]
pub struct Man {
    /// The folder to write the page of every command into; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `--init`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InitChoice {
    /// The host's own
    Auto,
    /// systemd units
    Systemd,
    /// An init script
    Sysv,
    /// launchd daemons
    Launchd,
    /// No service: the command is printed
    None,
}

impl InitChoice {
    /// The service manager asked for, if one was.
    pub fn init(self) -> Option<Init> {
        match self {
            InitChoice::Auto => None,
            InitChoice::Systemd => Some(Init::Systemd),
            InitChoice::Sysv => Some(Init::Sysv),
            InitChoice::Launchd => Some(Init::Launchd),
            InitChoice::None => Some(Init::None),
        }
    }
}

fn tunnel_id() -> impl TypedValueParser<Value = TunnelId> {
    clap::value_parser!(i64).range(1..).map(TunnelId)
}

/// Reads `90`, `90s`, `30m`, `2h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("give a number with s, m or h, such as 30m".to_owned()),
    };
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|seconds| *seconds > 0)
        .ok_or("give a number with s, m or h, such as 30m")?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::described().debug_assert();
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

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(parse_duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        for bad in ["", "m", "0s", "5 m", "1d", "99999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
