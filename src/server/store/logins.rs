//! Saved logins, one for each data source at most.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Result, Store, Writing};
use crate::protocol::{DataSourceId, DatabaseAddress, TlsMode};

/// A password as it is kept: encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPassword(pub Vec<u8>);

/// A login as it is stored, with what its password is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLogin {
    /// The database's name.
    pub database: String,
    /// The user.
    pub username: String,
    /// How TLS is treated.
    pub tls: TlsMode,
    /// Where the database was when the login was saved.
    pub address: DatabaseAddress,
    /// The password; absent if the database asks for none.
    pub password: Option<SealedPassword>,
}

impl StoredLogin {
    /// The login in a row of [`super::Record::SELECT`].
    pub(super) fn from_row(row: &SqliteRow) -> sqlx::Result<Option<Self>> {
        let Some(database) = row.try_get("login_database")? else {
            return Ok(None);
        };
        let password: Option<Vec<u8>> = row.try_get("login_password")?;
        Ok(Some(StoredLogin {
            database,
            username: row.try_get("login_username")?,
            tls: tls(row.try_get("login_tls")?)?,
            address: DatabaseAddress {
                host: row.try_get("login_host")?,
                port: row.try_get("login_port")?,
            },
            password: password.map(SealedPassword),
        }))
    }
}

fn tls(name: &str) -> sqlx::Result<TlsMode> {
    TlsMode::from_name(name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown TLS mode {name:?}").into()))
}

impl Store {
    /// At most `limit` logins with a password, of the data sources after this one.
    pub async fn saved_passwords(
        &self,
        after: DataSourceId,
        limit: u32,
    ) -> Result<Vec<(DataSourceId, StoredLogin)>> {
        let rows = sqlx::query(
            "SELECT data_source_id, database AS login_database, username AS login_username,
                 tls AS login_tls, host AS login_host, port AS login_port, password AS login_password
             FROM logins WHERE password IS NOT NULL AND data_source_id > ?
             ORDER BY data_source_id LIMIT ?",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let mut logins = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(login) = StoredLogin::from_row(row)? {
                logins.push((row.try_get("data_source_id")?, login));
            }
        }
        Ok(logins)
    }
}

impl Writing {
    /// Keeps a login in place of the one before.
    pub async fn put_login(
        &mut self,
        data_source: DataSourceId,
        login: &StoredLogin,
    ) -> Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO logins (data_source_id, database, username, tls, host, port, password)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(data_source)
        .bind(&login.database)
        .bind(&login.username)
        .bind(login.tls.as_str())
        .bind(&login.address.host)
        .bind(login.address.port)
        .bind(login.password.as_ref().map(|sealed| sealed.0.as_slice()))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    /// Erases a login. There may be none.
    pub async fn erase_login(&mut self, data_source: DataSourceId) -> Result<()> {
        sqlx::query("DELETE FROM logins WHERE data_source_id = ?")
            .bind(data_source)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}
