//! How one key takes another's place.
//!
//! While a tunnel's key is changed, both keys open it. The old one goes when the bastion confirms
//! the new one, or a bounded time after the new one was first seen with the port: whichever key the
//! bastion was left with when a change died half-way, its tunnel comes up.

use async_trait::async_trait;

use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::public_key;
use super::record::{ensure_active, ensure_exists};
use crate::protocol::{TunnelId, TunnelKey};
use crate::server::cluster::tunnels::Tunnels;
use crate::server::store::{Actor, EventKind, Store};
use crate::server::tunnel_server::{Grant, KeyAuthority};

#[async_trait]
impl KeyAuthority for Store {
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>> {
        let rows = Store::grants(self, public_key).await?;
        let grants = rows.into_iter().map(|row| Grant {
            tunnel_id: row.tunnel,
            port: row.port,
            replaces: row.replaces,
        });
        Ok(grants.collect())
    }
}

impl ControlPlane {
    /// Announces a new key for a tunnel, beside the one it has. The present key again takes back an
    /// announcement. Returns which keys open the tunnel now.
    ///
    /// # Errors
    /// The key is not valid or belongs to another bastion's tunnel, no bastion has enrolled, the data source
    /// is leaving, or the database failed.
    pub async fn announce_key(&self, tunnel: TunnelId, public_key: &str) -> Result<TunnelKey> {
        let public_key = public_key::normalize(public_key).map_err(Error::InvalidKey)?;
        let mut tx = self.store.write().await?;
        let record = ensure_active(tx.tunnel(tunnel).await?)?;
        if !record.is_enrolled() {
            return Err(Error::WrongState(record.state(false)));
        }
        let keys = tx.keys(tunnel).await?;
        let is = |key: &Option<String>| key.as_ref() == Some(&public_key);
        let answer = TunnelKey {
            former_accepted: !is(&keys.current),
            public_key: public_key.clone(),
        };
        if is(&keys.next) || (is(&keys.current) && keys.next.is_none()) {
            return Ok(answer);
        }
        if is(&keys.current) {
            tx.set_next_key(tunnel, None).await?;
        } else {
            if tx.belongs_to_other_bastion(tunnel, &public_key).await? {
                return Err(Error::KeyOfAnother);
            }
            // One that has held the port is what the bastion uses by now.
            if keys.next_seen {
                tx.promote_next_key(tunnel).await?;
            }
            tx.set_next_key(tunnel, Some(&public_key)).await?;
        }
        tx.add_event(record.id, EventKind::KeyAnnounced, &Actor::Bastion(tunnel))
            .await?;
        tx.commit().await?;
        let former_accepted = answer.former_accepted;
        tracing::info!(tunnel = tunnel.0, former_accepted, "new key announced");
        self.changes.announce(record.id);
        Ok(answer)
    }

    /// Ends the time of the old key, which opens the tunnel no more, while a session of the new one holds
    /// the port.
    ///
    /// # Errors
    /// The new key does not hold the port or was not announced, the tunnel is removed, or the database failed.
    pub async fn confirm_key(&self, tunnel: TunnelId, public_key: &str) -> Result<TunnelKey> {
        let public_key = public_key::normalize(public_key).map_err(Error::InvalidKey)?;
        let is_held = |tunnels: &Tunnels| tunnels.is_held_with(tunnel, &public_key);
        if !self.tunnels.soon(is_held).await {
            return Err(Error::NewKeyDown);
        }
        let mut tx = self.store.write().await?;
        let record = ensure_exists(tx.tunnel(tunnel).await?)?;
        let keys = tx.keys(tunnel).await?;
        if keys.next.as_ref() == Some(&public_key) {
            tx.promote_next_key(tunnel).await?;
            tx.add_event(record.id, EventKind::KeyChanged, &Actor::Bastion(tunnel))
                .await?;
            tx.commit().await?;
            self.keys_changed().await;
            // The port may have passed back to the old key since it was looked at.
            self.close_other_keys(tunnel, &public_key).await;
            tracing::info!(tunnel = tunnel.0, "new key confirmed");
            self.changes.announce(record.id);
        } else if keys.current.as_ref() != Some(&public_key) || keys.next.is_some() {
            return Err(Error::KeyConflict);
        }
        Ok(TunnelKey {
            public_key,
            former_accepted: false,
        })
    }

    /// Ends the time of every old key whose successor was first seen long enough ago, and closes what it
    /// still holds.
    pub async fn end_key_overlaps(&self) -> Result<()> {
        let over = self.store.next_keys_seen_for(self.key_overlap).await?;
        for (tunnel, data_source, key) in over {
            let mut tx = self.store.write().await?;
            if tx.keys(tunnel).await?.next.as_ref() != Some(&key) {
                continue;
            }
            tx.promote_next_key(tunnel).await?;
            tx.add_event(data_source, EventKind::KeyChanged, &Actor::TunnelServer)
                .await?;
            tx.commit().await?;
            self.keys_changed().await;
            self.close_other_keys(tunnel, &key).await;
            tracing::info!(tunnel = tunnel.0, "the old key has expired");
            self.changes.announce(data_source);
        }
        Ok(())
    }

    /// Lets this server's own table of keys take over what was just committed, so that what is closed now does not come
    /// back with its old key. The others follow.
    pub(super) async fn keys_changed(&self) {
        if let Some(keys) = &self.keys {
            keys.catch_up().await;
        }
    }

    /// Closes a tunnel whose port is held by a session of another key than this one.
    pub(super) async fn close_other_keys(&self, tunnel: TunnelId, key: &str) {
        // Other nodes learn of the change from the database.
        let holder = self.tunnels.local().and_then(|local| local.holder(tunnel));
        if holder.is_some_and(|holder| holder.public_key != key) {
            self.tunnels.close_tunnel(tunnel).await;
        }
    }
}
