//! How each tunnel did on each day: one row for each, with the whole day's figures.

use std::ops::RangeInclusive;

use sqlx::{FromRow, QueryBuilder, Sqlite};

use super::{Result, Store};
use crate::protocol::TunnelId;

/// How many rows one transaction writes, so that requests that write wait a few milliseconds for it and not
/// longer.
const ROWS_AT_ONCE: usize = 500;

const COLUMNS: &str = "day, tunnel_id, known_ms, up_ms, connections, bytes_from_bastion, bytes_to_bastion, \
                       up_slots, down_slots";

/// A day of a tunnel, as it is kept.
#[derive(Debug, Clone, FromRow)]
pub struct TunnelDay {
    /// Days since 1970-01-01, UTC.
    pub day: i32,
    /// Whose.
    #[sqlx(rename = "tunnel_id")]
    pub tunnel: TunnelId,
    /// Milliseconds of which is known whether it was up.
    pub known_ms: i64,
    /// Those in which it was up.
    pub up_ms: i64,
    /// Connections to its port.
    pub connections: i64,
    /// Bytes that came from its bastion.
    pub bytes_from_bastion: i64,
    /// Bytes that went to its bastion.
    pub bytes_to_bastion: i64,
    /// A bit for each five minutes: whether it was up in them.
    pub up_slots: Vec<u8>,
    /// The same: whether it was down in them.
    pub down_slots: Vec<u8>,
}

impl Store {
    /// What is kept of these tunnels and days, in one query.
    pub async fn tunnel_days(
        &self,
        tunnels: &[TunnelId],
        days: RangeInclusive<i32>,
    ) -> Result<Vec<TunnelDay>> {
        if tunnels.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = select();
        // Each day by itself: with a range, the index would be of no use for the tunnel.
        query.push(" WHERE day IN (");
        let mut list = query.separated(", ");
        for day in days {
            list.push_bind(day);
        }
        query.push(") AND tunnel_id IN (");
        let mut list = query.separated(", ");
        for tunnel in tunnels {
            list.push_bind(*tunnel);
        }
        query.push(")");
        let query = query.build_query_as().persistent(false);
        let rows = query.fetch_all(&self.readers).await?;
        Ok(rows)
    }

    /// What is kept of a day, of all tunnels.
    pub async fn tunnels_on(&self, day: i32) -> Result<Vec<TunnelDay>> {
        let mut query = select();
        query.push(" WHERE day = ").push_bind(day);
        let rows = query.build_query_as().fetch_all(&self.readers).await?;
        Ok(rows)
    }

    /// The tunnels that were up at least once and are not removed.
    pub async fn tunnels_ever_seen(&self) -> Result<Vec<TunnelId>> {
        let tunnels = sqlx::query_scalar(
            "SELECT id FROM tunnels WHERE last_seen_at IS NOT NULL AND removed_at IS NULL",
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(tunnels)
    }

    /// Keeps these days in the place of what was kept of them.
    pub async fn keep_tunnel_days(&self, rows: &[TunnelDay]) -> Result<()> {
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let mut query =
                QueryBuilder::<Sqlite>::new(format!("INSERT INTO tunnel_days ({COLUMNS}) "));
            query.push_values(rows, |mut values, row| {
                values
                    .push_bind(row.day)
                    .push_bind(row.tunnel)
                    .push_bind(row.known_ms)
                    .push_bind(row.up_ms)
                    .push_bind(row.connections)
                    .push_bind(row.bytes_from_bastion)
                    .push_bind(row.bytes_to_bastion)
                    .push_bind(&row.up_slots[..])
                    .push_bind(&row.down_slots[..]);
            });
            query.push(
                " ON CONFLICT (day, tunnel_id) DO UPDATE SET known_ms = excluded.known_ms,
                     up_ms = excluded.up_ms, connections = excluded.connections,
                     bytes_from_bastion = excluded.bytes_from_bastion,
                     bytes_to_bastion = excluded.bytes_to_bastion,
                     up_slots = excluded.up_slots, down_slots = excluded.down_slots",
            );
            // One that is not asked for again in the same words has no place among the prepared ones.
            query
                .build()
                .persistent(false)
                .execute(&self.writer)
                .await?;
        }
        Ok(())
    }

    /// Forgets every other day than these.
    pub async fn forget_tunnel_days_beyond(&self, days: RangeInclusive<i32>) -> Result<()> {
        sqlx::query("DELETE FROM tunnel_days WHERE day < $1 OR day > $2")
            .bind(days.start())
            .bind(days.end())
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

fn select() -> QueryBuilder<Sqlite> {
    QueryBuilder::new(format!("SELECT {COLUMNS} FROM tunnel_days"))
}
