//! MySQL and MariaDB.
//!
//! What is agreed on in the stage `tls` is seen on a connection of its own; the driver then makes its own
//! connection in just that way. The first one ends before a login. MySQL counts that as an interrupted
//! attempt, of which a hundred in a row (`max_connect_errors`) block a host; the login that follows ends
//! the row. MariaDB 10.11 blocked nobody for connections that end so.

use std::time::Instant;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use tokio::io::AsyncWriteExt;

use super::allowance::Socket;
use super::contact;
use super::driver::{
    Answer, Driver, Found, Place, Reached, Ready, Session, query_failure, refused, remedy,
};
use super::relay::Relay;
use super::report::Failure;
use super::tls::{self, Agreement};
use crate::protocol::{ConnectionTest, TlsMode};
use crate::wire_probe::mysql::{self, Opening};

/// By the numbers of MySQL's and MariaDB's error lists.
const REMEDIES: [(&[u16], &str); 9] = [
    // 1698: the user logs in by another way than a password.
    (&[1045, 1698], "Check user name and password."),
    (&[1049], "Check the database's name."),
    (
        &[1044, 1142],
        "Grant this user rights on the database, or check the database's name.",
    ),
    (
        &[1130],
        "Create the database's user for the address that the database sees (`CREATE USER name@address`): it \
         admits no user from there.",
    ),
    (
        &[1129],
        "Unblock that address at the database with `FLUSH HOSTS` or `TRUNCATE performance_schema.host_cache`.",
    ),
    (
        &[1040, 1203, 1226],
        "The database, or this user, has too many connections: close some, or raise the limit \
         (max_connections, max_user_connections).",
    ),
    (
        &[3159],
        "The database wants TLS: choose the TLS mode `require`.",
    ),
    (
        &[1251, 2059],
        "Give this user the authentication plugin caching_sha2_password or mysql_native_password.",
    ),
    (
        &[1820, 1862, 3118, 4151],
        "This user's password has expired or the account is locked: renew or unlock it at the database.",
    ),
];

/// The driver of sqlx.
pub(super) struct MySql;

#[async_trait]
impl Driver for MySql {
    async fn reach(&self, place: &Place, _: TlsMode) -> Result<Found<dyn Reached>, Failure> {
        let (stream, opening) = contact::open(place, &mysql::MySql).await?;
        match opening {
            Opening::Refusal(refusal) => {
                Err(refused(refusal.to_string(), &REMEDIES, &refusal.code))
            }
            Opening::Greeting {
                version,
                offers_tls,
            } => Ok(Found::new(
                format!("{} is {}", place.database, mysql::product(&version)),
                Box::new(Answering {
                    place: place.clone(),
                    stream,
                    offers_tls,
                }),
            )),
        }
    }
}

struct Answering {
    place: Place,
    stream: Socket,
    offers_tls: bool,
}

#[async_trait]
impl Reached for Answering {
    async fn encrypt(mut self: Box<Self>, tls: TlsMode) -> Result<Found<dyn Ready>, Failure> {
        let agreement = tls::agree(tls, self.offers_tls, "`ssl_cert` and `ssl_key` in my.cnf")?;
        let (said, ssl_mode) = match agreement {
            Agreement::Plain(said) => (said, MySqlSslMode::Disabled),
            Agreement::Encrypted => {
                let asked = self.stream.write_all(&mysql::encryption_request()).await;
                asked.map_err(|error| tls::failure(&error))?;
                let said = tls::trial(self.stream, &self.place).await?;
                (said, MySqlSslMode::Required)
            }
        };
        let ready = Agreed {
            place: self.place,
            ssl_mode,
        };
        Ok(Found::new(said, Box::new(ready)))
    }
}

struct Agreed {
    place: Place,
    ssl_mode: MySqlSslMode,
}

#[async_trait]
impl Ready for Agreed {
    async fn login(self: Box<Self>, login: &ConnectionTest) -> Result<Box<dyn Session>, Failure> {
        let relay = Relay::to(&self.place).await?;
        let options = MySqlConnectOptions::new()
            .host(&relay.host())
            .port(relay.port())
            .database(&login.database)
            .username(&login.username)
            .password(&login.password)
            .ssl_mode(self.ssl_mode)
            // A test changes nothing about its session.
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false);
        let options = sqlx::ConnectOptions::disable_statement_logging(options);
        match MySqlConnection::connect_with(&options).await {
            Ok(connection) => Ok(Box::new(LoggedIn(connection, relay))),
            Err(error) => Err(Failure::new(words(&error), login_remedy(&error))),
        }
    }
}

struct LoggedIn(MySqlConnection, Relay);

#[async_trait]
impl Session for LoggedIn {
    async fn query(&mut self) -> Result<Answer, Failure> {
        self.select()
            .await
            .map_err(|error| query_failure(words(&error)))
    }

    async fn close(self: Box<Self>) {
        // Whether the database takes note changes nothing.
        let LoggedIn(connection, relay) = *self;
        let _ = connection.close().await;
        relay.end().await;
    }
}

impl LoggedIn {
    async fn select(&mut self) -> sqlx::Result<Answer> {
        let started = Instant::now();
        sqlx::raw_sql("SELECT 1").execute(&mut self.0).await?;
        let round_trip = started.elapsed();
        let row = sqlx::Executor::fetch_one(&mut self.0, sqlx::raw_sql("SELECT VERSION()")).await?;
        let version: String = sqlx::Row::try_get(&row, 0)?;
        Ok(Answer {
            round_trip,
            version: mysql::product(&version),
        })
    }
}

fn login_remedy(error: &sqlx::Error) -> &'static str {
    let code = database_error(error).map(MySqlDatabaseError::number);
    match (remedy(&REMEDIES, code.as_ref()), error) {
        (Some(remedy), _) => remedy,
        (None, sqlx::Error::Protocol(words)) if words.contains("authentication plugin") => {
            "Give this user the authentication plugin caching_sha2_password or mysql_native_password; this \
             version knows no other."
        }
        (None, sqlx::Error::Tls(_)) => {
            "TLS could not be agreed on: turn it on at the database, or choose another TLS mode."
        }
        (None, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => {
            "Check whether host and port belong to a MySQL or MariaDB server, and at its log."
        }
        (None, _) => "Look at the database's own log.",
    }
}

/// The database's own words where there are some.
fn words(error: &sqlx::Error) -> String {
    match database_error(error) {
        Some(error) => format!("{} ({})", error.message(), error.number()),
        None => error.to_string(),
    }
}

fn database_error(error: &sqlx::Error) -> Option<&MySqlDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}
