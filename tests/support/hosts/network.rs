//! The three machines' networks and the lines between them.

use std::net::Ipv4Addr;

use super::namespace::Namespace;
use crate::support::workspace::Workspace;

/// The vendor's name on the internet.
pub const VENDOR_NAME: &str = "vendor.example";
/// Its address.
pub const VENDOR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Another vendor's name, on the same machine.
pub const OTHER_VENDOR_NAME: &str = "other.example";
/// Its address.
pub const OTHER_VENDOR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 30);
/// The package mirror's name.
pub const MIRROR_NAME: &str = "mirror.example";
/// Its address: a service of the internet that is not the vendor's, on the same machine.
pub const MIRROR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
/// The database in the customer's closed network.
pub const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 5);

/// The vendor's machine and the database's, both reached by the bastion, neither by the other.
pub struct Network {
    /// The vendor's side of the internet.
    pub vendor: Namespace,
    /// The bastion.
    pub bastion: Namespace,
    /// The database's machine.
    pub database: Namespace,
}

impl Network {
    /// Makes the machines and lays the lines.
    pub fn new(workspace: &Workspace) -> Self {
        let network = Network {
            vendor: Namespace::new(workspace, "vendor"),
            bastion: Namespace::new(workspace, "bastion"),
            database: Namespace::new(workspace, "database"),
        };
        connect(&network.bastion, "internet", &network.vendor, "internet");
        connect(&network.bastion, "lan", &network.database, "lan");
        network
            .vendor
            .ip(&format!("address add {VENDOR}/24 dev internet"));
        network.mend_mirror();
        network
            .bastion
            .ip("address add 203.0.113.99/24 dev internet");
        network
            .database
            .ip(&format!("address add {DATABASE}/24 dev lan"));
        network.bastion.ip("address add 10.20.0.2/24 dev lan");
        network
    }

    /// Cuts the line to the internet: packets are lost without an answer.
    pub fn cut_internet(&self) {
        self.vendor.ip("link set internet down");
    }

    /// Mends it.
    pub fn mend_internet(&self) {
        self.vendor.ip("link set internet up");
    }

    /// Takes the package mirror off the internet; the vendor stays.
    pub fn cut_mirror(&self) {
        self.vendor
            .ip(&format!("address delete {MIRROR}/32 dev internet"));
    }

    /// Brings the package mirror back.
    pub fn mend_mirror(&self) {
        self.vendor
            .ip(&format!("address add {MIRROR}/32 dev internet"));
    }

    /// A machine beside the bastion, with lines of its own to the same places.
    pub fn second_bastion(&self, workspace: &Workspace) -> Namespace {
        let second = Namespace::new(workspace, "second-bastion");
        connect(&second, "internet", &self.vendor, "internet-2");
        connect(&second, "lan", &self.database, "lan-2");
        self.vendor.ip("route add 203.0.113.98 dev internet-2");
        self.database.ip("route add 10.20.0.3 dev lan-2");
        second.ip("address add 203.0.113.98/24 dev internet");
        second.ip("address add 10.20.0.3/24 dev lan");
        second
    }
}

/// A line from a bastion to another machine, with its name at each end.
fn connect(bastion: &Namespace, line: &str, other: &Namespace, end: &str) {
    let peer = other.pid();
    bastion.ip(&format!(
        "link add {line} type veth peer name {end} netns {peer}"
    ));
    bastion.ip(&format!("link set {line} up"));
    other.ip(&format!("link set {end} up"));
}
