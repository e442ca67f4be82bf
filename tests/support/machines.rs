//! The network: machines around one router, each with an address and a line of its own, which can be cut.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use super::hosts::namespace::{Inside, Namespace};
use super::workspace::Workspace;

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

    /// Has the router treat packets by these rules of nftables, instead of those that it had.
    pub fn set_rules(&self, rules: &str) {
        let file = self.router.logs().join("rules.nft");
        std::fs::write(&file, format!("flush ruleset\n{rules}")).expect("a file");
        self.router.run(&["nft", "-f", path_text(&file)]);
    }

    /// The router forgets every connection that it carries.
    pub fn forget_connections(&self) {
        self.router.run(&["conntrack", "--flush"]);
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
        let machine = Machine {
            name: name.to_owned(),
            address,
            namespace,
            end,
            router: Arc::clone(&self.router),
        };
        machine.route_from(address);
        machine
    }
}

/// Whither packets go, as a machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It sends them.
    Out,
    /// It is sent them.
    In,
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

    /// `ip` with these arguments on this machine.
    pub fn ip(&self, arguments: &str) {
        self.namespace.ip(arguments);
    }

    /// Cuts its line: whatever it sends or is sent is lost, and nobody is told.
    pub fn cut(&self) {
        self.swallow(Way::Out);
        self.swallow(Way::In);
    }

    /// Mends the line.
    pub fn mend(&self) {
        self.carry(Way::Out);
        self.carry(Way::In);
    }

    /// The same, if it was cut.
    pub fn mend_if(&self, is_cut: bool) {
        if is_cut {
            self.mend();
        }
    }

    /// Whatever goes this way is lost, and nobody is told.
    pub fn swallow(&self, way: Way) {
        self.rule("add", way);
    }

    /// It arrives again.
    pub fn carry(&self, way: Way) {
        self.rule("delete", way);
    }

    /// Switches its network card off: its programs are told that there is no way.
    pub fn unplug(&self) {
        self.ip("link set net down");
    }

    /// Switches it on again, with its routes.
    pub fn plug_in(&self) {
        self.ip("link set net up");
        self.ip(&format!("route replace {ROUTER}/32 dev net"));
        self.route_from(self.address);
    }

    /// Gives it one more address.
    pub fn add_address(&self, address: Ipv4Addr) {
        self.ip(&format!("address add {address}/32 dev net"));
        self.router
            .ip(&format!("route replace {address}/32 dev {}", self.end));
    }

    /// Takes an address away from it. What is sent there then is lost.
    pub fn remove_address(&self, address: Ipv4Addr) {
        self.ip(&format!("address delete {address}/32 dev net"));
    }

    /// It begins connections from this one of its addresses.
    pub fn route_from(&self, address: Ipv4Addr) {
        self.ip(&format!("route replace default via {ROUTER} src {address}"));
    }

    /// Gives it all addresses of a network besides: it stands for many machines then.
    pub fn be_all_of(&self, network: &str) {
        // Through its own address: the kernel keeps no more than a thousand neighbours.
        self.router.ip(&format!(
            "route add {network} via {} dev {} onlink",
            self.address, self.end
        ));
        self.namespace
            .ip(&format!("route add local {network} dev lo"));
    }

    fn rule(&self, verb: &str, way: Way) {
        let side = match way {
            Way::Out => "from",
            Way::In => "to",
        };
        self.router
            .ip(&format!("rule {verb} {side} {} blackhole", self.address));
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
