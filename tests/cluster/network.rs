//! The network: machines around one router, each with an address and a line of its own.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::support::hosts::namespace::{Inside, Namespace};
use crate::support::workspace::Workspace;

/// The router's own address, which every machine sends through.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 1);

/// What lies between all machines.
pub struct Network {
    router: Arc<Namespace>,
}

impl Network {
    /// A router without machines.
    pub fn new(workspace: &Workspace) -> Self {
        let router = Arc::new(Namespace::new(workspace, "router"));
        let _inside = router.enter();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may let it forward");
        Network {
            router: Arc::clone(&router),
        }
    }

    /// A machine with this name and address.
    pub fn machine(&self, workspace: &Workspace, name: &str, address: Ipv4Addr) -> Machine {
        let namespace = Namespace::new(workspace, name);
        let [.., third, fourth] = address.octets();
        let end = format!("to-{third}-{fourth}");
        self.router.ip(&format!(
            "link add {end} type veth peer name net netns {}",
            namespace.pid()
        ));
        self.router.ip(&format!("link set {end} up"));
        self.router
            .ip(&format!("address add {ROUTER}/32 dev {end}"));
        self.router.ip(&format!("route add {address}/32 dev {end}"));
        namespace.ip("link set net up");
        namespace.ip(&format!("address add {address}/32 dev net"));
        namespace.ip(&format!("route add {ROUTER}/32 dev net"));
        namespace.ip(&format!("route add default via {ROUTER} src {address}"));
        Machine {
            name: name.to_owned(),
            address,
            namespace,
            end,
            router: Arc::clone(&self.router),
        }
    }
}

/// A machine of the network.
pub struct Machine {
    /// What it is called.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    namespace: Namespace,
    /// The router's end of its line.
    end: String,
    router: Arc<Namespace>,
}

impl Machine {
    /// Moves the calling thread to this machine until the answer is dropped.
    pub fn enter(&self) -> Inside {
        self.namespace.enter()
    }

    /// Cuts its line: whatever it sends or is sent is lost, and nobody is told.
    pub fn cut(&self) {
        self.rule("add");
    }

    /// Mends the line.
    pub fn mend(&self) {
        self.rule("delete");
    }

    /// Gives it all addresses of a network besides: it stands for many machines then.
    pub fn be_all_of(&self, network: &str) {
        self.router
            .ip(&format!("route add {network} dev {}", self.end));
        self.namespace
            .ip(&format!("route add local {network} dev lo"));
    }

    fn rule(&self, verb: &str) {
        for side in ["from", "to"] {
            self.router
                .ip(&format!("rule {verb} {side} {} blackhole", self.address));
        }
    }
}
