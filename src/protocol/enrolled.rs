//! Who enrolled for a tunnel, and what an operator does to enroll somebody by hand.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{TunnelId, TunnelServerAddress};

/// Who enrolled for a tunnel. What a bastion says of itself is its own word; key and address are what the
/// server has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct EnrolledBy {
    /// When, RFC 3339, UTC.
    pub at: jiff::Timestamp,
    /// The fingerprint of the key that opens the tunnel now; absent once it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(examples("SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"))
    )]
    pub key_fingerprint: Option<String>,
    /// The operator who registered the key; absent where the machine did so itself, with its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(examples("admin")))]
    pub operator: Option<String>,
    /// The machine's name, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(examples("bastion-1")))]
    pub hostname: Option<String>,
    /// Its operating system, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(examples("Debian GNU/Linux 12")))]
    pub os: Option<String>,
    /// The user who runs the tunnel there, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(examples("ann")))]
    pub user: Option<String>,
    /// The address that it enrolled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(examples("203.0.113.7")))]
    pub address: Option<String>,
}

/// `PUT /data-sources/{id}/public-key`: the key of a machine on which a person sets the tunnel up.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyByHand {
    /// The line of the `.pub` file, `ssh-ed25519 AAAA… comment`.
    #[cfg_attr(
        feature = "server",
        schema(examples(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
        ))
    )]
    pub public_key: String,
    /// Whether it may be a key that opens other tunnels already: those of the same machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// It may be a private key that was sent by mistake.
impl fmt::Debug for KeyByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyByHand").finish_non_exhaustive()
    }
}

/// The answer to it: what the machine's ssh has to be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelByHand {
    /// The tunnel's number.
    #[cfg_attr(feature = "server", schema(value_type = i64, minimum = 1, examples(7)))]
    pub tunnel_id: TunnelId,
    /// The port on the tunnel server that is this tunnel's alone.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(20001))
    )]
    pub remote_port: u16,
    /// Where to connect, and how to know it.
    pub server: TunnelServerAddress,
    /// The host keys as lines of `known_hosts`.
    #[cfg_attr(
        feature = "server",
        schema(examples(json!(["[vendor.example]:50022 ssh-ed25519 AAAA…"])))
    )]
    pub known_hosts: Vec<String>,
    /// ssh in the foreground, for a POSIX shell, with the key in `~/.holistics/id_rsa`.
    #[cfg_attr(feature = "server", schema(examples("ssh -N …")))]
    pub ssh_command: String,
}
