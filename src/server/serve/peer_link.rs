//! The link to other nodes at the start: both ways with `--peer-listen`, and else one way, by which this node tests
//! connections through tunnels that others hold.

use std::net::SocketAddr;

use anyhow::ensure;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::listeners;
use crate::server::cli::Serve;
use crate::server::cluster::holders::{CertificateHash, Holders};
use crate::server::cluster::peer_link::identity::Identity;
use crate::server::data_dir::DataDir;
use crate::server::tunnel_server::{Passage, Peering, TunnelServer};

/// The link to other nodes.
pub(super) struct PeerLink {
    /// What they are told to connect to, if they can.
    pub(super) address: Option<String>,
    /// What they know this node by.
    pub(super) certificate: CertificateHash,
    pub(super) passage: Passage,
    /// It is there as long as this runs.
    pub(super) running: BoxFuture<'static, ()>,
}

impl PeerLink {
    /// Links this node to others, if it is to be one of several.
    pub(super) fn begin(
        settings: &Serve,
        data_dir: &DataDir,
        local: Option<&TunnelServer>,
        table: &Holders,
    ) -> anyhow::Result<Option<Self>> {
        let identity = || Identity::load_or_create(&data_dir.peer_link());
        if let (Some(address), Some(local)) = (settings.peer_listen, local) {
            return Self::both_ways(settings, address, identity()?, local, table).map(Some);
        }
        if settings.data.database_url()?.is_none() {
            return Ok(None);
        }
        let identity = identity()?;
        let certificate = identity.hash();
        let passage = Passage::new(identity, settings.region().to_owned(), table.clone());
        Ok(Some(PeerLink {
            address: None,
            certificate,
            running: passage.keep().boxed(),
            passage,
        }))
    }

    fn both_ways(
        settings: &Serve,
        address: SocketAddr,
        identity: Identity,
        local: &TunnelServer,
        table: &Holders,
    ) -> anyhow::Result<Self> {
        let listener = listeners::bind(address, "other nodes", "--peer-listen")?;
        listener.set_nonblocking(true)?;
        let listening = listener.local_addr()?;
        ensure!(
            settings.peer_address.is_some() || !listening.ip().is_unspecified(),
            "{listening} is no address that other nodes can connect to; say what they call this one with --peer-address"
        );
        let certificate = identity.hash();
        let (running, passage) = local.peer(Peering {
            listener: tokio::net::TcpListener::from_std(listener)?,
            identity,
            region: settings.region().to_owned(),
            holders: table.clone(),
        })?;
        let told = settings.peer_address.clone();
        Ok(PeerLink {
            address: Some(told.unwrap_or_else(|| listening.to_string())),
            certificate,
            passage,
            running: running.boxed(),
        })
    }
}
