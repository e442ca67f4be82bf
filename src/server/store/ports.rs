//! Which remote port the next tunnel of a region gets: each region has ports of its own.
//!
//! A port that somebody else had is handed out only when none is left that nobody ever had, the one that
//! has rested longest first, and says since when: forgotten clients of the old tunnel must not
//! reach the new one, so it is given only after a while. To those that somebody had belong the ports that may have been given after
//! the backup from which this database comes (`restored.rs`). That no two living tunnels ever share a port
//! is not left to this query: a unique index refuses it.

use std::fmt;
use std::str::FromStr;

use super::sql::Port;
use super::{Result, Writing, timestamp};

/// The remote ports that a region may hand out, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Both ends included; none if that is no range.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(PortRange { first, last })
    }

    /// The lowest and the highest.
    pub fn ends(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// How many there are.
    pub fn size(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
}

/// The port that is to be given next.
#[derive(Debug, Clone, Copy)]
pub struct PortChoice {
    /// Its number.
    pub port: u16,
    /// Since when it rests, if somebody had it.
    pub rests_since: Option<jiff::Timestamp>,
    /// What the database's clock shows.
    pub now: jiff::Timestamp,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = || format!("{text:?} is not a range of ports, such as 20000-29999");
        let (first, last) = text.split_once('-').ok_or_else(expected)?;
        let first = first.trim().parse().map_err(|_| expected())?;
        let last = last.trim().parse().map_err(|_| expected())?;
        PortRange::new(first, last).ok_or_else(expected)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Writing {
    /// Chooses a port of a region; none if all are given to tunnels. Give it to the tunnel in this transaction.
    pub async fn choose_port(
        &mut self,
        region: &str,
        range: PortRange,
    ) -> Result<Option<PortChoice>> {
        let now = self.clock().await?;
        if let Some(port) = self.lowest_never_used(region, range).await? {
            return Ok(Some(PortChoice {
                port,
                rests_since: None,
                now,
            }));
        }
        let rested = self.longest_rested(region, range).await?;
        Ok(rested.map(|(Port(port), since)| PortChoice {
            port,
            rests_since: Some(timestamp(since)),
            now,
        }))
    }

    async fn lowest_never_used(&mut self, region: &str, range: PortRange) -> Result<Option<u16>> {
        // The lowest unused port is the range's first or follows a used one.
        let port: Option<Port> = self
            .sql(
                "WITH used AS (
                 SELECT remote_port AS port FROM tunnels WHERE region = $3
                 UNION ALL SELECT next_port FROM tunnels WHERE next_region = $3
                 UNION ALL SELECT port FROM former_ports WHERE region = $3
             )
             SELECT min(candidate) FROM (
                 SELECT $1 AS candidate
                 UNION ALL
                 SELECT port + 1 FROM used WHERE port BETWEEN $1 AND $2 - 1
             ) AS candidates
             WHERE NOT EXISTS (SELECT 1 FROM used WHERE port = candidate)",
            )
            .bind(Port(range.first))
            .bind(Port(range.last))
            .bind(region)
            .value()
            .await?;
        Ok(port.map(|Port(port)| port))
    }

    /// A port that somebody had, and since when it rests.
    async fn longest_rested(
        &mut self,
        region: &str,
        range: PortRange,
    ) -> Result<Option<(Port, i64)>> {
        // Ports are first given from the lowest on: of those that a backup knows nothing of, the highest are
        // the least likely to have been given.
        self.sql(
            "SELECT port, max(released_at) FROM (
                 SELECT remote_port AS port, removed_at AS released_at FROM tunnels WHERE region = $3
                 UNION ALL
                 SELECT next_port, NULL FROM tunnels WHERE next_region = $3
                 UNION ALL
                 SELECT port, released_at FROM former_ports WHERE region = $3
             ) AS used
             WHERE port BETWEEN $1 AND $2
             GROUP BY port
             HAVING count(*) = count(released_at)
             ORDER BY max(released_at), port DESC
             LIMIT 1",
        )
        .bind(Port(range.first))
        .bind(Port(range.last))
        .bind(region)
        .optional()
        .await
    }
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
