//! A tunnel's way from one region to another: while it lasts, a port of each is the tunnel's own.

use std::time::Duration;

use super::sql::Port;
use super::{Result, Store, Writing, json, milliseconds};
use crate::protocol::{DataSourceId, TunnelId};

/// A tunnel that has been seen in the region to which it moves.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct MoveSeen {
    #[sqlx(rename = "id")]
    pub tunnel: TunnelId,
    /// Whose tunnel that is.
    #[sqlx(rename = "data_source_id")]
    pub data_source: DataSourceId,
    /// Where it was seen.
    #[sqlx(rename = "next_region")]
    pub region: String,
}

impl Store {
    /// The tunnels that were first seen in their next regions this long ago, or longer.
    pub async fn moves_seen_for(&self, span: Duration) -> Result<Vec<MoveSeen>> {
        self.readers
            .sql("SELECT id, data_source_id, next_region FROM tunnels WHERE next_region_seen_at <= now_ms() - $1")
            .bind(milliseconds(span))
            .all()
            .await
    }

    /// The tunnels that are to move to this region and were not seen there yet.
    pub async fn moves_unseen(&self, region: &str) -> Result<Vec<TunnelId>> {
        self.readers
            .sql("SELECT id FROM tunnels WHERE next_region = $1 AND next_region_seen_at IS NULL")
            .bind(region)
            .values()
            .await
    }

    /// Notes of these tunnels that they were seen now where they are to move.
    pub async fn note_moves_seen(&self, tunnels: &[TunnelId]) -> Result<()> {
        let mut tx = self.write().await?;
        tx.sql(
            "UPDATE tunnels SET next_region_seen_at = now_ms() WHERE next_region IS NOT NULL
                 AND id IN (SELECT CAST(value AS BIGINT) FROM json_each($1))",
        )
        .bind(json(tunnels)?)
        .execute()
        .await?;
        tx.commit().await
    }
}

impl Writing {
    /// Puts a tunnel that nobody has enrolled for into another region.
    pub async fn set_region(&mut self, tunnel: TunnelId, region: &str) -> Result<()> {
        self.sql("UPDATE tunnels SET region = $1 WHERE id = $2 AND remote_port IS NULL")
            .bind(region)
            .bind(tunnel)
            .execute()
            .await?;
        Ok(())
    }

    /// Gives a tunnel a port in the region to which it is to move. One that it was given in another one rests.
    pub async fn begin_move(&mut self, tunnel: TunnelId, region: &str, port: u16) -> Result<()> {
        self.rest_next_port(tunnel).await?;
        self.set_next(tunnel, Some((region, port))).await
    }

    /// Takes that back, if the tunnel is to move: the port there rests.
    pub async fn end_move(&mut self, tunnel: TunnelId) -> Result<()> {
        self.rest_next_port(tunnel).await?;
        self.set_next(tunnel, None).await
    }

    /// Notes that a tunnel has moved: its port of before rests.
    pub async fn finish_move(&mut self, tunnel: TunnelId) -> Result<()> {
        self.rest_port(
            "SELECT region, remote_port, now_ms() FROM tunnels WHERE id = $1 AND next_region IS NOT NULL",
            tunnel,
        )
        .await?;
        self.sql(
            "UPDATE tunnels SET region = next_region, remote_port = next_port, next_region = NULL, next_port = NULL,
                 next_region_seen_at = NULL
             WHERE id = $1 AND next_region IS NOT NULL",
        )
        .bind(tunnel)
        .execute()
        .await?;
        Ok(())
    }

    async fn set_next(&mut self, tunnel: TunnelId, next: Option<(&str, u16)>) -> Result<()> {
        self.sql(
            "UPDATE tunnels SET next_region = $1, next_port = $2, next_region_seen_at = NULL WHERE id = $3",
        )
        .bind(next.map(|(region, _)| region))
        .bind(next.map(|(_, port)| Port(port)))
        .bind(tunnel)
        .execute()
        .await?;
        Ok(())
    }

    /// Its bastion may know that port already.
    async fn rest_next_port(&mut self, tunnel: TunnelId) -> Result<()> {
        self.rest_port(
            "SELECT next_region, next_port, now_ms() FROM tunnels WHERE id = $1 AND next_port IS NOT NULL",
            tunnel,
        )
        .await
    }

    async fn rest_port(&mut self, which: &str, tunnel: TunnelId) -> Result<()> {
        self.sql(format!(
            "INSERT INTO former_ports (region, port, released_at) {which}
             ON CONFLICT (region, port) DO UPDATE SET released_at = excluded.released_at"
        ))
        .bind(tunnel)
        .execute()
        .await?;
        Ok(())
    }
}
