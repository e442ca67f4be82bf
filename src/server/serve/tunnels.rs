//! The tunnels at the start: this node's own, and how this server becomes one of several.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;

use super::database::Database;
use super::peer_link::PeerLink;
use crate::server::cli::Serve;
use crate::server::cluster::holders::Holders;
use crate::server::cluster::node::FreeName;
use crate::server::cluster::tunnels::{Member, Tunnels};
use crate::server::cluster::view::View;
use crate::server::data_dir::DataDir;
use crate::server::domain::proxies::TrustedProxies;
use crate::server::store::{NewNode, Role};
use crate::server::tunnel_server::{KeyAuthority, TunnelServer, TunnelServerConfig};

/// What has been started.
pub(super) struct Started {
    pub(super) tunnels: Tunnels,
    /// Where SSH is served, or would be.
    pub(super) ssh_address: SocketAddr,
    pub(super) link: Option<PeerLink>,
    /// Where several servers share a database.
    pub(super) joining: Option<Joining>,
}

/// Starts what this node's role asks for, and joins the other nodes if the database can be used.
pub(super) async fn start(
    settings: &Serve,
    data_dir: &DataDir,
    database: &mut Database,
) -> anyhow::Result<Started> {
    let local = match settings.role {
        Role::Web => None,
        Role::Tunnel | Role::All => {
            Some(start_tunnel_server(settings, data_dir, database.key_authority()).await?)
        }
    };
    let ssh_address = match &local {
        Some(local) => local.ssh_address(),
        None => settings.ssh_listen,
    };
    let table = Holders::default();
    let link = PeerLink::begin(settings, data_dir, local.as_ref(), &table)?;
    let joining = match (&database.url, &link) {
        (Some(_), Some(link)) => Some(Joining::new(settings, link, table)?),
        _ => None,
    };
    let member = match (&joining, database.free_name.take()) {
        (Some(joining), Some(free_name)) => match joining.join(free_name).await {
            Err(error) if database.is_later(&error) => {
                tracing::error!("{error:#}. Tunnels are served meanwhile, and it is tried again");
                None
            }
            joined => Some(joined?),
        },
        _ => None,
    };
    let passage = link.as_ref().map(|link| link.passage.clone());
    Ok(Started {
        tunnels: Tunnels::new(local, passage, member),
        ssh_address,
        link,
        joining,
    })
}

async fn start_tunnel_server(
    settings: &Serve,
    data_dir: &DataDir,
    keys: Arc<dyn KeyAuthority>,
) -> anyhow::Result<TunnelServer> {
    let config = TunnelServerConfig {
        ssh_listen: settings.ssh_listen,
        forward_listen: settings.forward_listen,
        host_key_dir: data_dir.host_keys(),
        trusted_proxies: TrustedProxies::new(settings.trusted_proxy.clone()),
        limits: settings.bounds.limits(),
    };
    TunnelServer::start(config, keys)
        .await
        .with_context(|| format!("cannot start the tunnel server on {}", settings.ssh_listen))
}

/// What this server joins the others with.
pub(super) struct Joining {
    /// What it tells them of itself.
    node: NewNode,
    /// What it keeps of them.
    table: Holders,
}

impl Joining {
    fn new(settings: &Serve, link: &PeerLink, table: Holders) -> anyhow::Result<Self> {
        let node = NewNode {
            name: settings.node_name()?,
            region: settings.region().to_owned(),
            role: settings.role,
            peer_address: link.address.clone(),
            certificate: link.certificate,
        };
        Ok(Joining { node, table })
    }

    /// What it does.
    pub(super) fn role(&self) -> Role {
        self.node.role
    }

    pub(super) fn region(&self) -> &str {
        &self.node.region
    }

    /// Its name among them.
    pub(super) fn name(&self) -> &str {
        &self.node.name
    }

    /// Makes this server one of several.
    ///
    /// # Errors
    /// Another server has taken the name meanwhile, or the database failed.
    pub(super) async fn join(&self, free_name: FreeName) -> anyhow::Result<Member> {
        let (name, region) = (self.node.name.clone(), self.node.region.clone());
        let view = Arc::new(View::new(name, region, self.table.clone()));
        let node = Arc::new(free_name.register(self.node.clone()).await?);
        Ok(Member { node, view })
    }
}
