//! Where tunnels end: in one of the vendor's regions, at a port there.

use serde::{Deserialize, Serialize};

use super::TunnelServerAddress;

/// Where a tunnel ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelPlace {
    /// The region. Say it in `region` of a change once the tunnel is there.
    #[cfg_attr(feature = "server", schema(examples("default")))]
    pub region: String,
    /// The tunnel's port there.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(20001))
    )]
    pub remote_port: u16,
    /// Where to connect, and how to know it.
    pub server: TunnelServerAddress,
}

/// The region to which a tunnel is to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NextRegion {
    /// Its name.
    #[cfg_attr(feature = "server", schema(examples("eu")))]
    pub region: String,
    /// The tunnel's port there, which is its own already.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(20001))
    )]
    pub remote_port: u16,
    /// `host:port` of that region's tunnel servers.
    #[cfg_attr(feature = "server", schema(examples("eu.vendor.example:50022")))]
    pub server: String,
}
