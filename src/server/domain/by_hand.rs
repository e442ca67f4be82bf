//! Tunnels that a person sets up with plain ssh, where our program does not run.
//!
//! That it is so is a fact of the tunnel, kept from its registration on. Nobody reports a service there, so
//! once the data source is saved, the tunnel is active or down as the tunnel server sees it; a removal takes
//! effect at once; and where the tunnel leads, an operator says.

use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::host_keys;
use super::public_key;
use super::record::{ensure_active, found};
use super::token::{Token, TokenKind};
use crate::protocol::{DataSourceId, KeyByHand, TunnelId};
use crate::server::store::{Actor, EventKind, Record, Region, Registration, Source, Writing};

impl ControlPlane {
    /// Registers the public key of a machine on which a person sets the tunnel up, and gives the tunnel a
    /// port. Another key takes the place of one that was registered like that, at once; the same key again
    /// tells the host keys of now.
    ///
    /// # Errors
    /// It is not a key that can be taken, it opens other tunnels and that is not confirmed, a bastion has
    /// enrolled by its command, no port is free, the data source has no tunnel or is leaving, or the database
    /// failed.
    pub async fn register_by_hand(
        &self,
        id: DataSourceId,
        key: KeyByHand,
        actor: &Actor,
    ) -> Result<Record> {
        let public_key = public_key::normalize(&key.public_key).map_err(Error::InvalidKey)?;
        self.data_source(id).await?;
        let mut tx = self.store.write().await?;
        let record = ensure_active(tx.data_source(id).await?)?;
        let tunnel = record.tunnel_id().ok_or(Error::NoTunnel)?;
        if record.is_enrolled() && !record.is_by_hand() {
            return Err(Error::EnrolledByCommand);
        }
        let region = self.ready_region(record.region().ok_or(Error::NoTunnel)?)?;
        let told = host_keys::fingerprints(&self.host_keys_of(&region.name))?;
        // What is told while it is to move are the other region's: they are noted once it has moved.
        let is_told = record.next_place().is_none();
        let present = tx.keys(tunnel).await?.current;
        if present.as_ref() == Some(&public_key) {
            if is_told {
                tx.note_host_keys(tunnel, &told, Source::Told).await?;
            }
            tx.commit().await?;
            return Ok(record);
        }
        let others = tx.others_with_key(tunnel, &public_key).await?;
        if !others.is_empty() && !key.shared {
            return Err(Error::KeyElsewhere(others));
        }
        let is_first = present.is_none();
        let event = if is_first {
            self.enroll_by_hand(&mut tx, tunnel, &region, &public_key, actor)
                .await?;
            EventKind::KeyRegistered
        } else {
            tx.replace_key(tunnel, &public_key, &actor.to_string())
                .await?;
            EventKind::KeyReplaced
        };
        if is_told {
            tx.note_host_keys(tunnel, &told, Source::Told).await?;
        }
        tx.add_event(id, event, actor).await?;
        let record = found(tx.data_source(id).await?)?;
        tx.commit().await?;
        if !is_first {
            self.keys_changed().await;
            self.close_other_keys(tunnel, &public_key).await;
        }
        self.done(id, actor, event.into_str());
        Ok(record)
    }

    async fn enroll_by_hand(
        &self,
        tx: &mut Writing,
        tunnel: TunnelId,
        region: &Region,
        public_key: &str,
        actor: &Actor,
    ) -> Result<()> {
        let port = self.choose_port(tx, region).await?;
        // No token was presented. A tunnel's own token is derived from one that nobody has.
        let credential = Token::from_bytes(TokenKind::Enrollment, &rand::random()).hash();
        let operator = actor.to_string();
        let registration = Registration {
            public_key,
            by_hand: true,
            operator: Some(&operator),
            ..Registration::default()
        };
        Ok(tx.enroll(tunnel, port, &credential, &registration).await?)
    }

    /// Notes that a tunnel that is set up by hand leads to the present host and port, and has moved to the region
    /// where it is to be. While it is not up there, a new host or port alone is noted.
    ///
    /// # Errors
    /// It is not set up by hand, it is not up in that region and there is nothing else to note, the data source is
    /// leaving, or the database failed.
    pub async fn confirm_target(&self, id: DataSourceId, actor: &Actor) -> Result<Record> {
        let known = self.data_source(id).await?;
        let mut moved_to = known.next_place().filter(|_| known.is_by_hand());
        if let Some(next) = moved_to {
            match self.check_moved(&known, &next.region).await {
                Err(Error::TunnelDown) if known.pending().is_some() => moved_to = None,
                checked => checked?,
            }
        }
        let mut tx = self.store.write().await?;
        let record = ensure_active(tx.data_source(id).await?)?;
        let tunnel = record.tunnel_id().ok_or(Error::NoTunnel)?;
        if !record.is_by_hand() {
            return Err(Error::NotByHand);
        }
        if let Some(next) = moved_to {
            self.finish_move(&mut tx, &record, &next.region, actor)
                .await?;
        }
        if record.pending().is_some() {
            tx.set_applied(tunnel, &record.address()).await?;
            tx.add_event(id, EventKind::TargetConfirmed, actor).await?;
        }
        let record = found(tx.data_source(id).await?)?;
        tx.commit().await?;
        if moved_to.is_some() {
            self.keys_changed().await;
        }
        self.done(id, actor, "target confirmed");
        Ok(record)
    }
}
