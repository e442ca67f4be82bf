//! "Test connection", "Save", and the login that is kept for them.

use std::time::{Duration, Instant};

use super::address::reachable;
use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::inputs::{self, Invalid};
use super::logins;
use super::record::{ensure_active, ensure_exists, found};
use crate::protocol::{
    ConnectionTest, ConnectionTestResult, DataSourceId, DataSourceState, TunnelId,
};
use crate::server::probe;
use crate::server::store::{Actor, EventKind, Record, StoredLogin};
use crate::server::tunnel_server::OpenPassage;

/// How long a tunnel is waited for that passes from setup to the service.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How often it is looked for.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(100);

impl ControlPlane {
    /// Saves a data source, and its login if one is given; one that is saved already stays so.
    ///
    /// # Errors
    /// Its tunnel is not up, it is removed or being removed, the login cannot be taken, or the database failed.
    pub async fn save(
        &self,
        id: DataSourceId,
        login: Option<ConnectionTest>,
        actor: &Actor,
    ) -> Result<Record> {
        let login = login.map(checked).transpose()?;
        self.wait_for_the_tunnel(id).await?;
        let mut tx = self.store.write().await?;
        let record = ensure_active(tx.data_source(id).await?)?;
        if !record.saved {
            self.check_tunnel_is_up(&record)?;
            tx.mark_saved(id).await?;
            if let Some(tunnel) = record.tunnel_id().filter(|_| record.is_by_hand()) {
                // Nobody will report a service, nor where it leads: it was set up for what is saved.
                tx.use_up_enrollment(tunnel).await?;
                tx.set_applied(tunnel, &record.address()).await?;
            }
            tx.add_event(id, EventKind::Saved, actor).await?;
        }
        if let Some(login) = login {
            let login = self.to_store(&record, login)?;
            tx.put_login(id, &login).await?;
            tx.add_event(id, EventKind::LoginSaved, actor).await?;
        }
        let record = found(tx.data_source(id).await?)?;
        tx.commit().await?;
        self.done(id, actor, "saved");
        Ok(record)
    }

    fn to_store(&self, record: &Record, login: ConnectionTest) -> Result<StoredLogin> {
        let login = logins::completed(&self.secret, record, login)?;
        logins::to_store(&self.secret, record, login).map_err(|error| Error::internal(&error))
    }

    /// That a tunnel is up may have been said by another node, a moment before this one sees it.
    async fn wait_for_the_tunnel(&self, id: DataSourceId) -> Result<()> {
        let record = found(self.store.data_source(id).await?)?;
        let tunnel = record.tunnel_id().filter(|_| !record.saved);
        if let Some(tunnel) = tunnel.filter(|_| record.is_enrolled()) {
            self.tunnels.soon(|tunnels| tunnels.is_up(tunnel)).await;
        }
        Ok(())
    }

    /// A direct connection can be saved at any time.
    fn check_tunnel_is_up(&self, record: &Record) -> Result<()> {
        if record.tunnel.is_none() || self.is_up(record) {
            return Ok(());
        }
        Err(Error::NotYetSaved {
            enrolled: record.is_enrolled(),
            by_hand: record.is_by_hand(),
        })
    }

    /// Tests a connection with a real login and query; without a password, with the saved one. A test that
    /// fails is a good answer.
    ///
    /// # Errors
    /// It is removed, no bastion has registered, the login cannot be taken, or the database failed.
    pub async fn test(
        &self,
        id: DataSourceId,
        login: ConnectionTest,
        actor: &Actor,
    ) -> Result<ConnectionTestResult> {
        let record = ensure_exists(self.store.data_source(id).await?)?;
        self.wait_for_the_hand_over(&record).await;
        let (route, _passage) = self.route_to(&record).await?;
        let target = probe::Target {
            database_type: record.database_type,
            database: record.address().to_string(),
            route,
        };
        let login = logins::completed(&self.secret, &record, checked(login)?)?;
        let result = probe::apart::run(&target, &login).await;
        tracing::info!(data_source = id.0, ok = result.ok, "connection tested");
        let action = if result.ok {
            "connection tested: it works"
        } else {
            "connection tested: it does not work"
        };
        self.note_done(actor, action, &format!("data source {id}"))
            .await;
        Ok(result)
    }

    /// Once it is saved, a tunnel passes from setup to the bastion's service, and is away for a moment.
    async fn wait_for_the_hand_over(&self, record: &Record) {
        let is_passing_over =
            record.tunnel.is_some() && self.state(record) == DataSourceState::Saved;
        let deadline = Instant::now() + HAND_OVER;
        while is_passing_over && !self.is_up(record) && Instant::now() < deadline {
            tokio::time::sleep(HAND_OVER_PAUSE).await;
        }
    }

    /// The way to its database, and what has to be there until the test is over.
    async fn route_to(&self, record: &Record) -> Result<(probe::Route, Option<OpenPassage>)> {
        let Some(tunnel) = record.tunnel_id() else {
            let route = probe::Route::Direct {
                host: record.host.clone(),
                port: record.port,
                loopback_allowed: self.direct_loopback_allowed,
            };
            return Ok((route, None));
        };
        let remote_port = record.remote_port().ok_or(Error::NothingToTest)?;
        let passage = self.passage_to(record, tunnel).await?;
        // A port of another region is another tunnel's here.
        let own_port = record.port_in(self.regions.own_name());
        let leads_there = passage.is_some() || own_port.is_some();
        let route = probe::Route::Tunnel {
            through: match &passage {
                Some(passage) => passage.address,
                None => reachable((self.forward_listen, own_port.unwrap_or(remote_port)).into()),
            },
            is_up: leads_there && self.is_up(record),
            by_hand: record.is_by_hand(),
        };
        Ok((route, passage))
    }

    /// A way to a tunnel that only another node holds, in whichever region.
    async fn passage_to(&self, record: &Record, tunnel: TunnelId) -> Result<Option<OpenPassage>> {
        let port = record.remote_port().ok_or(Error::NothingToTest)?;
        let local = self.tunnels.local();
        let is_here = local.is_some_and(|local| local.is_up(tunnel));
        let Some(passage) = self.tunnels.passage().filter(|_| !is_here) else {
            return Ok(None);
        };
        let Some(node) = self.tunnels.nodes_with(tunnel).pop_first() else {
            return Ok(None);
        };
        let next = record.next_place().map(|next| next.port);
        let mut ports = [Some(port), next].into_iter().flatten();
        let Some(port) = ports.find(|port| passage.leads_to(tunnel, *port)) else {
            return Err(Error::HeldOutOfReach(node));
        };
        let open = passage.open(tunnel, port).await;
        open.map(Some).map_err(|error| Error::internal(&error))
    }

    /// Erases a data source's saved login. There may be none.
    pub async fn forget_login(&self, id: DataSourceId, actor: &Actor) -> Result<()> {
        let mut tx = self.store.write().await?;
        let record = ensure_exists(tx.data_source(id).await?)?;
        if record.login.is_some() {
            tx.erase_login(id).await?;
            tx.add_event(id, EventKind::LoginForgotten, actor).await?;
        }
        tx.commit().await?;
        self.done(id, actor, "login erased");
        Ok(())
    }
}

fn checked(login: ConnectionTest) -> Result<ConnectionTest, Invalid> {
    inputs::one_line("database", &login.database, 255)?;
    inputs::one_line("username", &login.username, 255)?;
    // A NUL would end the password early in most database protocols.
    if login.password.contains('\0') {
        return Err(Invalid::new("password", "must not contain a NUL character"));
    }
    Ok(login)
}
