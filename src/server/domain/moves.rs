//! A tunnel moves from one region to another.
//!
//! An operator says where to. From then on a port is reserved for it there, and its key opens that, too; the tunnel
//! itself goes on as before. Its bastion moves it when `update-tunnel` runs there, and says so; or it is seen there for
//! long enough. Only then the port of before is given up: a bastion that never comes loses nothing.

use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::host_keys;
use super::inputs::Invalid;
use crate::protocol::TunnelId;
use crate::server::store::{Actor, EventKind, Record, Source, Writing};

impl ControlPlane {
    /// Has a tunnel move to this region; to the one in which it is takes that back. Where its bastion has moved it
    /// already and has not said so yet, that is noted first: its way back is a move like any other.
    pub(super) async fn move_to(
        &self,
        tx: &mut Writing,
        record: &Record,
        region: &str,
        actor: &Actor,
    ) -> Result<()> {
        let Some(tunnel) = &record.tunnel else {
            return Err(Error::NoTunnel);
        };
        if tunnel
            .next
            .as_ref()
            .is_some_and(|next| next.region == region)
        {
            return Ok(());
        }
        let present = match &tunnel.next {
            Some(next) if self.is_up_in(tunnel.id, &next.region) => {
                self.finish_move(tx, record, &next.region, actor).await?;
                &next.region
            }
            _ => &tunnel.region,
        };
        if present == region {
            return Ok(tx.end_move(tunnel.id).await?);
        }
        if tunnel.remote_port.is_none() {
            return Ok(tx.set_region(tunnel.id, region).await?);
        }
        let region = self.ready_region(region)?;
        let port = self.choose_port(tx, &region).await?;
        Ok(tx.begin_move(tunnel.id, &region.name, port).await?)
    }

    /// Looks whether a tunnel is up in the region of which its bastion says that it has moved there.
    pub(super) async fn check_moved(&self, record: &Record, region: &str) -> Result<()> {
        let Some(tunnel) = &record.tunnel else {
            return Err(Error::NoTunnel);
        };
        let is_next = tunnel
            .next
            .as_ref()
            .is_some_and(|next| next.region == region);
        if !is_next && tunnel.region != region {
            let rule = "is not the one in which this tunnel is to be";
            return Err(Invalid::new("region", rule).into());
        }
        if is_next && !self.is_soon_up_in(tunnel.id, region).await {
            return Err(Error::TunnelDown);
        }
        Ok(())
    }

    fn is_up_in(&self, tunnel: TunnelId, region: &str) -> bool {
        let own = self.regions.own_name();
        self.tunnels.is_up_in(tunnel, region, own)
    }

    async fn is_soon_up_in(&self, tunnel: TunnelId, region: &str) -> bool {
        let own = self.regions.own_name();
        self.tunnels
            .soon(|tunnels| tunnels.is_up_in(tunnel, region, own))
            .await
    }

    /// Notes that a tunnel has moved to this region, if it was to.
    pub(super) async fn finish_move(
        &self,
        tx: &mut Writing,
        record: &Record,
        region: &str,
        actor: &Actor,
    ) -> Result<()> {
        let Some(tunnel) = &record.tunnel else {
            return Ok(());
        };
        if tunnel
            .next
            .as_ref()
            .is_some_and(|next| next.region == region)
        {
            tx.finish_move(tunnel.id).await?;
            let told = host_keys::fingerprints(&self.host_keys_of(region))?;
            if !told.is_empty() {
                tx.note_host_keys(tunnel.id, &told, Source::Told).await?;
            }
            tx.add_event(record.id, EventKind::Moved, actor).await?;
            tracing::info!(tunnel = tunnel.id.0, region, "moved");
        }
        Ok(())
    }

    /// Notes which tunnels are seen here that are to move here, and ends the moves of those that were first seen long
    /// enough ago and whose bastions have not said so.
    pub async fn end_moves(&self) -> Result<()> {
        if let Some(local) = self.tunnels.local() {
            let coming = self.store.moves_unseen(self.regions.own_name()).await?;
            let seen: Vec<_> = coming
                .into_iter()
                .filter(|tunnel| local.is_up(*tunnel))
                .collect();
            if !seen.is_empty() {
                self.store.note_moves_seen(&seen).await?;
            }
        }
        for seen in self.store.moves_seen_for(self.key_overlap).await? {
            if !self.is_up_in(seen.tunnel, &seen.region) {
                continue;
            }
            let mut tx = self.store.write().await?;
            if let Some(record) = tx.tunnel(seen.tunnel).await? {
                self.finish_move(&mut tx, &record, &seen.region, &Actor::TunnelServer)
                    .await?;
            }
            tx.commit().await?;
            self.keys_changed().await;
            self.changes.announce(seen.data_source);
        }
        Ok(())
    }
}
