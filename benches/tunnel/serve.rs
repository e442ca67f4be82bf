//! The tunnel server in a process of its own, so that its memory can be told apart.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::cluster::holders::{Held, Holders, Peer};
use holistics_tunnel::server::cluster::peer_link::identity::Identity;
use holistics_tunnel::server::domain::proxies::TrustedProxies;
use holistics_tunnel::server::tunnel_server::{
    Grant, KeyAuthority, Limits, Peering, TunnelServer, TunnelServerConfig,
};

/// The first argument of the process that serves.
pub const ARGUMENT: &str = "serve-for-bench";

/// One key, which may listen on `count` ports from `first_port` on.
struct OneKey {
    public_key: String,
    first_port: u16,
    count: u16,
}

#[async_trait]
impl KeyAuthority for OneKey {
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>> {
        if public_key != self.public_key {
            return Ok(Vec::new());
        }
        let grant = |i| Grant {
            replaces: false,
            tunnel_id: TunnelId(i64::from(i)),
            port: self.first_port + i,
        };
        Ok((0..self.count).map(grant).collect())
    }
}

/// Serves until killed. Arguments: address and port for SSH, first forwarded port,
/// how many, folder, public key. For one of two nodes, then: the address of the forwarded ports, the port for
/// the other node and the folder of what it shows to it, and both of the other.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [
        ssh_address,
        ssh_port,
        first_port,
        count,
        dir,
        public_key,
        node @ ..,
    ] = arguments
    else {
        anyhow::bail!("at least six arguments are needed");
    };
    let forward_listen = match node.first() {
        Some(address) => address.parse()?,
        None => Ipv4Addr::LOCALHOST,
    };
    let config = TunnelServerConfig {
        ssh_listen: (ssh_address.parse::<Ipv4Addr>()?, ssh_port.parse()?).into(),
        forward_listen: forward_listen.into(),
        host_key_dir: PathBuf::from(dir),
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
    };
    let key = OneKey {
        public_key: public_key.clone(),
        first_port: first_port.parse()?,
        count: count.parse()?,
    };
    let held = (0..key.count).map(|i| (TunnelId(i64::from(i)), key.first_port + i));
    let held: Vec<_> = held.collect();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let server = TunnelServer::start(config, Arc::new(key))
            .await
            .context("cannot start the tunnel server")?;
        if let [_, own_port, own_dir, port, dir] = node {
            let peering = peering(own_port, own_dir, port, dir, forward_listen, held).await?;
            tokio::spawn(server.peer(peering)?.0);
        }
        std::future::pending().await
    })
}

/// The first node is the one that holds the tunnels.
async fn peering(
    own_port: &str,
    own_dir: &str,
    port: &str,
    dir: &str,
    forward_listen: Ipv4Addr,
    held: Vec<(TunnelId, u16)>,
) -> anyhow::Result<Peering> {
    let other = Arc::new(Peer {
        node: "the other".to_owned(),
        region: String::new(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?)).to_string(),
        certificate: Identity::load_or_create(dir.as_ref())?.hash(),
        draining: false,
    });
    let holders = Holders::default();
    holders.replace_peers([other.certificate]);
    if forward_listen != Ipv4Addr::LOCALHOST {
        let held = held.into_iter().map(|(tunnel, port)| Held {
            tunnel,
            port,
            is_here: true,
            peers: vec![Arc::clone(&other)],
        });
        holders.replace(held.collect());
    }
    let address = (Ipv4Addr::LOCALHOST, own_port.parse()?);
    Ok(Peering {
        listener: tokio::net::TcpListener::bind(address).await?,
        identity: Identity::load_or_create(own_dir.as_ref())?,
        region: String::new(),
        holders,
    })
}
