//! How each tunnel did on each day: one row for each, with the whole day's figures.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;

use sqlx::FromRow;

use super::sql::{Engine, Statement};
use super::{Result, Store};
use crate::protocol::TunnelId;

/// How many rows one transaction writes, so that requests that write wait a few milliseconds for it and not
/// longer.
const ROWS_AT_ONCE: usize = 500;

const COLUMNS: &str = "day, tunnel_id, known_ms, up_ms, connections, bytes_from_bastion, bytes_to_bastion, \
                       up_slots, down_slots";

/// The length of a day.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A day of a tunnel, as it is kept.
#[derive(Debug, Clone, FromRow)]
pub struct TunnelDay {
    /// Days since 1970-01-01, UTC.
    pub day: i32,
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

/// What several nodes have kept of a day of a tunnel, as one.
fn together(rows: Vec<TunnelDay>) -> Vec<TunnelDay> {
    let mut days: BTreeMap<(i32, TunnelId), TunnelDay> = BTreeMap::new();
    for row in rows {
        match days.entry((row.day, row.tunnel)) {
            Entry::Vacant(day) => {
                day.insert(row);
            }
            Entry::Occupied(mut day) => day.get_mut().add(&row),
        }
    }
    days.into_values().collect()
}

impl TunnelDay {
    fn add(&mut self, other: &TunnelDay) {
        // Nodes' minutes do not begin at one moment.
        self.known_ms = (self.known_ms + other.known_ms).min(DAY_MS);
        self.up_ms = (self.up_ms + other.up_ms).min(self.known_ms);
        self.connections = self.connections.saturating_add(other.connections);
        self.bytes_from_bastion = self
            .bytes_from_bastion
            .saturating_add(other.bytes_from_bastion);
        self.bytes_to_bastion = self.bytes_to_bastion.saturating_add(other.bytes_to_bastion);
        for (own, others) in [
            (&mut self.up_slots, &other.up_slots),
            (&mut self.down_slots, &other.down_slots),
        ] {
            for (own, other) in own.iter_mut().zip(others) {
                *own |= other;
            }
        }
    }
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
        let mut query = self.select();
        // Each day by itself: with a range, the index would be of no use for the tunnel.
        query.push(" WHERE day IN (").push_list(days);
        query.push(") AND tunnel_id IN (").push_list(tunnels);
        query.push(")");
        let rows = query.once().all().await?;
        Ok(match self.engine() {
            Engine::Sqlite => rows,
            Engine::Postgres => together(rows),
        })
    }

    /// What a node has kept of a day, of all tunnels.
    pub async fn tunnels_on(&self, day: i32, node: &str) -> Result<Vec<TunnelDay>> {
        let mut query = self.select();
        query.push(" WHERE day = ").push_bind(day);
        if self.engine() == Engine::Postgres {
            query.push(" AND node = ").push_bind(node);
        }
        query.all().await
    }

    /// The tunnels that were up at least once and are not removed.
    pub async fn tunnels_ever_seen(&self) -> Result<Vec<TunnelId>> {
        let tunnels = self
            .readers
            .sql("SELECT id FROM tunnels WHERE last_seen_at IS NOT NULL AND removed_at IS NULL")
            .values()
            .await?;
        Ok(tunnels)
    }

    /// Keeps these days of a node in the place of what it had kept of them.
    pub async fn keep_tunnel_days(&self, rows: &[TunnelDay], node: &str) -> Result<()> {
        let (column, key) = match self.engine() {
            Engine::Sqlite => ("", "day, tunnel_id"),
            Engine::Postgres => (", node", "day, tunnel_id, node"),
        };
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let mut tx = self.write().await?;
            let mut query = tx.sql(format!(
                "INSERT INTO tunnel_days ({COLUMNS}{column}) VALUES "
            ));
            for (index, row) in rows.iter().enumerate() {
                query.push(if index == 0 { "(" } else { ", (" });
                query.push_bind(row.day).push(", ").push_bind(row.tunnel);
                query.push(", ").push_list([
                    row.known_ms,
                    row.up_ms,
                    row.connections,
                    row.bytes_from_bastion,
                    row.bytes_to_bastion,
                ]);
                query
                    .push(", ")
                    .push_list([&row.up_slots[..], &row.down_slots[..]]);
                if !column.is_empty() {
                    query.push(", ").push_bind(node);
                }
                query.push(")");
            }
            query.push(" ON CONFLICT (").push(key);
            query.push(
                ") DO UPDATE SET known_ms = excluded.known_ms,
                     up_ms = excluded.up_ms, connections = excluded.connections,
                     bytes_from_bastion = excluded.bytes_from_bastion,
                     bytes_to_bastion = excluded.bytes_to_bastion,
                     up_slots = excluded.up_slots, down_slots = excluded.down_slots",
            );
            // One that is not asked for again in the same words has no place among the prepared ones.
            query.once().execute().await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Forgets every other day than these.
    pub async fn forget_tunnel_days_beyond(&self, days: RangeInclusive<i32>) -> Result<()> {
        self.writer
            .sql("DELETE FROM tunnel_days WHERE day < $1 OR day > $2")
            .bind(days.start())
            .bind(days.end())
            .execute()
            .await?;
        Ok(())
    }

    fn select(&self) -> Statement<'_> {
        self.readers
            .sql(format!("SELECT {COLUMNS} FROM tunnel_days"))
    }
}
