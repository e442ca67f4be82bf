//! What follows from a data source as it is stored: where it stands, and what may be done with it.

use super::error::{Error, Result};
use crate::protocol::{ConnectionKind, DataSourceState, DatabaseAddress, TunnelId};
use crate::server::store::{NextPlace, Record};

/// Passes what was found.
pub fn found(record: Option<Record>) -> Result<Record> {
    record.ok_or(Error::NotFound)
}

/// Passes what is not removed.
pub fn ensure_exists(record: Option<Record>) -> Result<Record> {
    record
        .filter(|record| !record.removed)
        .ok_or(Error::NotFound)
}

/// Passes what is neither removed nor being removed.
pub fn ensure_active(record: Option<Record>) -> Result<Record> {
    let record = ensure_exists(record)?;
    if record.removing {
        return Err(Error::WrongState(record.state(false)));
    }
    Ok(record)
}

impl Record {
    /// Where the data source stands, given whether its tunnel's own session listens now.
    pub fn state(&self, tunnel_is_up: bool) -> DataSourceState {
        if self.removed {
            return DataSourceState::Removed;
        }
        if self.removing {
            return DataSourceState::Removing;
        }
        let tunnel = self.tunnel.as_ref();
        // Of one that is set up by hand, nobody reports that it has a service.
        let is_kept_up = tunnel.is_some_and(|t| t.service_installed || t.by_hand);
        match (self.saved, is_kept_up, self.is_enrolled(), tunnel_is_up) {
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

    /// Whether its bastion has to be told of a new target or region.
    pub fn is_to_be_updated(&self) -> bool {
        let moves = self.next_place().is_some() && !self.is_leaving();
        !self.is_by_hand() && (self.pending().is_some() || moves)
    }

    /// The number of its tunnel.
    pub fn tunnel_id(&self) -> Option<TunnelId> {
        self.tunnel.as_ref().map(|tunnel| tunnel.id)
    }

    /// Its tunnel's port on the tunnel server.
    pub fn remote_port(&self) -> Option<u16> {
        self.tunnel.as_ref()?.remote_port
    }

    /// The region in which its tunnel ends.
    pub fn region(&self) -> Option<&str> {
        self.tunnel.as_ref().map(|tunnel| tunnel.region.as_str())
    }

    /// Where its tunnel is to move.
    pub fn next_place(&self) -> Option<&NextPlace> {
        self.tunnel.as_ref()?.next.as_ref()
    }

    /// Its tunnel's port in this region, if it is there or is to move there.
    pub fn port_in(&self, region: &str) -> Option<u16> {
        let tunnel = self.tunnel.as_ref()?;
        if tunnel.region == region {
            return tunnel.remote_port;
        }
        let next = tunnel.next.as_ref().filter(|next| next.region == region);
        next.map(|next| next.port)
    }

    /// Whether a person has set its tunnel up, and no program of ours runs on its machine.
    pub fn is_by_hand(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.by_hand)
    }

    /// Whether a bastion has registered its key.
    pub fn is_enrolled(&self) -> bool {
        self.remote_port().is_some()
    }

    /// Whether its removal was asked for or is done.
    pub fn is_leaving(&self) -> bool {
        self.removing || self.removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{DataSourceId, DatabaseType};
    use crate::server::store::TunnelRecord;

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
            region: "default".to_owned(),
            remote_port: None,
            next: None,
            last_seen: None,
            applied: None,
            service_installed: false,
            by_hand: false,
            registrant: None,
        }
    }

    fn address(port: u16) -> Option<DatabaseAddress> {
        Some(DatabaseAddress {
            host: "db".to_owned(),
            port,
        })
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
        tunnel.applied = address(5432);
        at.tunnel = Some(tunnel);
        assert_eq!(at.pending(), None);
        at.port = 5433;
        assert_eq!(at.pending(), address(5433));
        at.removing = true;
        assert_eq!(at.pending(), None);
        assert_eq!(at.state(true), DataSourceState::Removing);
        at.removed = true;
        assert_eq!(at.state(false), DataSourceState::Removed);
    }

    #[test]
    fn a_tunnel_that_is_set_up_by_hand_waits_for_no_service() {
        let mut at = record();
        at.tunnel = Some(TunnelRecord {
            remote_port: Some(20000),
            by_hand: true,
            ..tunnel()
        });
        assert_eq!(at.state(false), DataSourceState::Enrolled);
        assert_eq!(at.state(true), DataSourceState::Connected);
        at.saved = true;
        assert_eq!(at.state(true), DataSourceState::Active);
        assert_eq!(at.state(false), DataSourceState::Down);
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
