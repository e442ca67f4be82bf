//! The wire types both programs share: the HTTP API under `/api/v1`.
//!
//! A type stands here only if it crosses the wire between `holistics-tunnel` and
//! `holistics-tunnel-server`. What either side stores lives with that side
//! (`bastion::receipt`, `server::store`), so that a stored format can change without the
//! protocol and the other way round.
//!
//! Requests refuse unknown fields, so that a misspelt field is an error and not a silent default.
//! Answers accept them, so that an old bastion can talk to a newer server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The path under which all calls below stand.
pub const API_BASE: &str = "/api/v1";

/// The media type of an error answer (RFC 9457).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// How long, in seconds, `GET /enrollment/data-source?wait=` may hold a request open at most.
pub const LONGEST_POLL_SECONDS: u64 = 25;

/// The number of a data source: positive, never used again.
pub type DataSourceId = i64;

/// The number of a tunnel: positive, never used again. It is the `<ID>` of `uninstall-tunnel <ID>`.
pub type TunnelId = i64;

/// The database behind a data source. It decides how "Test connection" speaks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DatabaseType {
    /// PostgreSQL.
    Postgresql,
    /// Amazon Redshift, which speaks PostgreSQL's protocol.
    Redshift,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
    /// Microsoft SQL Server.
    Sqlserver,
    /// ClickHouse over HTTP.
    Clickhouse,
    /// Anything else that is reached over TCP.
    Other,
}

impl DatabaseType {
    /// Every type, in the order in which a form offers them.
    pub const ALL: [DatabaseType; 7] = [
        DatabaseType::Postgresql,
        DatabaseType::Redshift,
        DatabaseType::Mysql,
        DatabaseType::Mariadb,
        DatabaseType::Sqlserver,
        DatabaseType::Clickhouse,
        DatabaseType::Other,
    ];

    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            DatabaseType::Postgresql => "postgresql",
            DatabaseType::Redshift => "redshift",
            DatabaseType::Mysql => "mysql",
            DatabaseType::Mariadb => "mariadb",
            DatabaseType::Sqlserver => "sqlserver",
            DatabaseType::Clickhouse => "clickhouse",
            DatabaseType::Other => "other",
        }
    }
}

impl fmt::Display for DatabaseType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a data source stands in its life.
///
/// `Draft → Enrolled → Connected → Saved → Active`, with `Down` beside `Active`, and
/// `Removing → Removed`. A direct connection goes `Draft → Saved → Removed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DataSourceState {
    /// Created; no bastion has registered a key.
    Draft,
    /// A bastion registered its key.
    Enrolled,
    /// The temporary tunnel is up.
    Connected,
    /// Saved by the operator; the service is not reported yet.
    Saved,
    /// Saved, the service is installed and the tunnel is up.
    Active,
    /// Saved, the service is installed and the tunnel is not up.
    Down,
    /// Deletion was asked for; the bastion has not confirmed it.
    Removing,
    /// Gone: its key is refused and its port is free.
    Removed,
}

impl DataSourceState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            DataSourceState::Draft => "draft",
            DataSourceState::Enrolled => "enrolled",
            DataSourceState::Connected => "connected",
            DataSourceState::Saved => "saved",
            DataSourceState::Active => "active",
            DataSourceState::Down => "down",
            DataSourceState::Removing => "removing",
            DataSourceState::Removed => "removed",
        }
    }
}

/// Whether a tunnel's own session holds its remote port at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TunnelStatus {
    /// A session authenticated with the tunnel's key listens on its port.
    Up,
    /// No such session.
    Down,
}

// ---------------------------------------------------------------------------------------------
// Operator
// ---------------------------------------------------------------------------------------------

/// `POST /data-sources`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDataSource {
    /// What the operator calls it.
    #[cfg_attr(feature = "server", schema(value_type = crate::server::api::openapi::DisplayName))]
    pub display_name: String,
    /// The database behind it.
    pub database_type: DatabaseType,
    /// How the database is reached; by a reverse tunnel where absent.
    #[serde(default)]
    pub connection: ConnectionKind,
    /// The database's host as the bastion sees it; as this server sees it for a direct connection.
    #[cfg_attr(feature = "server", schema(value_type = crate::server::api::openapi::Host))]
    pub host: String,
    /// The database's port as the bastion or this server sees it.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5432))
    )]
    pub port: u16,
    /// Which of the vendor's tunnel servers; the only one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(pattern = "^default$", examples("default")))]
    pub region: Option<String>,
}

/// How the server reaches a database. It is chosen when the data source is created, for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectionKind {
    /// Through a tunnel that a bastion opens.
    #[default]
    ReverseTunnel,
    /// From the server itself: it has no tunnel, no port and no command, and goes from `draft` to
    /// `saved`.
    Direct,
}

impl ConnectionKind {
    /// Both, in the order in which a form offers them.
    pub const ALL: [ConnectionKind; 2] = [ConnectionKind::ReverseTunnel, ConnectionKind::Direct];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectionKind::ReverseTunnel => "reverse_tunnel",
            ConnectionKind::Direct => "direct",
        }
    }
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
    /// What has to be run on the bastion for its tunnel to lead to the present host and port; absent
    /// while nothing has to be.
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
    /// The port on the tunnel server; absent until a bastion has enrolled.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(20001))
    )]
    pub remote_port: Option<u16>,
    /// `host:port` of the tunnel server.
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
}

/// Where a database is, as the bastion sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DatabaseAddress {
    /// Its host; IPv6 without brackets.
    #[cfg_attr(feature = "server", schema(value_type = crate::server::api::openapi::Host))]
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
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
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
    #[cfg_attr(feature = "server", schema(value_type = Option<crate::server::api::openapi::DisplayName>))]
    pub display_name: Option<String>,
    /// The database's new host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<crate::server::api::openapi::Host>))]
    pub host: Option<String>,
    /// The database's new port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(5433))
    )]
    pub port: Option<u16>,
}

/// The answer to `DELETE /data-sources/{id}` without `?force=true`. A direct connection has nothing
/// on a bastion: it is removed at once, and the answer is 204 without a body.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the database offers it.
    Prefer,
    /// Always; an unencrypted database is a failure. Encrypted and not verified, as PostgreSQL's
    /// `sslmode=require` is: it keeps listeners out, and not somebody who stands between.
    Require,
}

impl TlsMode {
    /// Every mode, the weakest first.
    pub const ALL: [TlsMode; 3] = [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require];

    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        TlsMode::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
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

// ---------------------------------------------------------------------------------------------
// Bastion
// ---------------------------------------------------------------------------------------------

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
    /// The SSH port.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 1, maximum = 65535, examples(50022))
    )]
    pub port: u16,
    /// The SSH user.
    #[cfg_attr(feature = "server", schema(examples("tunnel")))]
    pub user: String,
    /// The public host keys, `ssh-ed25519 AAAA…`, to pin before the first connection.
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

// ---------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------

/// An error answer: RFC 9457 problem details.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Which problem it is.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "server", schema(value_type = String, format = "uri-reference", examples("/problems/not-found")))]
    pub kind: ProblemKind,
    /// The problem in a few words, the same for every occurrence.
    #[cfg_attr(feature = "server", schema(examples("There is no such resource")))]
    pub title: String,
    /// The HTTP status.
    #[cfg_attr(
        feature = "server",
        schema(minimum = 400, maximum = 599, examples(404))
    )]
    pub status: u16,
    /// This occurrence, and what to do about it.
    #[cfg_attr(
        feature = "server",
        schema(examples("there is no such data source or tunnel, or it has been removed"))
    )]
    pub detail: String,
}

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $variant:ident = ($slug:literal, $status:literal, $title:literal),)+) => {
        /// The problems the API answers with. A bastion decides by them what to do next.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind { $($(#[$doc])* $variant,)+ }

        impl ProblemKind {
            /// Every problem, for documentation.
            pub const ALL: &'static [ProblemKind] = &[$(ProblemKind::$variant,)+];

            /// The `type` member: a path relative to the server.
            pub fn type_uri(self) -> &'static str {
                match self { $(ProblemKind::$variant => concat!("/problems/", $slug),)+ }
            }

            /// The HTTP status it is sent with.
            pub fn status(self) -> u16 {
                match self { $(ProblemKind::$variant => $status,)+ }
            }

            /// The `title` member.
            pub fn title(self) -> &'static str {
                match self { $(ProblemKind::$variant => $title,)+ }
            }

            fn from_type_uri(uri: &str) -> Option<Self> {
                match uri {
                    $(concat!("/problems/", $slug) => Some(ProblemKind::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

problem_kinds! {
    /// The body cannot be read as JSON, lacks a field, has an unknown one, or a value is out of range.
    InvalidRequest = ("invalid-request", 422, "The request is not valid"),
    /// The body is larger than the API reads.
    TooLarge = ("too-large", 413, "The request is too large"),
    /// The body was not sent as JSON.
    UnsupportedMediaType = ("unsupported-media-type", 415, "The request is not sent as JSON"),
    /// No credential was sent, or it is not known.
    Unauthorized = ("unauthorized", 401, "This credential is not accepted"),
    /// The one-time token was right but its time is over.
    TokenExpired = ("token-expired", 410, "This token has expired"),
    /// The one-time token has done its work.
    TokenUsed = ("token-used", 410, "This token has been used up"),
    /// The credential is right, but not for this.
    Forbidden = ("forbidden", 403, "This credential does not allow that"),
    /// There is no such thing, or not any more.
    NotFound = ("not-found", 404, "There is no such resource"),
    /// The path is right and the method is not.
    MethodNotAllowed = ("method-not-allowed", 405, "This method is not allowed here"),
    /// Another key is enrolled for this tunnel already.
    KeyConflict = ("key-conflict", 409, "Another key is enrolled for this tunnel"),
    /// The data source is not in a state that allows this.
    WrongState = ("wrong-state", 409, "The data source is not in a state for that"),
    /// The tunnel's own session does not listen on its port.
    TunnelDown = ("tunnel-down", 409, "The tunnel is not up"),
    /// The saved password is not used for this, or cannot be read: it must be sent.
    PasswordNeeded = ("password-needed", 409, "The password is needed"),
    /// As much of this as the server does at a time is done already.
    Busy = ("busy", 503, "The server is busy"),
    /// Every port of the range is given to a tunnel.
    PortsExhausted = ("ports-exhausted", 503, "No remote port is free"),
    /// A fault of the server.
    Internal = ("internal", 500, "The server failed"),
    /// A problem this version does not know.
    Unknown = ("unknown", 500, "Unknown problem"),
}

impl Serialize for ProblemKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.type_uri())
    }
}

impl<'de> Deserialize<'de> for ProblemKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let uri = String::deserialize(deserializer)?;
        Ok(Self::from_type_uri(&uri).unwrap_or(ProblemKind::Unknown))
    }
}

impl Problem {
    /// A problem of this kind, with the words for this occurrence.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
        }
    }
}
