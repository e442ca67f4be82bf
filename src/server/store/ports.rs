//! Which remote port the next tunnel gets.
//!
//! A released port is not handed out again while another has rested longer, so that a forgotten
//! client of the old tunnel does not reach the new one. That no two living tunnels ever share a
//! port is not left to this query: a unique index refuses it.

use std::fmt;
use std::str::FromStr;

use super::{Result, Writing};

/// The remote ports this server may hand out, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// How many there are.
    pub fn size(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
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

impl Writing {
    /// Chooses a port; none if all are given to tunnels. Give it to the tunnel in this transaction.
    pub async fn choose_port(&mut self, range: PortRange) -> Result<Option<u16>> {
        match self.lowest_never_used(range).await? {
            Some(port) => Ok(Some(port)),
            None => self.longest_rested(range).await,
        }
    }

    async fn lowest_never_used(&mut self, range: PortRange) -> Result<Option<u16>> {
        // The lowest unused port is the range's first or follows a used one.
        let port = sqlx::query_scalar(
            "SELECT min(candidate) FROM (
                 SELECT ?1 AS candidate
                 UNION ALL
                 SELECT remote_port + 1 FROM tunnels WHERE remote_port BETWEEN ?1 AND ?2 - 1
             )
             WHERE NOT EXISTS (SELECT 1 FROM tunnels WHERE remote_port = candidate)",
        )
        .bind(range.first)
        .bind(range.last)
        .fetch_one(&mut *self.0)
        .await?;
        Ok(port)
    }

    async fn longest_rested(&mut self, range: PortRange) -> Result<Option<u16>> {
        let port = sqlx::query_scalar(
            "SELECT remote_port FROM tunnels WHERE remote_port BETWEEN ?1 AND ?2
             GROUP BY remote_port
             HAVING count(*) = count(removed_at)
             ORDER BY max(removed_at), remote_port
             LIMIT 1",
        )
        .bind(range.first)
        .bind(range.last)
        .fetch_optional(&mut *self.0)
        .await?;
        Ok(port)
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
