//! The wire types both programs share: the HTTP API under `/api/v1`.
//!
//! A type stands here only if it crosses the wire between `holistics-tunnel` and
//! `holistics-tunnel-server`. What either side stores lives with that side
//! (`bastion::receipt`, `server::store`), so that a stored format can change without the
//! protocol and the other way round.
//!
//! `operator` holds what operators send and get, `history` how a tunnel did, `bastion` what bastions do, `enrolled`
//! who is behind a tunnel, `places` where it ends, `problem` the errors; what both know stands here.
//!
//! Requests refuse unknown fields, so that a misspelt field is an error and not a silent default.
//! Answers accept them, so that an old bastion can talk to a newer server.

mod bastion;
mod enrolled;
mod history;
mod ids;
mod operator;
mod places;
mod problem;
#[cfg(feature = "server")]
pub mod schema;

pub use bastion::*;
pub use enrolled::*;
pub use history::*;
pub use ids::*;
pub use operator::*;
pub use places::*;
pub use problem::*;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};
use url::{Host, Url};

/// How the bastion's program is called there: the scripts put it where PATH does not lead.
pub const PROGRAM: &str = "~/.holistics/bin/holistics-tunnel";

/// The path under which all calls below stand.
pub const API_BASE: &str = "/api/v1";

/// The media type of an error answer (RFC 9457).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// How long, in seconds, `GET /enrollment/data-source?wait=` may hold a request open at most.
pub const LONGEST_POLL_SECONDS: u64 = 25;

/// How many things of a list a page of it holds at most.
pub const LONGEST_PAGE: u16 = 500;

/// Whether it is the machine's own, which needs no https and which no proxy leads to.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The database behind a data source. It decides how "Test connection" speaks to it. A form offers them in this
/// order.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
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

/// Where a data source stands in its life.
///
/// `Draft → Enrolled → Connected → Saved → Active`, with `Down` beside `Active`, and
/// `Removing → Removed`. A direct connection goes `Draft → Saved → Removed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
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
    /// Gone: its key is refused, and its port rests before another tunnel gets it.
    Removed,
}

impl DataSourceState {
    /// Those that stand in lists, in the order in which a form offers them.
    pub const LISTED: [DataSourceState; 7] = [
        DataSourceState::Active,
        DataSourceState::Down,
        DataSourceState::Draft,
        DataSourceState::Enrolled,
        DataSourceState::Connected,
        DataSourceState::Saved,
        DataSourceState::Removing,
    ];
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
