//! What every request and every task of the server works with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::domain::address::PublicAddress;
use super::domain::changes::Changes;
use super::domain::proxies::TrustedProxies;
use super::domain::secret::SecretKey;
use super::http::connections::Connections;
use super::http::downloads::Downloads;
use super::http::web::shared::Shared;
use super::metrics::counts::Metrics;
use super::store::{PortRange, Record, Store};
use super::tunnel_server::TunnelServer;
use crate::protocol::{DataSourceState, TunnelId, TunnelStatus};

/// What they share.
pub struct App {
    /// What is kept.
    pub store: Store,
    /// The live sessions.
    pub tunnels: TunnelServer,
    /// Who waits for what.
    pub changes: Changes,
    /// What tunnel tokens are derived from, and what saved passwords are encrypted with.
    pub secret: SecretKey,
    /// What bastions are told to connect to.
    pub public: PublicAddress,
    /// The bastion's binaries.
    pub downloads: Downloads,
    /// How long a generated command works.
    pub enrollment_ttl: Duration,
    /// How long an old key opens a tunnel after the new one was first seen.
    pub key_overlap: Duration,
    /// The ports given to tunnels.
    pub ports: PortRange,
    /// The address on which the tunnels' ports listen.
    pub forward_listen: IpAddr,
    /// Whether a direct connection may lead to this machine itself.
    pub direct_loopback_allowed: bool,
    /// Who may say for whom he speaks.
    pub trusted_proxies: TrustedProxies,
    /// The web's connections.
    pub connections: Arc<Connections>,
    /// What the pages and live streams share.
    pub web: Shared,
    /// What is counted of requests and tests.
    pub metrics: Metrics,
}

impl App {
    /// Whether its tunnel is up now.
    pub fn is_up(&self, record: &Record) -> bool {
        record
            .tunnel_id()
            .is_some_and(|tunnel| self.tunnels.is_up(tunnel))
    }

    /// The same in the words of the API.
    pub fn status(&self, tunnel: TunnelId) -> TunnelStatus {
        match self.tunnels.is_up(tunnel) {
            true => TunnelStatus::Up,
            false => TunnelStatus::Down,
        }
    }

    /// Where a data source stands.
    pub fn state(&self, record: &Record) -> DataSourceState {
        record.state(self.is_up(record))
    }

    /// Writes into the audit log what is done by now: it is done, whether or not it can be written down.
    pub async fn note_done(&self, actor: &str, action: &str, subject: &str) {
        if let Err(error) = self.store.audit(actor, action, subject).await {
            tracing::error!(?error, actor, action, subject, "not in the audit log");
        }
    }

    /// Closes a tunnel whose port is held by a session of another key than this one.
    pub async fn close_other_keys(&self, tunnel: TunnelId, key: &str) {
        let holder = self.tunnels.holder(tunnel);
        if holder.is_some_and(|holder| holder.public_key != key) {
            self.tunnels.close_tunnel(tunnel).await;
        }
    }
}
