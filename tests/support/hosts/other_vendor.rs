//! A second vendor: another control plane, whose tunnels have numbers that the first one's have, too.

use super::certificate;
use super::host_lab::HostLab;
use super::network::{OTHER_VENDOR, OTHER_VENDOR_NAME};
use crate::support::server::{Operator, PublicPlace, Server};
use crate::support::workspace::Workspace;

/// Where the host has the certificate of the authority behind this vendor's https.
pub const OTHER_AUTHORITY: &str = "/etc/other-authority.pem";

/// A second vendor.
pub struct OtherVendor {
    /// Its operator.
    pub operator: Operator,
    /// Its server.
    pub server: Server,
    _workspace: Workspace,
}

impl OtherVendor {
    /// Started on the machine of the first one, and known to the host.
    pub fn start(lab: &HostLab) -> Self {
        let workspace = Workspace::new();
        let address = format!("address add {OTHER_VENDOR}/32 dev internet");
        lab.network.vendor.ip(&address);
        let https = certificate::for_name(OTHER_VENDOR_NAME, &workspace.folder("https"));
        let authority = std::fs::read(&https.authority).expect("the authority's certificate");
        let place = PublicPlace {
            name: OTHER_VENDOR_NAME,
            address: OTHER_VENDOR,
            certificate: https.certificate,
            key: https.key,
            authority: https.authority,
        };
        let server = Server::start_in_public(&place, &[]);
        let hosts = lab.host.read("/etc/hosts");
        let hosts = format!("{hosts}{OTHER_VENDOR} {OTHER_VENDOR_NAME}\n");
        lab.host.write("/etc/hosts", hosts);
        lab.host.write(OTHER_AUTHORITY, authority);
        OtherVendor {
            operator: server.operator(),
            server,
            _workspace: workspace,
        }
    }
}
