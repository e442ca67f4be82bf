//! The command line of `holistics-tunnel-server`. Every flag has an environment variable
//! `HOLISTICS_TUNNEL_SERVER_<FLAG>`.

mod access;
mod nodes;

use std::env;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use url::Url;

use super::cluster::node;
use super::data_dir::DataDir;
use super::domain::{inputs, proxies};
use super::http::connections;
use super::probe::apart::SUBCOMMAND;
use super::store::{DatabaseUrl, PortRange, Role, Store};
use super::tunnel_server::Limits;

pub use access::{LoginLinkArgs, OperatorAction, OperatorArgs, TokenAction, TokenArgs};
pub use nodes::{NodeAction, NodeArgs};

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

/// Where the server keeps its data.
#[derive(Debug, Args)]
pub struct DataDirArg {
    /// The folder of the database and the keys; `serve` makes it [default: the package's,
    /// /var/lib/holistics-tunnel-server, where that is there; else holistics-tunnel-data]
    #[arg(long, global = true, env = DataDirArg::VARIABLE, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// A PostgreSQL database, 14 or newer, that several servers share, in the place of the folder's own:
    /// postgres://USER@HOST/DATABASE. A password goes into the variable or into ~/.pgpass, not into an argument,
    /// which everybody on this machine sees
    #[arg(
        long,
        global = true,
        env = DataDirArg::DATABASE_VARIABLE,
        hide_env_values = true,
        value_name = "URL"
    )]
    // As text: what clap cannot read it shows, and there may be a password in it.
    database_url: Option<String>,
}

impl DataDirArg {
    /// Its variable.
    pub const VARIABLE: &str = "HOLISTICS_TUNNEL_SERVER_DATA_DIR";

    /// The variable of the database that several servers share.
    pub const DATABASE_VARIABLE: &str = "HOLISTICS_TUNNEL_SERVER_DATABASE_URL";

    /// Opens the database that was named, or else the folder's own.
    ///
    /// # Errors
    /// It cannot be reached or used, or its password is seen by everybody.
    pub async fn open_store(
        &self,
        data_dir: &DataDir,
        new_installation: bool,
    ) -> anyhow::Result<Store> {
        let Some(url) = self.database_url()? else {
            return data_dir.open_store(new_installation).await;
        };
        Store::connect(&url).await
    }

    /// The database that was named.
    ///
    /// # Errors
    /// It is none, or it has a password and stands in an argument.
    pub fn database_url(&self) -> anyhow::Result<Option<DatabaseUrl>> {
        let url = self.database_url.as_deref();
        url.map(|url| database_url(url, "--database-url", Self::DATABASE_VARIABLE))
            .transpose()
    }

    /// The folder that was named, or else the default one. An operator's shell does not have the service's
    /// variables: so the package's folder is found without.
    pub fn path(&self) -> PathBuf {
        match &self.data_dir {
            Some(named) => named.clone(),
            None if Self::packaged().is_dir() => Self::packaged().to_owned(),
            None => PathBuf::from("holistics-tunnel-data"),
        }
    }

    /// Where the server of the .deb or .rpm has its data; only root can make it.
    pub fn packaged() -> &'static Path {
        Path::new("/var/lib/holistics-tunnel-server")
    }
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// Where the web and the API are served; port 0 takes a free one
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,

    /// Where metrics are served without a credential, by plain http: for a Prometheus on this machine or
    /// in a private network [default: only on --listen, for operators' API tokens]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_METRICS_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// Where bastions connect with ssh; port 0 takes a free one
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_SSH_LISTEN",
        default_value = "0.0.0.0:50022",
        value_name = "ADDRESS:PORT"
    )]
    pub ssh_listen: SocketAddr,

    /// The address on which the tunnels' ports listen
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_FORWARD_LISTEN",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    pub forward_listen: IpAddr,

    /// The ports given to tunnels; keep them outside the kernel's ephemeral range
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PORTS",
        default_value = "20000-29999",
        value_name = "FIRST-LAST"
    )]
    pub ports: PortRange,

    /// How long a port rests that another tunnel had, before it is given again; also one that may have been
    /// given after the backup that was restored
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PORT_REST",
        default_value = "24h",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub port_rest: Duration,

    /// What this server does, where several share a database (--database-url)
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_ROLE",
        default_value = "all",
        value_name = "ROLE"
    )]
    pub role: Role,

    /// Where it is, where several share a database: connections are passed on within a region first
    /// [default: default]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_REGION",
        value_name = "NAME",
        value_parser = node::name
    )]
    region: Option<String>,

    /// What it is called among the servers that share a database; each has a name of its own
    /// [default: the machine's name]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_NODE_NAME",
        value_name = "NAME",
        value_parser = node::name
    )]
    node_name: Option<String>,

    /// Where other nodes of this server connect, to pass on connections to the tunnels that this one holds:
    /// keep it within your own network. Port 0 takes a free one [default: there are no other nodes]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PEER_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    pub peer_listen: Option<SocketAddr>,

    /// What other nodes call it [default: the address of --peer-listen]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PEER_ADDRESS",
        value_name = "HOST:PORT",
        requires = "peer_listen",
        value_parser = host_and_port
    )]
    pub peer_address: Option<String>,

    /// What bastions and browsers call this server [default: the address of --listen]. It may have a
    /// path, which a proxy may keep or strip
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PUBLIC_URL",
        value_name = "URL",
        value_parser = public_url
    )]
    pub public_url: Option<Url>,

    /// A proxy or load balancer in front, or a network of them; may be given several times. Its
    /// X-Forwarded-For and X-Forwarded-Proto are believed, and the PROXY protocol (v1, v2) where it
    /// connects to SSH. It must set these itself: what a client sends along must not pass it
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = proxies::network
    )]
    pub trusted_proxy: Vec<IpNet>,

    /// What bastions call the tunnel server [default: the public URL's host]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PUBLIC_SSH_HOST",
        value_name = "HOST",
        value_parser = ssh_host
    )]
    pub public_ssh_host: Option<String>,

    /// The tunnel server's port as bastions see it [default: the port of --ssh-listen]
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_PUBLIC_SSH_PORT",
        value_name = "PORT",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub public_ssh_port: Option<u16>,

    /// The certificate chain for https, PEM
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,

    /// The private key for https, PEM
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,

    /// How long a generated command works, such as 24h or 90m
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_ENROLLMENT_TTL",
        default_value = "24h",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub enrollment_ttl: Duration,

    /// How long a bastion's old key is accepted after its new one was first seen, unless the bastion
    /// confirms the change earlier
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_KEY_OVERLAP",
        default_value = "1h",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub key_overlap: Duration,

    /// How long keys that are known go on opening their tunnels while PostgreSQL cannot be asked whether they still
    /// may, such as 24h; what runs then runs on
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_STALE_LOGINS",
        default_value = "24h",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub stale_logins: Duration,

    /// How long a browser stays signed in without being used
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_SESSION_IDLE",
        default_value = "12h",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub session_idle: Duration,

    /// How long a browser stays signed in, used or not
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_SESSION_LIFETIME",
        default_value = "168h",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub session_lifetime: Duration,

    /// How long the audit log keeps an entry, such as 400d; each operator, API token and bastion has room of
    /// its own in it
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_AUDIT_AGE",
        default_value = "400d",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub audit_age: Duration,

    /// Let direct connections lead to this machine itself. Whoever may create data sources can then
    /// reach what listens on its loopback
    #[arg(long, env = "HOLISTICS_TUNNEL_SERVER_ALLOW_DIRECT_LOOPBACK")]
    pub allow_direct_loopback: bool,

    /// Begin with an empty database though the data folder has keys already. Without it such a start is
    /// refused, since the database was lost more likely
    #[arg(long)]
    pub new_installation: bool,

    /// The folder of the bastion's binaries, `DIR/TARGET/holistics-tunnel`
    /// [default: the holistics-tunnel beside this program]
    #[arg(long, env = "HOLISTICS_TUNNEL_SERVER_DIST_DIR", value_name = "DIR")]
    pub dist_dir: Option<PathBuf>,

    /// How many of what there may be; at the end, since what follows would stand under its heading.
    #[command(flatten)]
    pub bounds: Bounds,

    /// The same for the web.
    #[command(flatten)]
    pub web_bounds: WebBounds,
}

impl Serve {
    /// Where it is.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("default")
    }

    /// What it is called among several.
    ///
    /// # Errors
    /// It has no name, and the machine's cannot be used.
    pub fn node_name(&self) -> anyhow::Result<String> {
        match &self.node_name {
            Some(name) => Ok(name.clone()),
            None => node::machine_name(),
        }
    }

    /// What only makes sense where several servers share a database is refused to the only one.
    ///
    /// # Errors
    /// It is one server alone, and a flag is for several.
    pub fn check_node(&self) -> anyhow::Result<()> {
        if self.data.database_url()?.is_some() {
            return Ok(());
        }
        let for_several = [
            ("--role", self.role != Role::All),
            ("--region", self.region.is_some()),
            ("--node-name", self.node_name.is_some()),
        ];
        for (flag, is_given) in for_several {
            ensure!(
                !is_given,
                "{flag} is for several servers that share a database of PostgreSQL, and this one keeps its own file: \
                 leave it out, or name the database with --database-url"
            );
        }
        Ok(())
    }
}

/// The web's bounds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds of the web")]
pub struct WebBounds {
    /// How many web connections there may be in all, and never more than a quarter of the open files
    /// that this process may have. One that is idle makes room for a new one
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_WEB_CONNECTIONS",
        default_value_t = 2_000,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub web_connections: usize,

    /// How many of them may come from one IPv4 address, or one IPv6 network of 64 bits; those of
    /// --trusted-proxy are not counted so
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_WEB_CONNECTIONS_PER_ADDRESS",
        default_value_t = 256,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub web_connections_per_address: usize,
}

impl WebBounds {
    /// As the web takes them.
    pub fn bounds(&self) -> connections::Bounds {
        connections::Bounds {
            in_all: self.web_connections,
            per_address: self.web_connections_per_address,
        }
    }
}

/// The tunnel server's bounds that depend on the machine and on what stands in front of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds of the tunnel server")]
pub struct Bounds {
    /// How many SSH connections there may be in all, logged in or not
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_SSH_CONNECTIONS",
        default_value_t = Limits::default().connections,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub ssh_connections: usize,

    /// How many of them may be in the middle of their login; from half of it on, newcomers are refused
    /// at random, as with sshd's MaxStartups
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_SSH_LOGINS",
        default_value_t = Limits::default().unauthenticated,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub ssh_logins: usize,

    /// How many of those may come from one IPv4 address, or one IPv6 network of 64 bits. Behind a load
    /// balancer that hides the bastions' addresses (see --trusted-proxy), give it the number of --ssh-logins
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_SSH_LOGINS_PER_ADDRESS",
        default_value_t = Limits::default().unauthenticated_per_address,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub ssh_logins_per_address: usize,

    /// How many SSH sessions one key may have beyond one for each of its tunnels
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_SPARE_SESSIONS_PER_KEY",
        default_value_t = Limits::default().spare_sessions_per_key,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub spare_sessions_per_key: usize,

    /// How many connections may go through one SSH session at the same time
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_CONNECTIONS_PER_SESSION",
        default_value_t = Limits::default().forwarded_per_session,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub connections_per_session: usize,

    /// How much memory, in MiB, all connections together may take for what was received and not yet
    /// read, beyond the 256 KiB that each may
    #[arg(
        long,
        env = "HOLISTICS_TUNNEL_SERVER_WINDOW_MEMORY",
        default_value_t = Limits::default().window_memory >> 20,
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(1..=1 << 30)
    )]
    pub window_memory: u64,
}

impl Bounds {
    /// As the tunnel server takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.ssh_connections,
            unauthenticated: self.ssh_logins,
            unauthenticated_per_address: self.ssh_logins_per_address,
            spare_sessions_per_key: self.spare_sessions_per_key,
            forwarded_per_session: self.connections_per_session,
            window_memory: self.window_memory << 20,
            ..Limits::default()
        }
    }
}

/// `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// The file to make, 0600; there must be none of this name. `-` is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Say what is in it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Where the data is to be.
    #[command(flatten)]
    pub data: DataDirArg,

    /// The file that `backup` made. `-` is standard input, which has to be a file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Take the place of the data that is in the folder. That is put aside below it, and what its database
    /// has given since the backup, numbers and ports, is given to nobody else
    #[arg(long)]
    pub replace: bool,

    /// Ports that no server of this installation has ever given, so that new tunnels get some at once.
    /// Where nobody can tell what was given since the backup, all others rest for --port-rest of `serve`
    #[arg(long, value_name = "FIRST-LAST")]
    pub unused_ports: Option<PortRange>,

    /// Say what was done as JSON
    #[arg(long)]
    pub json: bool,
}

/// `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// The database, in which there is nothing yet [default: --database-url]. A password goes into the variable or
    /// into ~/.pgpass, as there
    #[arg(
        long,
        env = MigrateArgs::VARIABLE,
        hide_env_values = true,
        value_name = "URL"
    )]
    to: Option<String>,

    /// Say what was moved as JSON
    #[arg(long)]
    pub json: bool,
}

impl MigrateArgs {
    const VARIABLE: &str = "HOLISTICS_TUNNEL_SERVER_TO";

    /// The database that takes it all.
    ///
    /// # Errors
    /// None was named, what was named is none, or its password is seen by everybody.
    pub fn target(&self) -> anyhow::Result<DatabaseUrl> {
        if let Some(url) = &self.to {
            return database_url(url, "--to", Self::VARIABLE);
        }
        self.data
            .database_url()?
            .context("name the database: migrate --to postgres://USER@HOST/DATABASE")
    }
}

/// The database of this flag or variable. A password in an argument is seen by everybody on this machine.
fn database_url(text: &str, flag: &str, variable: &str) -> anyhow::Result<DatabaseUrl> {
    let url = text.parse::<DatabaseUrl>();
    let url =
        url.map_err(|why| anyhow!("cannot use the database in {flag} or {variable}: {why}"))?;
    let is_flag = |argument: OsString| {
        let argument = argument.to_string_lossy();
        let rest = argument.strip_prefix(flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    ensure!(
        !(url.has_password() && env::args_os().any(is_flag)),
        "everybody on this machine sees the password in {flag}: change it, and put the address into {variable} or \
         the password into ~/.pgpass"
    );
    Ok(url)
}

/// `host-key`.
#[derive(Debug, Args)]
pub struct HostKeyArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// What to do with host keys.
    #[command(subcommand)]
    pub action: HostKeyAction,
}

/// What to do with host keys.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum HostKeyAction {
    /// Show the current and the next host key, and which tunnels' bastions know which
    List {
        /// As one JSON object, with every tunnel
        #[arg(long)]
        json: bool,
    },
    /// Make the next host key and announce it: new bastions pin it beside the current one, others when
    /// `update-tunnel` or `rotate-key` runs on them
    Next,
    /// Make the next host key the current one. Running sessions go on; the old key is kept until it is
    /// dropped
    Promote {
        /// Also if there are bastions that do not know it, and cannot come back once they lose their
        /// connection, until `update-tunnel` has run on them
        #[arg(long)]
        force: bool,
    },
    /// Delete the host key that was kept when the current one took its place
    Drop,
}

fn public_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("it must begin with https:// or http://".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must have no ?query and no #fragment".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must have no user name and no password".to_owned());
    }
    Ok(url)
}

fn ssh_host(text: &str) -> Result<String, String> {
    inputs::host("the host", text).map_err(|error| error.to_string())
}

/// As it is given to those who connect there.
fn host_and_port(text: &str) -> Result<String, String> {
    let expected = || format!("{text:?} is not HOST:PORT, such as node-1.internal:7022");
    let (name, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let port: u16 = port.parse().map_err(|_| expected())?;
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    if port == 0 || (bare.is_none() && name.contains(':')) {
        return Err(expected());
    }
    let host = ssh_host(bare.unwrap_or(name))?;
    Ok(match bare {
        Some(_) => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    })
}

/// At most what counts as a great many: more would be a slip of the finger.
fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=1_000_000).contains(number))
        .ok_or_else(|| format!("{text:?} is not a number from 1 to 1000000"))
}

/// Days have 24 hours here: nothing that lasts for days depends on a change of the clocks.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a duration, such as 90d, 24h, 90m or 30s");
    if let Some(days) = text.strip_suffix('d') {
        let days: u32 = days.parse().map_err(|_| expected())?;
        return match days {
            0 => Err(expected()),
            days => Ok(Duration::from_secs(u64::from(days) * 24 * 3600)),
        };
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(expected)
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

    fn example(positional: &clap::Arg) -> String {
        let values = positional.get_possible_values();
        let first = values.first();
        first.map_or_else(|| "x".to_owned(), |value| value.get_name().to_owned())
    }

    /// The shortest line of every command that does something.
    fn lines(command: &clap::Command) -> Vec<Vec<String>> {
        let own = [command.get_name().to_owned()];
        if !command.has_subcommands() {
            let needed = command
                .get_positionals()
                .filter(|arg| arg.is_required_set());
            return vec![own.into_iter().chain(needed.map(example)).collect()];
        }
        let below = command.get_subcommands().flat_map(lines);
        below.map(|line| [&own[..], &line].concat()).collect()
    }

    #[test]
    fn an_address_that_cannot_be_read_is_not_shown_with_its_password() {
        let address = "postgres://ann:se#cret@db.internal/tunnels";
        let line = ["x", "token", "list", "--database-url", address];
        assert!(Cli::try_parse_from(line).is_ok());
        let why = database_url(address, "--database-url", "VARIABLE").unwrap_err();
        let why = format!("{why:#}");
        assert!(why.contains("--database-url"), "{why}");
        assert!(!why.contains("cret"), "{why}");
    }

    #[test]
    fn bounds_are_numbers_that_let_something_in() {
        assert_eq!(at_least_one("10000"), Ok(10_000));
        for wrong in ["", "0", "-1", "1e3", "1000001", "many"] {
            assert!(at_least_one(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn the_bounds_are_the_tunnel_server_s_unless_a_flag_says_otherwise() {
        let bounds = |arguments: &[&str]| {
            let line = [&["x", "serve"], arguments].concat();
            let Command::Serve(serve) = Cli::parse_from(line).command else {
                panic!("not serve");
            };
            format!("{:?}", serve.bounds.limits())
        };
        assert_eq!(bounds(&[]), format!("{:?}", Limits::default()));
        let more = Limits {
            unauthenticated_per_address: 1_000,
            window_memory: 64 << 20,
            ..Limits::default()
        };
        let arguments = ["--ssh-logins-per-address", "1000", "--window-memory", "64"];
        assert_eq!(bounds(&arguments), format!("{more:?}"));
    }

    #[test]
    fn what_other_nodes_call_this_one_is_a_host_with_a_port() {
        for right in [
            "node-1.internal:7022",
            "10.0.0.1:7022",
            "[2001:db8::1]:7022",
        ] {
            assert_eq!(host_and_port(right), Ok(right.to_owned()));
        }
        for wrong in [
            "node-1",
            "node-1:",
            "node-1:0",
            ":7022",
            "2001:db8::1:7022",
            "a b:1",
        ] {
            assert!(host_and_port(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn durations_are_written_as_people_do() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for wrong in ["", "0s", "-1h", "24", "soon", "0d", "-1d", "d"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_public_url_is_a_plain_http_address() {
        assert!(public_url("https://tunnel.example.com/base").is_ok());
        for wrong in [
            "tunnel.example.com",
            "ftp://x",
            "https://u:p@x",
            "https://x/?a=b",
            "https://x/#a",
        ] {
            assert!(public_url(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
