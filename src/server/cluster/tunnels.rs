//! The tunnels of the whole installation: this node's own and those of the others.
//!
//! Where there is one server alone, it is its tunnel server and nothing else.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::node::Node;
use super::view::{Others, View};
use crate::protocol::TunnelId;
use crate::server::tunnel_server::{Holder, Passage, TunnelServer};

/// How long is waited for what another node is about to say.
const SOON: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// This server as one of several.
pub struct Member {
    pub node: Arc<Node>,
    /// What it sees.
    pub view: Arc<View>,
}

pub struct Tunnels {
    local: Option<TunnelServer>,
    member: OnceLock<Member>,
    /// The way to those of the others.
    passage: Option<Passage>,
}

impl Tunnels {
    /// Those of a node; of the only one, if it is no member.
    pub fn new(
        local: Option<TunnelServer>,
        passage: Option<Passage>,
        member: Option<Member>,
    ) -> Self {
        Tunnels {
            local,
            passage,
            member: member.map(OnceLock::from).unwrap_or_default(),
        }
    }

    /// This node's tunnel server, if it has one.
    pub fn local(&self) -> Option<&TunnelServer> {
        self.local.as_ref()
    }

    /// The way to tunnels that other nodes hold, if this server is one of several.
    pub fn passage(&self) -> Option<&Passage> {
        self.passage.as_ref()
    }

    /// This server as one of several, if it is.
    pub fn member(&self) -> Option<&Member> {
        self.member.get()
    }

    /// From now on, this server is one of several: it could not see the others before.
    pub fn join(&self, member: Member) {
        // It joins once.
        let _ = self.member.set(member);
    }

    /// Whether it is known what other nodes hold, if there are any. It is not before this one has joined them and looked.
    pub fn knows_the_others(&self) -> bool {
        self.passage.is_none() || self.view().is_some_and(View::has_looked)
    }

    /// Waits until it is.
    pub async fn others_known(&self) {
        while !self.knows_the_others() {
            sleep(LOOK_EVERY).await;
        }
    }

    fn view(&self) -> Option<&View> {
        self.member.get().map(|member| &*member.view)
    }

    /// The node's name; empty where there is one server alone.
    pub fn node_name(&self) -> &str {
        self.member.get().map_or("", |member| member.node.name())
    }

    /// Whether a session of any node listens on this tunnel's port now.
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        let here = self.local.as_ref().is_some_and(|local| local.is_up(tunnel));
        here || self.is_up_elsewhere(tunnel)
    }

    /// Whether a session of another node does.
    pub fn is_up_elsewhere(&self, tunnel: TunnelId) -> bool {
        self.view().is_some_and(|view| view.is_up(tunnel))
    }

    /// Whether a session of a node in this region listens on this tunnel's port there now. `own` is this node's region.
    pub fn is_up_in(&self, tunnel: TunnelId, region: &str, own: &str) -> bool {
        let here = self.local.as_ref().is_some_and(|local| local.is_up(tunnel));
        (here && region == own)
            || self.view().is_some_and(|view| {
                let holders = view.holders(tunnel);
                holders.iter().any(|session| session.region == region)
            })
    }

    /// Which tunnels are up now.
    pub fn up(&self) -> Vec<TunnelId> {
        let here = self
            .local
            .as_ref()
            .map(TunnelServer::up)
            .unwrap_or_default();
        match self.view() {
            None => here,
            Some(view) => {
                let all: HashSet<_> = here.into_iter().chain(view.tunnels()).collect();
                all.into_iter().collect()
            }
        }
    }

    /// The session that listens on this tunnel's port now. Of several, that of this node, or else the newest.
    pub fn holder(&self, tunnel: TunnelId) -> Option<Holder> {
        let here = self.local.as_ref().and_then(|local| local.holder(tunnel));
        here.or_else(|| {
            let elsewhere = self.view()?.holders(tunnel);
            let newest = elsewhere.iter().max_by_key(|session| session.since)?;
            Some(Holder {
                since: newest.since,
                public_key: newest.public_key.clone(),
                port: newest.port?,
            })
        })
    }

    /// Whether a session with this key listens on this tunnel's port now.
    pub fn is_held_with(&self, tunnel: TunnelId, public_key: &str) -> bool {
        let here = self.local.as_ref().and_then(|local| local.holder(tunnel));
        let is_here = here.is_some_and(|holder| holder.public_key == public_key);
        is_here
            || self.view().is_some_and(|view| {
                let holders = view.holders(tunnel);
                holders
                    .iter()
                    .any(|session| session.public_key == public_key)
            })
    }

    /// The names of the other nodes that hold this tunnel.
    pub fn nodes_with(&self, tunnel: TunnelId) -> BTreeSet<String> {
        let holders = self.view().map(|view| view.holders(tunnel));
        let holders = holders.unwrap_or_default();
        holders.iter().map(|session| session.node.clone()).collect()
    }

    /// Whether that is so, if need be in a moment: what happens at another node is seen here a little later.
    pub async fn soon(&self, is_so: impl Fn(&Self) -> bool) -> bool {
        if is_so(self) {
            return true;
        }
        let Some(view) = self.view() else {
            return false;
        };
        let comes = async {
            while !is_so(self) {
                view.look();
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(SOON, comes).await.is_ok()
    }

    /// What the other nodes did since this was asked last.
    pub fn others(&self) -> Others {
        match self.view() {
            Some(view) => view.others(),
            None => Others {
                held: HashSet::new(),
                is_known: true,
                tells_of_silence: true,
            },
        }
    }

    /// Ends this tunnel's listener and every connection through it at once, if this node holds it. Other nodes
    /// learn from the change of its keys that they have to.
    pub async fn close_tunnel(&self, tunnel: TunnelId) {
        if let Some(local) = &self.local {
            local.close_tunnel(tunnel).await;
        }
    }

    /// The public host keys of this node's tunnel server, `ssh-ed25519 AAAA…`: the current ones, and the next ones
    /// after them.
    pub fn host_keys(&self) -> Vec<String> {
        let local = self.local.as_ref().map(TunnelServer::host_keys);
        local.unwrap_or_default()
    }
}
