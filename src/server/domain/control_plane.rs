//! What every use case works with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::PublicAddress;
use super::changes::Changes;
use super::error::{Error, Result};
use super::idempotency::UnderWay;
use super::record::found;
use super::regions::Regions;
use super::secret::SecretKey;
use crate::protocol::{DataSourceId, DataSourceState, TunnelId, TunnelStatus};
use crate::server::cluster::key_table::KeyTable;
use crate::server::cluster::tunnels::Tunnels;
use crate::server::store::{Actor, Confirmations, Engine, Record, Store};

/// The data sources, their tunnels, and who may do what with them.
pub struct ControlPlane {
    /// What is kept.
    pub store: Store,
    /// The live sessions, of all nodes.
    pub tunnels: Tunnels,
    /// The keys that logins are answered from, where several servers share the database; without, the database
    /// itself answers.
    pub keys: Option<Arc<KeyTable>>,
    /// Who waits for what.
    pub changes: Changes,
    /// What tunnel tokens are derived from, and what saved passwords are encrypted with.
    pub secret: SecretKey,
    /// What bastions are told to connect to.
    pub public: PublicAddress,
    /// How long a generated command works.
    pub enrollment_ttl: Duration,
    /// How long an old key opens a tunnel after the new one was first seen.
    pub key_overlap: Duration,
    /// Where tunnels end, and the ports given to them there.
    pub regions: Regions,
    /// How long a port rests that somebody else had.
    pub port_rest: Duration,
    /// The address on which the tunnels' ports listen.
    pub forward_listen: IpAddr,
    /// Whether a direct connection may lead to this machine itself.
    pub direct_loopback_allowed: bool,
    /// The requests under a caller's key that are being carried out.
    pub under_way: UnderWay,
}

impl ControlPlane {
    /// One data source, also if it is removed.
    pub async fn data_source(&self, id: DataSourceId) -> Result<Record> {
        let record = found(self.store.data_source(id).await?)?;
        self.know_regions_of(std::slice::from_ref(&record)).await?;
        Ok(record)
    }

    /// The data source of a tunnel, also if it is removed.
    pub async fn tunnel(&self, id: TunnelId) -> Result<Record> {
        let record = found(self.store.tunnel(id).await?)?;
        self.know_regions_of(std::slice::from_ref(&record)).await?;
        Ok(record)
    }

    /// Which of the servers that share the tunnels have taken over the last change of this one's keys; none where
    /// there is but one.
    pub async fn key_confirmations(&self, tunnel: TunnelId) -> Result<Confirmations> {
        match self.store.engine() {
            Engine::Sqlite => Ok(Confirmations::default()),
            Engine::Postgres => Ok(self.store.key_confirmations(tunnel).await?),
        }
    }

    /// Whether its tunnel is up now.
    pub fn is_up(&self, record: &Record) -> bool {
        record
            .tunnel_id()
            .is_some_and(|tunnel| self.tunnels.is_up(tunnel))
    }

    /// The same in the words of the API.
    pub fn status(&self, tunnel: TunnelId) -> TunnelStatus {
        if self.tunnels.is_up(tunnel) {
            TunnelStatus::Up
        } else {
            TunnelStatus::Down
        }
    }

    /// Where a data source stands.
    pub fn state(&self, record: &Record) -> DataSourceState {
        record.state(self.is_up(record))
    }

    /// Writes into the audit log what is done by now: it is done, whether or not it can be written down.
    pub async fn note_done(&self, actor: &Actor, action: &str, subject: &str) {
        if let Err(error) = self.store.audit(actor, action, subject).await {
            tracing::error!(?error, %actor, action, subject, "not in the audit log");
        }
    }
}

/// The end of a span from now, in whole milliseconds as it is stored.
pub(super) fn expiry(now: jiff::Timestamp, ttl: Duration) -> Result<jiff::Timestamp> {
    now.checked_add(ttl)
        .and_then(|at| jiff::Timestamp::from_millisecond(at.as_millisecond()))
        .map_err(|error| Error::internal(&error))
}
