//! A data source with its tunnel, as stored, and the state that follows from it.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use super::logins::StoredLogin;
use super::timestamp;
use crate::protocol::{
    ConnectionKind, DataSourceId, DataSourceState, DatabaseAddress, DatabaseType, TunnelId,
};

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
    saved: bool,
    removing: bool,
    removed: bool,
}

/// A tunnel as stored.
#[derive(Debug, Clone)]
pub struct TunnelRecord {
    /// Its number.
    pub id: TunnelId,
    /// Its port on the tunnel server; kept after removal.
    pub remote_port: Option<u16>,
    /// When its session was last seen, as far as it is stored.
    pub last_seen: Option<jiff::Timestamp>,
    /// Where the bastion leads it, as it reported.
    pub applied: Option<DatabaseAddress>,
    service_installed: bool,
}

impl Record {
    /// The columns and tables, for a query over `data_sources AS d` and `tunnels AS t`.
    pub(super) const SELECT: &'static str = "SELECT d.id, d.display_name, d.database_type, d.host, d.port, \
         d.created_at, d.saved_at IS NOT NULL AS saved, d.removing_at IS NOT NULL AS removing, \
         d.removed_at IS NOT NULL AS removed, t.id AS tunnel_id, t.remote_port, t.last_seen_at, \
         t.applied_host, t.applied_port, \
         t.service_installed_at IS NOT NULL AS service_installed, \
         l.database AS login_database, l.username AS login_username, l.tls AS login_tls, \
         l.host AS login_host, l.port AS login_port, l.password AS login_password \
         FROM data_sources AS d LEFT JOIN tunnels AS t ON t.data_source_id = d.id \
         LEFT JOIN logins AS l ON l.data_source_id = d.id";

    /// Where the data source stands, given whether its tunnel's own session listens now.
    pub fn state(&self, tunnel_is_up: bool) -> DataSourceState {
        if self.removed {
            return DataSourceState::Removed;
        }
        if self.removing {
            return DataSourceState::Removing;
        }
        let service_installed = self.tunnel.as_ref().is_some_and(|t| t.service_installed);
        match (
            self.saved,
            service_installed,
            self.is_enrolled(),
            tunnel_is_up,
        ) {
            (true, true, _, true) => DataSourceState::Active,
            (true, true, _, false) => DataSourceState::Down,
            (true, false, _, _) => DataSourceState::Saved,
            (false, _, true, true) => DataSourceState::Connected,
            (false, _, true, false) => DataSourceState::Enrolled,
            (false, _, false, _) => DataSourceState::Draft,
        }
    }

    /// How the database is reached.
    pub fn connection(&self) -> ConnectionKind {
        match self.tunnel {
            Some(_) => ConnectionKind::ReverseTunnel,
            None => ConnectionKind::Direct,
        }
    }

    /// Where the database is.
    pub fn address(&self) -> DatabaseAddress {
        DatabaseAddress {
            host: self.host.clone(),
            port: self.port,
        }
    }

    /// Where the tunnel shall lead, if its bastion is known to lead it elsewhere.
    pub fn pending(&self) -> Option<DatabaseAddress> {
        let applied = self.tunnel.as_ref()?.applied.as_ref()?;
        let address = self.address();
        (*applied != address && !self.is_leaving()).then_some(address)
    }

    /// The number of its tunnel.
    pub fn tunnel_id(&self) -> Option<TunnelId> {
        self.tunnel.as_ref().map(|tunnel| tunnel.id)
    }

    /// Its tunnel's port on the tunnel server.
    pub fn remote_port(&self) -> Option<u16> {
        self.tunnel.as_ref()?.remote_port
    }

    /// Whether a bastion has registered its key.
    pub fn is_enrolled(&self) -> bool {
        self.remote_port().is_some()
    }

    /// Whether the operator has saved it.
    pub fn is_saved(&self) -> bool {
        self.saved
    }

    /// Whether its removal was asked for or is done.
    pub fn is_leaving(&self) -> bool {
        self.removing || self.removed
    }

    /// Whether it is gone.
    pub fn is_removed(&self) -> bool {
        self.removed
    }
}

impl<'r> FromRow<'r, SqliteRow> for Record {
    fn from_row(row: &'r SqliteRow) -> sqlx::Result<Self> {
        Ok(Record {
            id: row.try_get("id")?,
            display_name: row.try_get("display_name")?,
            database_type: database_type(row.try_get("database_type")?)?,
            host: row.try_get("host")?,
            port: row.try_get("port")?,
            created_at: timestamp(row.try_get("created_at")?),
            tunnel: tunnel(row)?,
            login: StoredLogin::from_row(row)?,
            saved: row.try_get("saved")?,
            removing: row.try_get("removing")?,
            removed: row.try_get("removed")?,
        })
    }
}

fn tunnel(row: &SqliteRow) -> sqlx::Result<Option<TunnelRecord>> {
    let Some(id) = row.try_get("tunnel_id")? else {
        return Ok(None);
    };
    Ok(Some(TunnelRecord {
        id,
        remote_port: row.try_get("remote_port")?,
        last_seen: row
            .try_get::<Option<i64>, _>("last_seen_at")?
            .map(timestamp),
        applied: applied(row.try_get("applied_host")?, row.try_get("applied_port")?),
        service_installed: row.try_get("service_installed")?,
    }))
}

fn applied(host: Option<String>, port: Option<u16>) -> Option<DatabaseAddress> {
    Some(DatabaseAddress {
        host: host?,
        port: port?,
    })
}

fn database_type(name: &str) -> sqlx::Result<DatabaseType> {
    DatabaseType::ALL
        .into_iter()
        .find(|database_type| database_type.as_str() == name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown database type {name:?}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: DataSourceId(1),
            display_name: "Sales".to_owned(),
            database_type: DatabaseType::Postgresql,
            host: "db".to_owned(),
            port: 5432,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            tunnel: None,
            login: None,
            saved: false,
            removing: false,
            removed: false,
        }
    }

    fn tunnel() -> TunnelRecord {
        TunnelRecord {
            id: TunnelId(1),
            remote_port: None,
            last_seen: None,
            applied: None,
            service_installed: false,
        }
    }

    #[test]
    fn the_states_follow_each_other_as_the_journey_does() {
        let mut at = record();
        let mut tunnel = tunnel();
        at.tunnel = Some(tunnel.clone());
        assert_eq!(at.state(false), DataSourceState::Draft);
        tunnel.remote_port = Some(20000);
        at.tunnel = Some(tunnel.clone());
        assert_eq!(at.state(false), DataSourceState::Enrolled);
        assert_eq!(at.state(true), DataSourceState::Connected);
        at.saved = true;
        assert_eq!(at.state(true), DataSourceState::Saved);
        assert_eq!(at.state(false), DataSourceState::Saved);
        tunnel.service_installed = true;
        at.tunnel = Some(tunnel.clone());
        assert_eq!(at.state(true), DataSourceState::Active);
        assert_eq!(at.state(false), DataSourceState::Down);
        assert_eq!(at.pending(), None);
        tunnel.applied = applied(Some("db".to_owned()), Some(5432));
        at.tunnel = Some(tunnel);
        assert_eq!(at.pending(), None);
        at.port = 5433;
        assert_eq!(at.pending(), applied(Some("db".to_owned()), Some(5433)));
        at.removing = true;
        assert_eq!(at.pending(), None);
        assert_eq!(at.state(true), DataSourceState::Removing);
        at.removed = true;
        assert_eq!(at.state(false), DataSourceState::Removed);
    }

    #[test]
    fn a_direct_connection_is_a_draft_until_it_is_saved() {
        let mut at = record();
        assert_eq!(at.connection(), ConnectionKind::Direct);
        assert_eq!(at.state(false), DataSourceState::Draft);
        at.saved = true;
        assert_eq!(at.state(false), DataSourceState::Saved);
        assert_eq!(at.pending(), None);
        at.removed = true;
        assert_eq!(at.state(false), DataSourceState::Removed);
    }
}
