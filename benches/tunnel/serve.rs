//! The tunnel server in a process of its own, so that its memory can be told apart.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::domain::proxies::TrustedProxies;
use holistics_tunnel::server::tunnel_server::{
    Grant, KeyAuthority, Limits, TunnelServer, TunnelServerConfig,
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
/// how many, folder, public key.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [ssh_address, ssh_port, first_port, count, dir, public_key] = arguments else {
        anyhow::bail!("six arguments are needed");
    };
    let config = TunnelServerConfig {
        ssh_listen: (ssh_address.parse::<Ipv4Addr>()?, ssh_port.parse()?).into(),
        forward_listen: Ipv4Addr::LOCALHOST.into(),
        host_key_dir: PathBuf::from(dir),
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
    };
    let key = OneKey {
        public_key: public_key.clone(),
        first_port: first_port.parse()?,
        count: count.parse()?,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let _server = TunnelServer::start(config, Arc::new(key))
            .await
            .context("cannot start the tunnel server")?;
        std::future::pending().await
    })
}
