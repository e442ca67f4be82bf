//! What bastions do with their tunnels: enroll, report, remove.

use std::net::IpAddr;

use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::host_keys;
use super::inputs::{self, Invalid};
use super::public_key;
use super::record::{ensure_active, ensure_exists, found};
use super::token::{Token, TokenHash, TokenKind};
use crate::protocol::{DataSourceChange, DatabaseAddress, KeyRegistration, TunnelChange, TunnelId};
use crate::server::store::{Actor, EventKind, NewToken, Record, Registration, Source, Writing};

/// How many host keys a bastion may have pinned: two kinds, of a few generations.
const MOST_HOST_KEYS: usize = 16;

/// What a registration leads to; the same for the same key.
#[derive(Debug)]
pub struct Enrolled {
    /// Where the tunnel ends.
    pub region: String,
    /// The tunnel's own port there.
    pub remote_port: u16,
    /// The host keys that it is told of.
    pub host_keys: Vec<String>,
    /// The token for the tunnel's later calls.
    pub tunnel_token: Token,
}

impl ControlPlane {
    /// Registers a key for a tunnel and gives it a port, or repeats the answer for the same key.
    /// `credential` is the hash of the token that was presented, `address` where it came from.
    ///
    /// # Errors
    /// A value is not valid, another key is enrolled, no port is free, the data source is leaving, or the
    /// database failed.
    pub async fn enroll(
        &self,
        tunnel: TunnelId,
        credential: &TokenHash,
        registration: KeyRegistration,
        address: IpAddr,
    ) -> Result<Enrolled> {
        let registration = checked(registration)?;
        self.tunnel(tunnel).await?;
        let mut tx = self.store.write().await?;
        let record = ensure_active(tx.tunnel(tunnel).await?)?;
        let region = self.ready_region(record.region().ok_or(Error::NoTunnel)?)?;
        let host_keys = self.host_keys_of(&region.name);
        let told = host_keys::fingerprints(&host_keys)?;
        let (remote_port, enrolled_with) = match tx.enrollment(tunnel).await? {
            Some(enrollment) => {
                let keys = tx.keys(tunnel).await?;
                let sent = Some(registration.public_key.as_str());
                if keys.current.as_deref() != sent && keys.next.as_deref() != sent {
                    tracing::warn!(tunnel = tunnel.0, "not enrolled: another key is");
                    return Err(Error::KeyConflict);
                }
                (enrollment.port, enrollment.credential)
            }
            None => {
                let chosen = self.choose_port(&mut tx, &region).await;
                let port = chosen.inspect_err(|error| {
                    tracing::warn!(tunnel = tunnel.0, "not enrolled: {error}");
                })?;
                let registration = to_store(&registration, address);
                tx.enroll(tunnel, port, credential, &registration).await?;
                tx.add_event(record.id, EventKind::Enrolled, &Actor::Bastion(tunnel))
                    .await?;
                (port, credential.as_bytes().to_vec())
            }
        };
        tx.note_host_keys(tunnel, &told, Source::Told).await?;
        let key = &registration.public_key;
        let tunnel_token = self.secret.tunnel_token(tunnel, &enrolled_with, key);
        tx.add_token(&NewToken {
            kind: TokenKind::Tunnel,
            hash: tunnel_token.hash(),
            tunnel,
            expires_at: None,
            seed: None,
        })
        .await?;
        tx.commit().await?;
        tracing::info!(tunnel = tunnel.0, port = remote_port, "enrolled");
        self.changes.announce(record.id);
        Ok(Enrolled {
            region: region.name,
            remote_port,
            host_keys,
            tunnel_token,
        })
    }

    /// Notes that the bastion's temporary tunnel is up, if it is.
    ///
    /// # Errors
    /// It is not up, the data source is removed, or the database failed.
    pub async fn tunnel_up(&self, tunnel: TunnelId) -> Result<Record> {
        if !self.tunnels.soon(|tunnels| tunnels.is_up(tunnel)).await {
            return Err(Error::TunnelDown);
        }
        let mut tx = self.store.write().await?;
        let record = ensure_exists(tx.tunnel(tunnel).await?)?;
        tx.touch_tunnel(tunnel).await?;
        tx.add_event(record.id, EventKind::Connected, &Actor::Bastion(tunnel))
            .await?;
        tx.commit().await?;
        self.changes.announce(record.id);
        Ok(record)
    }

    /// Notes what the bastion reports, all of it or nothing. A bastion decides anyway where its tunnel leads,
    /// so it may also say so. The first time that the service runs the tunnel, the enrollment token has done
    /// its work.
    ///
    /// # Errors
    /// The service is installed before the data source was saved, a new target is given for one that
    /// is being removed, it is not up in the region to which it has moved, the tunnel is removed, or the database failed.
    pub async fn report(&self, tunnel: TunnelId, change: TunnelChange) -> Result<Record> {
        let target = change.target.map(address).transpose()?;
        let applied = change.applied.map(address).transpose()?;
        let pinned = change.host_keys.map(|keys| pinned(&keys)).transpose()?;
        if let Some(region) = &change.region {
            self.check_moved(&self.tunnel(tunnel).await?, region)
                .await?;
        }
        let mut tx = self.store.write().await?;
        let record = ensure_exists(tx.tunnel(tunnel).await?)?;
        if let Some(region) = &change.region {
            self.finish_move(&mut tx, &record, region, &Actor::Bastion(tunnel))
                .await?;
        }
        if let Some(installed) = change.service_installed {
            report_service(&mut tx, tunnel, &record, installed).await?;
        }
        if let Some(target) = target {
            let record = ensure_active(Some(record))?;
            if record.address() != target {
                let change = DataSourceChange {
                    display_name: None,
                    host: Some(target.host),
                    port: Some(target.port),
                    region: None,
                };
                tx.change_data_source(record.id, &change).await?;
                tx.add_event(record.id, EventKind::Changed, &Actor::Bastion(tunnel))
                    .await?;
            }
        }
        if let Some(applied) = applied {
            tx.set_applied(tunnel, &applied).await?;
        }
        if let Some(pinned) = pinned {
            tx.note_host_keys(tunnel, &pinned, Source::Pinned).await?;
        }
        let record = found(tx.tunnel(tunnel).await?)?;
        tx.commit().await?;
        if change.region.is_some() {
            self.keys_changed().await;
        }
        self.changes.announce(record.id);
        Ok(record)
    }

    /// Removes a tunnel with its data source, for its own bastion.
    pub async fn remove_own(&self, tunnel: TunnelId) -> Result<()> {
        let mut tx = self.store.write().await?;
        let record = ensure_exists(tx.tunnel(tunnel).await?)?;
        self.remove_now(tx, record, &Actor::Bastion(tunnel)).await
    }
}

async fn report_service(
    tx: &mut Writing,
    tunnel: TunnelId,
    record: &Record,
    installed: bool,
) -> Result<()> {
    if installed && !record.saved {
        return Err(Error::WrongState(record.state(false)));
    }
    tx.set_service_installed(tunnel, installed).await?;
    let kind = if installed {
        tx.use_up_enrollment(tunnel).await?;
        tx.clear_by_hand(tunnel).await?;
        EventKind::ServiceInstalled
    } else {
        EventKind::ServiceUninstalled
    };
    Ok(tx
        .add_event(record.id, kind, &Actor::Bastion(tunnel))
        .await?)
}

fn checked(registration: KeyRegistration) -> Result<KeyRegistration> {
    inputs::one_line("hostname", &registration.hostname, 255)?;
    inputs::one_line("os", &registration.os, 200)?;
    inputs::one_line("user", &registration.user, 64)?;
    Ok(KeyRegistration {
        public_key: public_key::normalize(&registration.public_key).map_err(Error::InvalidKey)?,
        ..registration
    })
}

fn to_store(registration: &KeyRegistration, address: IpAddr) -> Registration<'_> {
    Registration {
        public_key: &registration.public_key,
        by_hand: registration.by_hand,
        operator: None,
        hostname: Some(&registration.hostname),
        os: Some(&registration.os),
        user: Some(&registration.user),
        address: Some(address.to_canonical().to_string()),
    }
}

/// The fingerprints of the host keys that a bastion says it has pinned.
fn pinned(keys: &[String]) -> Result<Vec<String>, Invalid> {
    if !(1..=MOST_HOST_KEYS).contains(&keys.len()) {
        let rule = format!("must be from 1 to {MOST_HOST_KEYS} keys");
        return Err(Invalid::new("host_keys", rule));
    }
    host_keys::fingerprints(keys)
}

fn address(address: DatabaseAddress) -> Result<DatabaseAddress, Invalid> {
    Ok(DatabaseAddress {
        host: inputs::host("host", &address.host)?,
        port: inputs::port("port", address.port)?,
    })
}
