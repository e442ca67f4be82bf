//! Which remote port the next tunnel gets.
//!
//! A port that somebody else had is handed out only when none is left that nobody ever had, the one that
//! has rested longest first, and none before it has rested for a while: forgotten clients of the old tunnel
//! must not reach the new one. To those that somebody had belong the ports that may have been given after
//! the backup from which this database comes (`restored.rs`). That no two living tunnels ever share a port
//! is not left to this query: a unique index refuses it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::SqliteConnection;

use super::{Result, StoreError, now, timestamp};

/// The remote ports this server may hand out, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The lowest and the highest.
    pub fn ends(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// How many there are.
    pub fn size(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
}

/// Which remote ports are given, and when again.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Those there are.
    pub range: PortRange,
    /// How long one rests that somebody else had.
    pub rest: Duration,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = || format!("{text:?} is not a range of ports, such as 20000-29999");
        let (first, last) = text.split_once('-').ok_or_else(expected)?;
        let first = first.trim().parse().map_err(|_| expected())?;
        let last = last.trim().parse().map_err(|_| expected())?;
        if first == 0 || first > last {
            return Err(expected());
        }
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Chooses a port. Call it inside the transaction that gives the port to the tunnel.
pub(super) async fn choose(connection: &mut SqliteConnection, ports: Ports) -> Result<u16> {
    if let Some(port) = lowest_never_used(connection, ports.range).await? {
        return Ok(port);
    }
    let rest = i64::try_from(ports.rest.as_millis()).unwrap_or(i64::MAX);
    match longest_rested(connection, ports.range).await? {
        None => Err(StoreError::PortsExhausted),
        Some((port, since)) if since <= now().saturating_sub(rest) => Ok(port),
        Some((_, since)) => Err(StoreError::PortsRest(timestamp(since.saturating_add(rest)))),
    }
}

async fn lowest_never_used(
    connection: &mut SqliteConnection,
    range: PortRange,
) -> Result<Option<u16>> {
    // The lowest unused port is the range's first or follows a used one.
    let port = sqlx::query_scalar(
        "WITH used AS (
             SELECT remote_port AS port FROM tunnels UNION ALL SELECT port FROM former_ports
         )
         SELECT min(candidate) FROM (
             SELECT ?1 AS candidate
             UNION ALL
             SELECT port + 1 FROM used WHERE port BETWEEN ?1 AND ?2 - 1
         )
         WHERE NOT EXISTS (SELECT 1 FROM used WHERE port = candidate)",
    )
    .bind(range.first)
    .bind(range.last)
    .fetch_one(connection)
    .await?;
    Ok(port)
}

/// The one, and since when it rests.
async fn longest_rested(
    connection: &mut SqliteConnection,
    range: PortRange,
) -> Result<Option<(u16, i64)>> {
    // Ports are first given from the lowest on: of those that a backup knows nothing of, the highest are the
    // least likely to have been given.
    let port = sqlx::query_as(
        "SELECT port, max(released_at) FROM (
             SELECT remote_port AS port, removed_at AS released_at FROM tunnels
             UNION ALL
             SELECT port, released_at FROM former_ports
         )
         WHERE port BETWEEN ?1 AND ?2
         GROUP BY port
         HAVING count(*) = count(released_at)
         ORDER BY max(released_at), port DESC
         LIMIT 1",
    )
    .bind(range.first)
    .bind(range.last)
    .fetch_optional(connection)
    .await?;
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_names_both_ends() {
        let range: PortRange = "20000-20001".parse().unwrap();
        assert_eq!(range.to_string(), "20000-20001");
        assert!("20000-20000".parse::<PortRange>().is_ok());
        for wrong in ["", "20000", "2-1", "0-5", "1-65536", "a-b", "-1-5"] {
            assert!(
                wrong.parse::<PortRange>().is_err(),
                "{wrong:?} was accepted"
            );
        }
    }
}
