//! Data sources: creation, change, save and removal, each with its tunnel in one transaction.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::events::{self, EventKind};
use super::logins::{self, StoredLogin};
use super::{Record, Result, Store, StoreError, keys, now, tokens};
use crate::protocol::{DataSourceId, DatabaseType, TunnelId};
use crate::server::domain::token::{TokenHash, TokenKind};

/// A data source to create; its values are checked already.
#[derive(Debug)]
pub struct NewRecord {
    /// What the operator calls it.
    pub display_name: String,
    /// The database behind it.
    pub database_type: DatabaseType,
    /// The database's host as the bastion sees it.
    pub host: String,
    /// The database's port as the bastion sees it.
    pub port: u16,
    /// Which of the vendor's tunnel servers.
    pub region: Option<String>,
    /// Its tunnel's enrollment; absent for a direct connection, which has no tunnel.
    pub enrollment: Option<NewEnrollment>,
}

/// The token with which a bastion shall register.
#[derive(Debug)]
pub struct NewEnrollment {
    /// Its hash.
    pub token: TokenHash,
    /// When it stops working.
    pub expires_at: jiff::Timestamp,
}

/// New values; what is absent stays as it is.
#[derive(Debug)]
pub struct Change {
    /// The new name.
    pub display_name: Option<String>,
    /// The database's new host.
    pub host: Option<String>,
    /// The database's new port.
    pub port: Option<u16>,
}

impl Store {
    /// Creates a data source, and unless it is reached directly, its tunnel with an enrollment token.
    ///
    /// # Errors
    /// The database failed.
    pub async fn create(&self, new: &NewRecord, actor: &str) -> Result<Record> {
        let mut tx = self.write().await?;
        let id: DataSourceId = sqlx::query_scalar(
            "INSERT INTO data_sources (display_name, database_type, host, port, region, created_at)
             VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(&new.display_name)
        .bind(new.database_type.as_str())
        .bind(&new.host)
        .bind(new.port)
        .bind(&new.region)
        .bind(now())
        .fetch_one(&mut *tx)
        .await?;
        if let Some(enrollment) = &new.enrollment {
            add_tunnel(&mut tx, id, enrollment).await?;
        }
        events::record(&mut tx, id, EventKind::Created, actor).await?;
        let record = by_id(&mut tx, id).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// All data sources that are not removed, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn data_sources(&self) -> Result<Vec<Record>> {
        let records = QueryBuilder::<Sqlite>::new(Record::SELECT)
            .push(" WHERE d.removed_at IS NULL ORDER BY d.id")
            .build_query_as()
            .fetch_all(&self.readers)
            .await?;
        Ok(records)
    }

    /// One data source, also if it is removed.
    ///
    /// # Errors
    /// It never was, or the database failed.
    pub async fn data_source(&self, id: DataSourceId) -> Result<Record> {
        by_id(&mut *self.readers.acquire().await?, id).await
    }

    /// Changes name or target. The bastion picks the target up when it next asks.
    ///
    /// # Errors
    /// It is removed or being removed, or the database failed.
    pub async fn change(&self, id: DataSourceId, change: &Change, actor: &str) -> Result<Record> {
        let mut tx = self.write().await?;
        staying(by_id(&mut tx, id).await?)?;
        sqlx::query(
            "UPDATE data_sources SET display_name = coalesce(?, display_name),
                 host = coalesce(?, host), port = coalesce(?, port) WHERE id = ?",
        )
        .bind(&change.display_name)
        .bind(&change.host)
        .bind(change.port)
        .bind(id)
        .execute(&mut *tx)
        .await?;
        events::record(&mut tx, id, EventKind::Changed, actor).await?;
        let record = by_id(&mut tx, id).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Saves a data source, and its login if one is given; one that is saved already stays so.
    ///
    /// # Errors
    /// It is removed or being removed, or the database failed.
    pub async fn save(
        &self,
        id: DataSourceId,
        login: Option<&StoredLogin>,
        actor: &str,
    ) -> Result<Record> {
        let mut tx = self.write().await?;
        let record = staying(by_id(&mut tx, id).await?)?;
        if !record.is_saved() {
            sqlx::query("UPDATE data_sources SET saved_at = ? WHERE id = ?")
                .bind(now())
                .bind(id)
                .execute(&mut *tx)
                .await?;
            events::record(&mut tx, id, EventKind::Saved, actor).await?;
        }
        if let Some(login) = login {
            logins::put(&mut tx, id, login).await?;
            events::record(&mut tx, id, EventKind::LoginSaved, actor).await?;
        }
        let record = by_id(&mut tx, id).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Erases a data source's saved login. There may be none.
    ///
    /// # Errors
    /// It is removed, or the database failed.
    pub async fn forget_login(&self, id: DataSourceId, actor: &str) -> Result<()> {
        let mut tx = self.write().await?;
        let record = present(by_id(&mut tx, id).await?)?;
        if record.login.is_some() {
            logins::erase(&mut tx, id).await?;
            events::record(&mut tx, id, EventKind::LoginForgotten, actor).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Marks a data source for removal and keeps the token of its removal command, which replaces
    /// an earlier one.
    ///
    /// # Errors
    /// It is removed already, it has no tunnel, or the database failed.
    pub async fn request_removal(
        &self,
        id: DataSourceId,
        removal: &TokenHash,
        expires_at: jiff::Timestamp,
        actor: &str,
    ) -> Result<Record> {
        let mut tx = self.write().await?;
        let record = present(by_id(&mut tx, id).await?)?;
        let tunnel = record.tunnel_id().ok_or(StoreError::NoTunnel)?;
        sqlx::query("UPDATE data_sources SET removing_at = coalesce(removing_at, ?) WHERE id = ?")
            .bind(now())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        tokens::forget(&mut tx, TokenKind::Removal, tunnel).await?;
        tokens::add(
            &mut tx,
            TokenKind::Removal,
            removal,
            tunnel,
            Some(expires_at),
        )
        .await?;
        events::record(&mut tx, id, EventKind::RemovalRequested, actor).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Removes a data source: its key no longer opens the tunnel, its port is free, and its login is
    /// erased. The live session is the caller's to close.
    ///
    /// # Errors
    /// It is removed already, or the database failed.
    pub async fn remove(&self, id: DataSourceId, actor: &str) -> Result<Record> {
        let mut tx = self.write().await?;
        let record = present(by_id(&mut tx, id).await?)?;
        sqlx::query("UPDATE data_sources SET removed_at = ? WHERE id = ?")
            .bind(now())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        if let Some(tunnel) = record.tunnel_id() {
            keys::forget_all(&mut tx, tunnel).await?;
        }
        logins::erase(&mut tx, id).await?;
        events::record(&mut tx, id, EventKind::Removed, actor).await?;
        tx.commit().await?;
        Ok(record)
    }
}

async fn add_tunnel(
    connection: &mut SqliteConnection,
    id: DataSourceId,
    enrollment: &NewEnrollment,
) -> Result<()> {
    let tunnel: TunnelId =
        sqlx::query_scalar("INSERT INTO tunnels (data_source_id) VALUES (?) RETURNING id")
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
    let kind = TokenKind::Enrollment;
    let expires_at = Some(enrollment.expires_at);
    tokens::add(connection, kind, &enrollment.token, tunnel, expires_at).await
}

async fn by_id(connection: &mut SqliteConnection, id: DataSourceId) -> Result<Record> {
    QueryBuilder::<Sqlite>::new(Record::SELECT)
        .push(" WHERE d.id = ")
        .push_bind(id)
        .build_query_as()
        .fetch_optional(connection)
        .await?
        .ok_or(StoreError::NotFound)
}

/// Passes a record that is not removed.
pub(super) fn present(record: Record) -> Result<Record> {
    match record.is_removed() {
        true => Err(StoreError::NotFound),
        false => Ok(record),
    }
}

/// Passes a record that is neither removed nor being removed.
pub(super) fn staying(record: Record) -> Result<Record> {
    let record = present(record)?;
    match record.is_leaving() {
        true => Err(StoreError::WrongState(record.state(false))),
        false => Ok(record),
    }
}
