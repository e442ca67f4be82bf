//! Saved logins, one for each data source at most.

use sqlx::FromRow;

use super::sql::{Port, StoreRow};
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
    pub(super) fn from_row(row: &impl StoreRow) -> sqlx::Result<Option<Self>> {
        let Some(database) = row.value_of("login_database")? else {
            return Ok(None);
        };
        let password: Option<Vec<u8>> = row.value_of("login_password")?;
        Ok(Some(StoredLogin {
            database,
            username: row.value_of("login_username")?,
            tls: tls(row.value_of("login_tls")?)?,
            address: DatabaseAddress {
                host: row.value_of("login_host")?,
                port: row.value_of::<Port>("login_port")?.0,
            },
            password: password.map(SealedPassword),
        }))
    }
}

struct SavedLogin(DataSourceId, Option<StoredLogin>);

impl<'r, R: StoreRow> FromRow<'r, R> for SavedLogin {
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        Ok(SavedLogin(
            row.value_of("data_source_id")?,
            StoredLogin::from_row(row)?,
        ))
    }
}

fn tls(name: &str) -> sqlx::Result<TlsMode> {
    name.parse()
        .map_err(|_| sqlx::Error::Decode(format!("unknown TLS mode {name:?}").into()))
}

impl Store {
    /// At most `limit` logins with a password, of the data sources after this one.
    pub async fn saved_passwords(
        &self,
        after: DataSourceId,
        limit: u32,
    ) -> Result<Vec<(DataSourceId, StoredLogin)>> {
        let rows: Vec<SavedLogin> = self.readers.sql(
            "SELECT data_source_id, database AS login_database, username AS login_username,
                 tls AS login_tls, host AS login_host, port AS login_port, password AS login_password
             FROM logins WHERE password IS NOT NULL AND data_source_id > $1
             ORDER BY data_source_id LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .all()
        .await?;
        let logins = rows
            .into_iter()
            .filter_map(|SavedLogin(data_source, login)| Some((data_source, login?)));
        Ok(logins.collect())
    }
}

impl Writing {
    /// Keeps a login in place of the one before.
    pub async fn put_login(
        &mut self,
        data_source: DataSourceId,
        login: &StoredLogin,
    ) -> Result<()> {
        self.sql(
            "INSERT INTO logins (data_source_id, database, username, tls, host, port, password)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (data_source_id) DO UPDATE SET database = $2, username = $3, tls = $4,
                 host = $5, port = $6, password = $7",
        )
        .bind(data_source)
        .bind(&login.database)
        .bind(&login.username)
        .bind(login.tls.into_str())
        .bind(&login.address.host)
        .bind(Port(login.address.port))
        .bind(login.password.as_ref().map(|sealed| sealed.0.as_slice()))
        .execute()
        .await?;
        Ok(())
    }

    /// Erases a login. There may be none.
    pub async fn erase_login(&mut self, data_source: DataSourceId) -> Result<()> {
        self.sql("DELETE FROM logins WHERE data_source_id = $1")
            .bind(data_source)
            .execute()
            .await?;
        Ok(())
    }
}
