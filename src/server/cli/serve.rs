//! `serve`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Arg, Args};
use ipnet::IpNet;
use url::Url;

use super::DataDirArg;
use super::bounds::{Bounds, WebBounds};
use super::values::{duration, host_and_port, public_url, ssh_host};
use crate::server::cluster::node;
use crate::server::domain::proxies;
use crate::server::store::{DEFAULT_REGION, PortRange, Role};

/// `serve`.
#[derive(Debug, Args)]
#[command(mut_args(with_variable))]
pub struct Serve {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArg,

    /// Where the web and the API are served; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// Where metrics are served without a credential, by plain http: for a Prometheus on this machine or
    /// in a private network [default: only on --listen, for operators' API tokens]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Where bastions connect with ssh; port 0 takes a free one
    #[arg(long, default_value = "0.0.0.0:50022", value_name = "ADDRESS:PORT")]
    pub ssh_listen: SocketAddr,

    /// The address on which the tunnels' ports listen
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub forward_listen: IpAddr,

    /// The ports given to tunnels; keep them outside the kernel's ephemeral range. Of a region that was added, `region`
    /// says that
    #[arg(long, default_value = "20000-29999", value_name = "FIRST-LAST")]
    pub ports: PortRange,

    /// How long a port rests that another tunnel had, before it is given again; also one that may have been
    /// given after the backup that was restored
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub port_rest: Duration,

    /// What this server does, where several share a database (--database-url)
    #[arg(long, default_value = "all", value_name = "ROLE")]
    pub role: Role,

    /// Where it is, where several share a database: in one of the regions that were added with `region add`
    /// [default: default]
    #[arg(long, value_name = "NAME", value_parser = node::name)]
    region: Option<String>,

    /// What it is called among the servers that share a database; each has a name of its own
    /// [default: the machine's name]
    #[arg(long, value_name = "NAME", value_parser = node::name)]
    node_name: Option<String>,

    /// Where other nodes of this server connect, to pass on connections to the tunnels that this one holds:
    /// keep it within your own network. Port 0 takes a free one [default: there are no other nodes]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub peer_listen: Option<SocketAddr>,

    /// What other nodes call it [default: the address of --peer-listen]
    #[arg(long, value_name = "HOST:PORT", requires = "peer_listen", value_parser = host_and_port)]
    pub peer_address: Option<String>,

    /// What bastions and browsers call this server [default: the address of --listen]. It may have a
    /// path, which a proxy may keep or strip
    #[arg(long, value_name = "URL", value_parser = public_url)]
    pub public_url: Option<Url>,

    /// A proxy or load balancer in front, or a network of them; may be given several times. Its
    /// X-Forwarded-For and X-Forwarded-Proto are believed, and the PROXY protocol (v1, v2) where it
    /// connects to SSH. It must set these itself: what a client sends along must not pass it
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = proxies::network)]
    pub trusted_proxy: Vec<IpNet>,

    /// What bastions call the tunnel server [default: the public URL's host]. Of a region that was added, `region` says
    /// that
    #[arg(long, value_name = "HOST", value_parser = ssh_host)]
    pub public_ssh_host: Option<String>,

    /// The tunnel server's port as bastions see it [default: the port of --ssh-listen]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub public_ssh_port: Option<u16>,

    /// The certificate chain for https, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key for https, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// How long a generated command works, such as 24h or 90m
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub enrollment_ttl: Duration,

    /// How long a bastion's old key is accepted after its new one was first seen, unless the bastion
    /// confirms the change earlier
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration)]
    pub key_overlap: Duration,

    /// How long keys that are known go on opening their tunnels while PostgreSQL cannot be asked whether they still
    /// may, such as 24h; what runs then runs on
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub stale_logins: Duration,

    /// Where several servers share a database: how long connections through this one may go on once it drains, by
    /// SIGTERM or by `node drain`. What has nothing to carry goes to other servers at once
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = duration)]
    pub drain_timeout: Duration,

    /// How long a browser stays signed in without being used
    #[arg(long, default_value = "12h", value_name = "DURATION", value_parser = duration)]
    pub session_idle: Duration,

    /// How long a browser stays signed in, used or not
    #[arg(long, default_value = "168h", value_name = "DURATION", value_parser = duration)]
    pub session_lifetime: Duration,

    /// How long the audit log keeps an entry, such as 400d; each operator, API token and bastion has room of
    /// its own in it
    #[arg(long, default_value = "400d", value_name = "DURATION", value_parser = duration)]
    pub audit_age: Duration,

    /// Let direct connections lead to this machine itself. Whoever may create data sources can then
    /// reach what listens on its loopback
    #[arg(long)]
    pub allow_direct_loopback: bool,

    /// Begin with an empty database though the data folder has keys already. Without it such a start is
    /// refused, since the database was lost more likely
    #[arg(long)]
    pub new_installation: bool,

    /// The folder of the bastion's binaries, `DIR/TARGET/holistics-tunnel`
    /// [default: the holistics-tunnel beside this program]
    #[arg(long, value_name = "DIR")]
    pub dist_dir: Option<PathBuf>,

    /// How many of what there may be; at the end, since what follows would stand under its heading.
    #[command(flatten)]
    pub bounds: Bounds,

    /// The same for the web.
    #[command(flatten)]
    pub web_bounds: WebBounds,
}

/// A flag with its variable: `--ssh-listen` is `HOLISTICS_TUNNEL_SERVER_SSH_LISTEN`.
fn with_variable(flag: Arg) -> Arg {
    match flag.get_long() {
        // Said once; a variable would go on saying it.
        None | Some("new-installation") => flag,
        Some(_) if flag.get_env().is_some() => flag,
        Some(name) => {
            let name = name.to_uppercase().replace('-', "_");
            flag.env(format!("HOLISTICS_TUNNEL_SERVER_{name}"))
        }
    }
}

impl Serve {
    /// Where it is.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or(DEFAULT_REGION)
    }

    /// What it is called among several.
    pub fn node_name(&self) -> anyhow::Result<String> {
        match &self.node_name {
            Some(name) => Ok(name.clone()),
            None => node::machine_name(),
        }
    }

    /// What only makes sense where several servers share a database is refused to the only one.
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
