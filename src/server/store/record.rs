//! A data source with its tunnel, as stored.

use sqlx::FromRow;

use super::logins::StoredLogin;
use super::sql::{Port, StoreRow};
use super::timestamp;
use crate::protocol::{DataSourceId, DatabaseAddress, DatabaseType, TunnelId};

/// A data source with its one tunnel, or without one if the database is reached directly.
#[derive(Debug, Clone)]
pub struct Record {
    /// The data source's number.
    pub id: DataSourceId,
    /// What the operator calls it.
    pub display_name: String,
    /// The database behind it.
    pub database_type: DatabaseType,
    /// The database's host as the bastion sees it; IPv6 without brackets.
    pub host: String,
    /// The database's port as the bastion sees it.
    pub port: u16,
    /// When it was created.
    pub created_at: jiff::Timestamp,
    /// Its tunnel; absent for a direct connection.
    pub tunnel: Option<TunnelRecord>,
    /// The saved login.
    pub login: Option<StoredLogin>,
    /// Whether the operator has saved it.
    pub saved: bool,
    /// Whether its removal was asked for.
    pub removing: bool,
    /// Whether it is gone.
    pub removed: bool,
}

/// A tunnel as stored.
#[derive(Debug, Clone)]
pub struct TunnelRecord {
    /// Its number.
    pub id: TunnelId,
    /// Where it ends.
    pub region: String,
    /// Its port there; kept after removal.
    pub remote_port: Option<u16>,
    /// Where it is to end instead, once its bastion has moved it.
    pub next: Option<NextPlace>,
    /// When its session was last seen, as far as it is stored.
    pub last_seen: Option<jiff::Timestamp>,
    /// Where the bastion leads it, as it reported.
    pub applied: Option<DatabaseAddress>,
    /// Whether the bastion's service runs it.
    pub service_installed: bool,
    /// Whether a person has set it up, and no program of ours reports its service.
    pub by_hand: bool,
    /// Who enrolled for it.
    pub registrant: Option<Registrant>,
}

/// Where a tunnel is to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPlace {
    pub region: String,
    /// Its port there, which is the tunnel's own already.
    pub port: u16,
}

/// Who enrolled for a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrant {
    /// When.
    pub at: jiff::Timestamp,
    /// The key that opens the tunnel now; absent once it is removed.
    pub public_key: Option<String>,
    /// The operator who registered the key, where the machine did not do so itself.
    pub operator: Option<String>,
    /// The machine's name, as it says.
    pub hostname: Option<String>,
    /// Its operating system, as it says.
    pub os: Option<String>,
    /// The user there, as it says.
    pub user: Option<String>,
    /// The address that it came from.
    pub address: Option<String>,
}

impl Record {
    /// The columns and tables, for a query over `data_sources AS d` and `tunnels AS t`.
    pub(super) const SELECT: &'static str = "SELECT d.id, d.display_name, d.database_type, d.host, d.port, \
         d.created_at, d.saved_at IS NOT NULL AS saved, d.removing_at IS NOT NULL AS removing, \
         d.removed_at IS NOT NULL AS removed, t.id AS tunnel_id, t.region, t.remote_port, t.next_region, t.next_port, t.last_seen_at, \
         t.applied_host, t.applied_port, \
         t.service_installed_at IS NOT NULL AS service_installed, \
         t.by_hand_at IS NOT NULL AS by_hand, t.enrolled_at, t.enrolled_from, t.registered_by, \
         t.bastion_hostname, t.bastion_os, t.bastion_user, k.public_key, \
         l.database AS login_database, l.username AS login_username, l.tls AS login_tls, \
         l.host AS login_host, l.port AS login_port, l.password AS login_password \
         FROM data_sources AS d LEFT JOIN tunnels AS t ON t.data_source_id = d.id \
         LEFT JOIN keys AS k ON k.id = t.key_id \
         LEFT JOIN logins AS l ON l.data_source_id = d.id";
}

impl<'r, R: StoreRow> FromRow<'r, R> for Record {
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        Ok(Record {
            id: row.value_of("id")?,
            display_name: row.value_of("display_name")?,
            database_type: database_type(row.value_of("database_type")?)?,
            host: row.value_of("host")?,
            port: row.value_of::<Port>("port")?.0,
            created_at: timestamp(row.value_of("created_at")?),
            tunnel: tunnel(row)?,
            login: StoredLogin::from_row(row)?,
            saved: row.value_of("saved")?,
            removing: row.value_of("removing")?,
            removed: row.value_of("removed")?,
        })
    }
}

fn tunnel(row: &impl StoreRow) -> sqlx::Result<Option<TunnelRecord>> {
    let Some(id) = row.value_of("tunnel_id")? else {
        return Ok(None);
    };
    Ok(Some(TunnelRecord {
        id,
        region: row.value_of("region")?,
        remote_port: port(row, "remote_port")?,
        next: next_place(row.value_of("next_region")?, port(row, "next_port")?),
        last_seen: row.value_of::<Option<i64>>("last_seen_at")?.map(timestamp),
        applied: applied(row.value_of("applied_host")?, row.value_of("applied_port")?),
        service_installed: row.value_of("service_installed")?,
        by_hand: row.value_of("by_hand")?,
        registrant: registrant(row)?,
    }))
}

fn port(row: &impl StoreRow, column: &str) -> sqlx::Result<Option<u16>> {
    let port: Option<Port> = row.value_of(column)?;
    Ok(port.map(|Port(port)| port))
}

fn next_place(region: Option<String>, port: Option<u16>) -> Option<NextPlace> {
    Some(NextPlace {
        region: region?,
        port: port?,
    })
}

fn registrant(row: &impl StoreRow) -> sqlx::Result<Option<Registrant>> {
    let Some(at) = row.value_of("enrolled_at")? else {
        return Ok(None);
    };
    Ok(Some(Registrant {
        at: timestamp(at),
        public_key: row.value_of("public_key")?,
        operator: row.value_of("registered_by")?,
        hostname: row.value_of("bastion_hostname")?,
        os: row.value_of("bastion_os")?,
        user: row.value_of("bastion_user")?,
        address: row.value_of("enrolled_from")?,
    }))
}

fn applied(host: Option<String>, port: Option<Port>) -> Option<DatabaseAddress> {
    Some(DatabaseAddress {
        host: host?,
        port: port?.0,
    })
}

fn database_type(name: &str) -> sqlx::Result<DatabaseType> {
    name.parse()
        .map_err(|_| sqlx::Error::Decode(format!("unknown database type {name:?}").into()))
}
