//! What operators send and get.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use super::{
    DataSourceId, DataSourceState, DatabaseType, EnrolledBy, NextRegion, TunnelId, TunnelStatus,
};

/// `POST /data-sources`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDataSource {
    /// What the operator calls it.
    #[cfg_attr(feature = "server", schema(value_type = super::schema::DisplayName))]
    pub display_name: String,
    /// The database behind it.
    pub database_type: DatabaseType,
    /// How the database is reached; by a reverse tunnel where absent.
    #[serde(default)]
    pub connection: ConnectionKind,
    /// The database's host as the bastion sees it; as this server sees it for a direct connection.
    #[cfg_attr(feature = "server", schema(value_type = super::schema::Host))]
    pub host: String,
    /// The database's port as the bastion or this server sees it.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5432))
    )]
    pub port: u16,
    /// In which of the vendor's regions the tunnel ends; where absent, in the only one, or else in `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(pattern = "^[A-Za-z0-9._-]{1,100}$", examples("default"))
    )]
    pub region: Option<String>,
}

/// How the server reaches a database. It is chosen when the data source is created, for good.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr,
)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ConnectionKind {
    /// Through a tunnel that a bastion opens.
    #[default]
    ReverseTunnel,
    /// From the server itself: it has no tunnel, no port and no command, and goes from `draft` to
    /// `saved`.
    Direct,
}

/// A data source as an operator sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DataSource {
    /// Its number.
    #[cfg_attr(feature = "server", schema(value_type = i64, minimum = 1, examples(7)))]
    pub id: DataSourceId,
    /// What the operator calls it.
    #[cfg_attr(feature = "server", schema(examples("Sales, Europe")))]
    pub display_name: String,
    /// The database behind it.
    pub database_type: DatabaseType,
    /// How the database is reached.
    #[serde(default)]
    pub connection: ConnectionKind,
    /// The database's host as the bastion sees it; as this server sees it for a direct connection.
    #[cfg_attr(feature = "server", schema(examples("db.internal")))]
    pub host: String,
    /// The database's port as the bastion or this server sees it.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5432))
    )]
    pub port: u16,
    /// Where it stands.
    pub state: DataSourceState,
    /// Its tunnel; absent for a direct connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelSummary>,
    /// The saved login; absent if none is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginSummary>,
    /// What has to be run on the bastion for its tunnel to lead to the present host and port, and to be in the
    /// present region; absent while nothing has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(examples("holistics-tunnel update-tunnel 7"))
    )]
    pub update_command: Option<String>,
    /// The command for the bastion. Present in the answer that created it and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment: Option<EnrollmentCommand>,
    /// When it was created, RFC 3339, UTC.
    pub created_at: jiff::Timestamp,
}

impl DataSource {
    /// Where the database is.
    pub fn address(&self) -> DatabaseAddress {
        DatabaseAddress {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

/// A saved login as an operator sees it. The password is in no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LoginSummary {
    /// The database's name.
    pub database: String,
    /// The user.
    pub username: String,
    /// How TLS to the database is treated.
    pub tls: TlsMode,
    /// Whether a password is saved with it.
    pub has_password: bool,
}

/// A tunnel as an operator sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TunnelSummary {
    /// Its number.
    #[cfg_attr(feature = "server", schema(value_type = i64, minimum = 1, examples(7)))]
    pub id: TunnelId,
    /// The region in which it ends.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(examples("default")))]
    pub region: String,
    /// The port on the tunnel servers of its region; absent until a bastion has enrolled.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(20001))
    )]
    pub remote_port: Option<u16>,
    /// `host:port` of the region's tunnel servers.
    #[cfg_attr(feature = "server", schema(examples("vendor.example:50022")))]
    pub server: String,
    /// Up or down, from the tunnel server's own sessions.
    pub status: TunnelStatus,
    /// When its session was last seen alive, RFC 3339, UTC; absent if never.
    pub last_seen: Option<jiff::Timestamp>,
    /// Where the bastion leads it, as it reported; absent until its service is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<DatabaseAddress>,
    /// Where it shall lead, if the bastion has yet to apply that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<DatabaseAddress>,
    /// Where it is to move; until its bastion has done that, it goes on as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<NextRegion>,
    /// Who enrolled, and with which key; absent until somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled_by: Option<EnrolledBy>,
    /// Whether a person has set it up, and no program of ours runs on its machine: it is active or down as its
    /// session is there or not, and what is to be changed or removed there is up to that person.
    #[serde(default)]
    pub set_up_by_hand: bool,
    /// Where several servers share the tunnels: those that have taken over the last change of its keys, its removal
    /// included, and closed what that forbids. Only in the answer that shows this one data source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "server", schema(examples(json!(["node-a"]))))]
    pub key_confirmed_by: Vec<String>,
    /// The servers that have yet to: there, a key that was replaced or removed may still open the tunnel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "server", schema(examples(json!(["node-b"]))))]
    pub key_pending_on: Vec<String>,
}

/// Where a database is, as the bastion sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DatabaseAddress {
    /// Its host; IPv6 without brackets.
    #[cfg_attr(feature = "server", schema(value_type = super::schema::Host))]
    pub host: String,
    /// Its port.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5432))
    )]
    pub port: u16,
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What the operator hands to the person on the bastion.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct EnrollmentCommand {
    /// One line for a shell.
    #[cfg_attr(
        feature = "server",
        schema(examples("curl -fsSL https://vendor.example/i/hte_… | sh"))
    )]
    pub command: String,
    /// The one-time token inside it.
    #[cfg_attr(feature = "server", schema(examples("hte_…")))]
    pub token: String,
    /// When the token stops working, RFC 3339, UTC.
    pub expires_at: jiff::Timestamp,
}

/// `PATCH /data-sources/{id}`: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DataSourceChange {
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<super::schema::DisplayName>))]
    pub display_name: Option<String>,
    /// The database's new host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<super::schema::Host>))]
    pub host: Option<String>,
    /// The database's new port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5433))
    )]
    pub port: Option<u16>,
    /// The region in which its tunnel is to be. The tunnel goes on in the one of before until its bastion has moved
    /// it, with `update_command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(pattern = "^[A-Za-z0-9._-]{1,100}$", examples("default"))
    )]
    pub region: Option<String>,
}

/// The answer to `DELETE /data-sources/{id}` without `?force=true`. What has nothing on a bastion, a direct
/// connection or a draft, is removed at once, and the answer is 204 without a body.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RemovalCommand {
    /// One line for the bastion's shell.
    #[cfg_attr(
        feature = "server",
        schema(examples("curl -fsSL https://vendor.example/r/htr_… | sh"))
    )]
    pub command: String,
    /// The one-time token inside it.
    #[cfg_attr(feature = "server", schema(examples("htr_…")))]
    pub token: String,
}

/// A login: the body of `POST /data-sources/{id}/test`, and of `POST /data-sources/{id}/save`, which
/// keeps it.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConnectionTest {
    /// The database's name.
    #[cfg_attr(
        feature = "server",
        schema(max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")
    )]
    #[cfg_attr(feature = "server", schema(examples("sales")))]
    pub database: String,
    /// The user to log in as.
    #[cfg_attr(
        feature = "server",
        schema(max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")
    )]
    #[cfg_attr(feature = "server", schema(examples("reader")))]
    pub username: String,
    /// The password; kept out of logs, errors and answers. Absent or empty, the saved one is used, as
    /// long as user, host and port are those that it was saved for and TLS is no weaker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(
        feature = "server",
        schema(
            write_only,
            pattern = "^[^\\x00]*$",
            examples("correct horse battery staple")
        )
    )]
    pub password: String,
    /// Whether the connection must be encrypted end to end; by default as the saved login has it, or
    /// else if the database offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
}

impl fmt::Debug for ConnectionTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTest")
            .field("database", &self.database)
            .field("username", &self.username)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// How "Test connection" treats TLS between the vendor and the database, inside the tunnel.
///
/// The database's certificate is shown and not verified in any mode. The order is that of strength: a
/// password that was saved for one mode is not used with a weaker one.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    EnumString,
    IntoStaticStr,
)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the database offers it.
    Prefer,
    /// Always; an unencrypted database is a failure. Encrypted and not verified, as PostgreSQL's
    /// `sslmode=require` is: it keeps listeners out, and not somebody who stands between.
    Require,
}

/// The staged result of a connection test.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ConnectionTestResult {
    /// Whether every stage passed.
    pub ok: bool,
    /// The stages in the order in which they ran; the first failure is the last entry.
    pub stages: Vec<TestStage>,
    /// What the database says it is, if the query was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(examples("PostgreSQL 15.14")))]
    pub server_version: Option<String>,
    /// How long `SELECT 1` took there and back, in milliseconds; absent if it was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_milliseconds: Option<f64>,
}

/// One stage of a connection test.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TestStage {
    /// `tunnel` (without a tunnel, `dns`), `tcp`, `tls`, `login`, `query`.
    #[cfg_attr(feature = "server", schema(examples("login")))]
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// How long it took, in milliseconds.
    #[cfg_attr(feature = "server", schema(examples(12)))]
    pub milliseconds: u64,
    /// What was found, or what failed.
    #[cfg_attr(feature = "server", schema(examples("logged in as reader")))]
    pub detail: String,
    /// What to do about a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
