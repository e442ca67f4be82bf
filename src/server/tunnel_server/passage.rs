//! A way to the tunnels of other nodes, for this server's own use: a port of loopback that leads to one of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::counters::Counters;
use super::forward::{self, Target};
use super::fronts::{Front, Fronts};
use super::limits::Limits;
use crate::protocol::TunnelId;
use crate::server::cluster::holders::Holders;
use crate::server::cluster::peer_link::client::PeerLinks;
use crate::server::cluster::peer_link::identity::Identity;

/// The way, as long as the node is there. Copies are the same one.
#[derive(Clone)]
pub struct Passage {
    fronts: Arc<Fronts>,
}

/// A port of loopback, open until this is dropped; connections go on.
pub struct OpenPassage {
    pub address: SocketAddr,
    _stop: DropGuard,
}

impl Passage {
    pub(super) fn of(fronts: &Arc<Fronts>) -> Self {
        Passage {
            fronts: Arc::clone(fronts),
        }
    }

    /// That of a node that listens on no port for others.
    pub fn new(identity: Identity, region: String, holders: Holders) -> Self {
        let counters: Arc<Counters> = Arc::default();
        let links = PeerLinks::new(identity, holders.clone(), counters.suspects.clone());
        Passage {
            fronts: Arc::new(Fronts {
                holders,
                links,
                region,
                ports: Weak::new(),
                counters,
                log_lines: Arc::default(),
                looking_per_tunnel: Limits::default().forwarded_per_session,
                scheduler: Handle::current(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// What has to run as long as such a node does.
    pub fn keep(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let fronts = Arc::clone(&self.fronts);
        async move {
            let stop = &fronts.stop;
            let links = Arc::clone(&fronts.links);
            tokio::join!(
                links.keep(stop.clone()),
                fronts.log_lines.tell(stop.clone())
            );
        }
    }

    /// Whether a node that can be asked holds this tunnel.
    pub fn leads_to(&self, tunnel: TunnelId, port: u16) -> bool {
        !self.fronts.holders.of(tunnel, port).is_empty()
    }

    /// A port of this machine's loopback that leads to the tunnel.
    pub async fn open(&self, tunnel: TunnelId, port: u16) -> io::Result<OpenPassage> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let front = Arc::new(Front::new(&self.fronts, tunnel, port));
        let (target, target_seen) = watch::channel(Target::Front(front));
        let stop = self.fronts.stop.child_token();
        let listening = forward::listen(listener, port, target_seen, stop.clone());
        tokio::spawn(async move {
            listening.await;
            drop(target);
        });
        Ok(OpenPassage {
            address,
            _stop: stop.drop_guard(),
        })
    }
}
