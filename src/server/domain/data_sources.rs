//! What operators do with data sources: create, change, give another command, remove.

use std::time::Duration;

use super::commands::CommandToken;
use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::inputs::{self, Invalid};
use super::record::{ensure_active, ensure_exists, found};
use super::token::TokenKind;
use crate::protocol::{
    ConnectionKind, DataSourceChange, DataSourceId, DataSourceState, NewDataSource,
};
use crate::server::store::{Actor, EventKind, Record, Region, Writing};

/// How long a removal command works. Long, since a tunnel is often deleted when nobody is at hand.
const REMOVAL_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

impl ControlPlane {
    /// Creates a data source, with a command for the bastion unless it is reached directly.
    pub async fn create(
        &self,
        new: NewDataSource,
        actor: &Actor,
    ) -> Result<(Record, Option<CommandToken>)> {
        let region = self.region_of_new(&new).await?;
        let mut tx = self.store.write().await?;
        let created = self.create_in(&mut tx, new, region, actor).await?;
        tx.commit().await?;
        self.done(created.0.id, actor, "created");
        Ok(created)
    }

    /// Where a new tunnel ends; nowhere if the database is reached directly. Asked before anything is written, since it
    /// may have to be read.
    pub(super) async fn region_of_new(&self, new: &NewDataSource) -> Result<Option<Region>> {
        match (new.connection, new.region.as_deref()) {
            (ConnectionKind::Direct, None) => Ok(None),
            (ConnectionKind::Direct, asked @ Some(_)) => self.region_for(asked).await.map(|_| None),
            (ConnectionKind::ReverseTunnel, asked) => self.region_for(asked).await.map(Some),
        }
    }

    pub(super) async fn create_in(
        &self,
        tx: &mut Writing,
        new: NewDataSource,
        region: Option<Region>,
        actor: &Actor,
    ) -> Result<(Record, Option<CommandToken>)> {
        let new = checked(new)?;
        let id = tx.add_data_source(&new).await?;
        let mut command = None;
        if let Some(region) = region {
            let kind = TokenKind::Enrollment;
            let new = self.new_command(tx, kind, self.enrollment_ttl).await?;
            let tunnel = tx.add_tunnel(id, &region.name).await?;
            tx.add_token(&new.to_keep(tunnel)).await?;
            command = Some(new);
        }
        tx.add_event(id, EventKind::Created, actor).await?;
        let record = found(tx.data_source(id).await?)?;
        Ok((record, command.map(CommandToken::from)))
    }

    /// Gives a data source another setup command; the one before stops working.
    ///
    /// # Errors
    /// Its service is installed, it has no tunnel, it is being removed or gone, or the database failed.
    pub async fn renew_command(&self, id: DataSourceId, actor: &Actor) -> Result<()> {
        let mut tx = self.store.write().await?;
        let kind = TokenKind::Enrollment;
        let command = self.new_command(&mut tx, kind, self.enrollment_ttl).await?;
        let record = ensure_active(tx.data_source(id).await?)?;
        let state = record.state(false);
        if state == DataSourceState::Down {
            return Err(Error::WrongState(state));
        }
        let tunnel = record.tunnel_id().ok_or(Error::NoTunnel)?;
        tx.replace_token(&command.to_keep(tunnel)).await?;
        let subject = format!("data source {id}");
        tx.add_audit(actor, "setup command replaced", &subject)
            .await?;
        tx.commit().await?;
        self.changes.announce(id);
        Ok(())
    }

    /// Changes name, target or region. The bastion picks target and region up when it next asks.
    ///
    /// # Errors
    /// A value is not valid, it is removed or being removed, or the database failed.
    pub async fn change(
        &self,
        id: DataSourceId,
        change: DataSourceChange,
        actor: &Actor,
    ) -> Result<Record> {
        let change = checked_change(change)?;
        if let Some(region) = &change.region {
            self.region_for(Some(region)).await?;
        }
        let mut tx = self.store.write().await?;
        let record = ensure_active(tx.data_source(id).await?)?;
        tx.change_data_source(id, &change).await?;
        if let Some(region) = &change.region {
            self.move_to(&mut tx, &record, region, actor).await?;
        }
        tx.add_event(id, EventKind::Changed, actor).await?;
        let record = found(tx.data_source(id).await?)?;
        tx.commit().await?;
        if change.region.is_some() {
            self.keys_changed().await;
        }
        self.done(id, actor, "changed");
        Ok(record)
    }

    /// Asks for a data source's removal, and gives the command for its bastion, which replaces an earlier one.
    /// With `now`, or if no program of ours is to be told, since none has registered, it was set up by hand or it
    /// is reached directly, it is removed at once, and there is no command.
    pub async fn remove(
        &self,
        id: DataSourceId,
        now: bool,
        actor: &Actor,
    ) -> Result<Option<CommandToken>> {
        let mut tx = self.store.write().await?;
        let record = ensure_exists(tx.data_source(id).await?)?;
        let answers = record.is_enrolled() && !record.is_by_hand();
        let Some(tunnel) = record.tunnel_id().filter(|_| answers && !now) else {
            self.remove_now(tx, record, actor).await?;
            return Ok(None);
        };
        let kind = TokenKind::Removal;
        let command = self.new_command(&mut tx, kind, REMOVAL_TTL).await?;
        tx.mark_removing(id).await?;
        tx.replace_token(&command.to_keep(tunnel)).await?;
        tx.add_event(id, EventKind::RemovalRequested, actor).await?;
        tx.commit().await?;
        self.done(id, actor, "removal asked for");
        Ok(Some(command.into()))
    }

    /// Removes a data source: its key no longer opens the tunnel, whose session ends, its port rests before another
    /// tunnel gets it, and its login is erased.
    pub(super) async fn remove_now(
        &self,
        mut tx: Writing,
        record: Record,
        actor: &Actor,
    ) -> Result<()> {
        let id = record.id;
        tx.mark_removed(id).await?;
        if let Some(tunnel) = record.tunnel_id() {
            tx.retire_tunnel(tunnel).await?;
        }
        tx.erase_login(id).await?;
        tx.add_event(id, EventKind::Removed, actor).await?;
        tx.commit().await?;
        if let Some(tunnel) = record.tunnel_id() {
            self.keys_changed().await;
            self.tunnels.close_tunnel(tunnel).await;
        }
        self.done(id, actor, "removed");
        Ok(())
    }

    /// Says what was done with a data source, to the log and to whoever waits.
    pub(super) fn done(&self, id: DataSourceId, actor: &Actor, what: &'static str) {
        tracing::info!(data_source = id.0, %actor, "{what}");
        self.changes.announce(id);
    }
}

fn checked(new: NewDataSource) -> Result<NewDataSource, Invalid> {
    Ok(NewDataSource {
        display_name: inputs::display_name(&new.display_name)?,
        host: inputs::host("host", &new.host)?,
        port: inputs::port("port", new.port)?,
        ..new
    })
}

fn checked_change(change: DataSourceChange) -> Result<DataSourceChange, Invalid> {
    let name = change.display_name.as_deref().map(inputs::display_name);
    let host = change.host.as_deref();
    Ok(DataSourceChange {
        display_name: name.transpose()?,
        host: host.map(|host| inputs::host("host", host)).transpose()?,
        port: change
            .port
            .map(|port| inputs::port("port", port))
            .transpose()?,
        region: change.region,
    })
}
