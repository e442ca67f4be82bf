//! What each command takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use crate::bastion::facts::Init;
use crate::manual::System;

use crate::bastion::ssh::{KeyType, ProxyCommand};
use crate::bastion::steps::autossh::source::Source;
use crate::protocol::TunnelId;

#[derive(Debug, Args)]
pub struct Setup {
    /// The address of the control plane, https://NAME, as in the command from the browser
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The one-time token; --token-file is safer, since other users can see arguments
    #[arg(long, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with the one-time token, readable by this user alone (0600); it is removed once the tunnel is set up
    /// (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Do not ask for confirmation
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object for each event
    #[arg(long)]
    pub json: bool,
    /// Write the log of this run here [default: ~/.holistics/logs/setup-TIME.log]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// How long to wait for the data source to be saved in the browser: 90s, 30m, 2h
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    pub wait: Duration,
    #[command(flatten)]
    pub authority: CaCert,
    /// If somebody else's service h_autossh is there, stop its tunnels and move it aside without asking;
    /// --yes does not do that
    #[arg(long)]
    pub replace_service: bool,
    /// Go on even if the database cannot be reached from this host now
    #[arg(long)]
    pub no_database_check: bool,
    #[command(flatten)]
    pub plan: PlanOptions,
}

#[derive(Debug, Args)]
pub struct PlanOptions {
    /// The kind of key to make if there is none
    #[arg(long, value_enum, default_value_t = KeyType::Rsa)]
    pub key_type: KeyType,
    /// What runs the service
    #[arg(long, value_enum, default_value_t = InitChoice::Auto)]
    pub init: InitChoice,
    /// Where the system files go; a folder that this user can write to needs no root
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub prefix: PathBuf,
    /// Where to get the source of autossh if it has to be compiled: a mirror's address, or a file
    /// [default: the author's site, or else Debian's archive]
    #[arg(long, value_name = "URL|FILE", value_parser = Source::parse)]
    pub autossh_source: Option<Source>,
    /// How ssh gets to the tunnel server where it cannot connect by itself, as its ProxyCommand with %h and %p;
    /// none for the direct way [default: the proxy of https_proxy, where the direct way is closed]
    #[arg(long, value_name = "COMMAND")]
    pub proxy_command: Option<ProxyCommand>,
    /// On RHEL and its relatives: enable EPEL if no enabled repository has autossh
    #[arg(long)]
    pub enable_epel: bool,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// Plan for the host whose files are under this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub plan: PlanOptions,
}

#[derive(Debug, Args)]
pub struct UninstallTunnel {
    /// The tunnel's ID, as `list` shows it; asked for if it is left out
    #[arg(conflicts_with = "all", value_parser = tunnel_id())]
    pub id: Option<TunnelId>,
    /// Remove all tunnels of this host
    #[arg(long)]
    pub all: bool,
    /// Do not ask for confirmation
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Remove it from this host even if the control plane cannot be told
    #[arg(long)]
    pub force: bool,
    /// Remove it from this host alone: on a copy of a machine, whose original keeps the tunnel
    #[arg(long, conflicts_with = "force")]
    pub local_only: bool,
    /// Keep the key pair when the last tunnel goes
    #[arg(long)]
    pub keep_keys: bool,
    /// The control plane, if two of them have a tunnel with that ID; the one to tell, if this host no
    /// longer knows the tunnel
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// A file with the removal token (0600), removed once the tunnel is (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print one JSON object for each event
    #[arg(long)]
    pub json: bool,
    /// Write the log of this run here [default: ~/.holistics/logs/uninstall-tunnel-TIME.log]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    #[command(flatten)]
    pub authority: CaCert,
}

/// Whom to trust; setup, update-tunnel and rotate-key keep it.
#[derive(Debug, Clone, Default, Args)]
pub struct CaCert {
    /// The private certificate authority that signed the control plane's certificate (PEM); it is kept for
    /// later commands by setup, update-tunnel and rotate-key
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
}

impl CaCert {
    pub fn file(&self) -> Option<&Path> {
        self.ca_cert.as_deref()
    }
}

/// Which tunnel of this host.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// The tunnel's ID, as `list` shows it [default: all tunnels, or the only one]
    #[arg(value_parser = tunnel_id())]
    pub id: Option<TunnelId>,
    /// The control plane, if two of them have a tunnel with that ID
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

#[derive(Debug, Args)]
pub struct UpdateTunnel {
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
    /// Do not ask for confirmation
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Show what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object for each event
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub authority: CaCert,
}

#[derive(Debug, Args)]
pub struct RotateKey {
    /// The kind of the new key [default: the kind of the current one]
    #[arg(long, value_enum)]
    pub key_type: Option<KeyType>,
    /// Do not ask for confirmation
    #[arg(short, long, overrides_with = "yes")]
    pub yes: bool,
    /// Show what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object for each event
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub authority: CaCert,
}

#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub which: Which,
    /// Print JSON; with --watch, one object for each change
    #[arg(long)]
    pub json: bool,
    /// Check again every two seconds and show what changes, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub authority: CaCert,
}

#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub which: Which,
    /// Print JSON, once all checks are done
    #[arg(long)]
    pub json: bool,
    /// Also write a report for support to this file (- for standard output): no tokens, keys or
    /// passwords, but names of hosts and users
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub authority: CaCert,
}

#[derive(Debug, Args)]
pub struct Service {
    /// What to do with all tunnels of this host
    #[arg(value_enum)]
    pub action: ServiceAction,
    #[command(flatten)]
    pub authority: CaCert,
}

/// What `service` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceAction {
    /// Start the tunnels that do not run
    Start,
    /// Stop all of them until the next start or boot
    Stop,
    /// Stop and start all of them
    Restart,
    /// Show whether they are up, as `status` does
    Status,
}

#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub which: Which,
    /// Keep showing new lines, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines of each log to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub lines: usize,
    /// Print one JSON object for each line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub which: Which,
}

#[derive(Debug, Args)]
pub struct Manual {
    /// The system of the host
    #[arg(value_enum)]
    pub system: System,
    /// The tunnel's ID; may be left out if this host has only one
    #[arg(long, value_name = "ID", value_parser = tunnel_id())]
    pub tunnel: Option<TunnelId>,
    /// The control plane, if two of them have a tunnel with that ID
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
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

#[derive(Debug, Args)]
pub struct Man {
    /// The folder to write the page of every command into; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InitChoice {
    /// Whatever this host uses
    Auto,
    /// systemd units
    Systemd,
    /// An init script
    Sysv,
    /// launchd daemons
    Launchd,
    /// No service; the command to run is printed
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

/// Reads `90s`, `30m`, `2h`; a number alone is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let with_unit = match text.parse::<u64>() {
        Ok(seconds) => format!("{seconds}s"),
        Err(_) => text.to_owned(),
    };
    let time: Option<SignedDuration> = with_unit.parse().ok();
    time.and_then(|time| Duration::try_from(time).ok())
        .filter(|time| !time.is_zero())
        .ok_or("give a number with s, m or h, such as 30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(parse_duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        for bad in ["", "m", "0s", "-5m", "1d", "99999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
