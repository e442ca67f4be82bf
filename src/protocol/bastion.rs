//! What bastions send and get.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    DataSourceId, DataSourceState, DatabaseAddress, DatabaseType, TunnelId, TunnelPlace,
    TunnelStatus,
};

/// `GET /enrollment`: what to tunnel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Enrollment {
    /// The data source this token was made for.
    #[cfg_attr(feature = "server", schema(value_type = i64, minimum = 1, examples(7)))]
    pub data_source_id: DataSourceId,
    /// The tunnel that will carry it; already fixed, so that a receipt can name it before enrollment.
    #[cfg_attr(feature = "server", schema(value_type = i64, minimum = 1, examples(7)))]
    pub tunnel_id: TunnelId,
    /// What the operator calls it.
    #[cfg_attr(feature = "server", schema(examples("Sales, Europe")))]
    pub display_name: String,
    /// The database behind it.
    pub database_type: DatabaseType,
    /// The database's host as the bastion sees it.
    #[cfg_attr(feature = "server", schema(examples("db.internal")))]
    pub host: String,
    /// The database's port as the bastion sees it.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5432))
    )]
    pub port: u16,
    /// Where the data source stands.
    pub state: DataSourceState,
    /// When the token stops working, RFC 3339, UTC. Absent for a tunnel token.
    #[serde(default)]
    pub expires_at: Option<jiff::Timestamp>,
    /// The tunnel server, for a check whether it can be reached before a key is registered.
    #[serde(default)]
    pub server: Option<TunnelServerAddress>,
}

/// `PUT /enrollment/public-key`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyRegistration {
    /// One line in OpenSSH's format, `ssh-rsa AAAA… comment`.
    #[cfg_attr(
        feature = "server",
        schema(examples(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
        ))
    )]
    pub public_key: String,
    /// The bastion's name, for people.
    #[cfg_attr(
        feature = "server",
        schema(max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")
    )]
    #[cfg_attr(feature = "server", schema(examples("bastion-1")))]
    pub hostname: String,
    /// The bastion's operating system, for people.
    #[cfg_attr(
        feature = "server",
        schema(max_length = 200, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")
    )]
    #[cfg_attr(feature = "server", schema(examples("Debian GNU/Linux 12")))]
    pub os: String,
    /// The user who runs the tunnel there.
    #[cfg_attr(
        feature = "server",
        schema(max_length = 64, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")
    )]
    #[cfg_attr(feature = "server", schema(examples("ann")))]
    pub user: String,
    /// Whether a person sets the tunnel up, where this project's program does not run: nobody will report a
    /// service then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
}

/// The answer to `PUT /enrollment/public-key`. The same key again gets the same answer.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Enrolled {
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
    /// The token for this tunnel's later calls. A secret: it may change and remove this tunnel.
    #[cfg_attr(feature = "server", schema(examples("htt_…")))]
    pub tunnel_token: String,
}

impl fmt::Debug for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolled")
            .field("tunnel_id", &self.tunnel_id)
            .field("remote_port", &self.remote_port)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Where the tunnel server is, and its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelServerAddress {
    /// The name or address to connect to.
    #[cfg_attr(feature = "server", schema(examples("vendor.example")))]
    pub host: String,
    /// Another one, if there is one, which may lead to other servers with the same host keys and the same ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(examples("vendor-2.example")))]
    pub other_host: Option<String>,
    /// The SSH port.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(50022))
    )]
    pub port: u16,
    /// The SSH user.
    #[cfg_attr(feature = "server", schema(examples("tunnel")))]
    pub user: String,
    /// The public host keys, `ssh-ed25519 AAAA…`, to pin before the first connection: all of them, since the
    /// server may change from the first ones to the others at any time.
    pub host_keys: Vec<String>,
}

/// The answer to `POST /enrollment/tunnel-up`, given only if the tunnel's own session listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelUp {
    /// Always `up`; a tunnel that is not up is the problem `/problems/tunnel-down`.
    pub status: TunnelStatus,
    /// The data source's state after it.
    pub state: DataSourceState,
}

/// The answer to `GET /enrollment/data-source?wait=SECONDS`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SaveProgress {
    /// Whether the operator has saved it.
    pub status: SaveStatus,
}

/// What the operator has done in the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SaveStatus {
    /// Nothing yet.
    Waiting,
    /// "Save" was pressed.
    Saved,
    /// The data source is being removed, or is gone.
    Cancelled,
}

/// `GET /tunnels/{id}`: a tunnel as its bastion sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Tunnel {
    /// Its number.
    #[cfg_attr(feature = "server", schema(value_type = i64, minimum = 1, examples(7)))]
    pub id: TunnelId,
    /// What the operator calls the data source.
    #[cfg_attr(feature = "server", schema(examples("Sales, Europe")))]
    pub display_name: String,
    /// The database behind it; absent from servers that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_type: Option<DatabaseType>,
    /// The database's current host.
    #[cfg_attr(feature = "server", schema(examples("db.internal")))]
    pub host: String,
    /// The database's current port.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5432))
    )]
    pub port: u16,
    /// The port on the tunnel server.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(20001))
    )]
    pub remote_port: u16,
    /// Up or down, from the tunnel server's own sessions.
    pub status: TunnelStatus,
    /// Where the data source stands.
    pub state: DataSourceState,
    /// The session that holds its port now; absent while it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<TunnelSession>,
    /// The tunnel server's public host keys, `ssh-ed25519 AAAA…`, to pin in place of those that were. Say in
    /// `host_keys` of a change which ones are pinned then. Absent from servers that are older than this field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<String>,
    /// Where its bastion is to lead it: another place than the present one, where it is to move. Absent from servers
    /// that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<TunnelPlace>,
}

/// The session that holds a tunnel's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelSession {
    /// When it logged in, RFC 3339, UTC: another session has another time.
    pub since: jiff::Timestamp,
    /// The key it has proved, `ssh-rsa AAAA…` without a comment.
    #[cfg_attr(feature = "server", schema(examples("ssh-ed25519 AAAA…")))]
    pub public_key: String,
}

/// `PATCH /tunnels/{id}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TunnelChange {
    /// Whether the `h_autossh` service now runs this tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_installed: Option<bool>,
    /// A new target, given on the bastion; the data source gets it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<DatabaseAddress>,
    /// Where the running tunnel leads now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<DatabaseAddress>,
    /// All of the tunnel server's public host keys that the bastion has pinned for this tunnel by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(
            min_items = 1,
            max_items = 16,
            examples(json!([
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
            ]))
        )
    )]
    pub host_keys: Option<Vec<String>>,
    /// The region in which the bastion has the tunnel now. Where that is another one than before, the port of before is
    /// given up; it is refused while the tunnel is not up in the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(pattern = "^[A-Za-z0-9._-]{1,100}$", examples("default"))
    )]
    pub region: Option<String>,
}

/// `PUT /tunnels/{id}/public-key`, which announces a new key, and
/// `POST /tunnels/{id}/public-key/confirm`, which ends the time of the old one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewPublicKey {
    /// One line in OpenSSH's format, `ssh-rsa AAAA… comment`.
    #[cfg_attr(
        feature = "server",
        schema(examples(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
        ))
    )]
    pub public_key: String,
}

/// The answer to both: which keys open the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelKey {
    /// The key that was sent, in its normal form.
    #[cfg_attr(feature = "server", schema(examples("ssh-ed25519 AAAA…")))]
    pub public_key: String,
    /// Whether the key before it still opens the tunnel.
    pub former_accepted: bool,
}
