//! PostgreSQL, and Redshift, which speaks its protocol.

use std::net::SocketAddr;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::{Driver, Failure, Session};
use crate::protocol::{ConnectionTest, TlsMode};

/// The driver of sqlx.
pub(super) struct Postgres;

#[async_trait]
impl Driver for Postgres {
    async fn login(
        &self,
        through: SocketAddr,
        login: &ConnectionTest,
    ) -> Result<Box<dyn Session>, Failure> {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&through.ip().to_string())
            .port(through.port())
            .database(&login.database)
            .username(&login.username)
            .password(&login.password)
            .ssl_mode(ssl_mode(login.tls))
            .application_name("holistics-tunnel connection test")
            // Redshift and some poolers refuse this start-up parameter.
            .extra_float_digits(None)
            .disable_statement_logging();
        match PgConnection::connect_with(&options).await {
            Ok(connection) => Ok(Box::new(LoggedIn(connection))),
            Err(error) => Err(login_failure(&error)),
        }
    }
}

fn ssl_mode(tls: Option<TlsMode>) -> PgSslMode {
    match tls.unwrap_or(TlsMode::Prefer) {
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        TlsMode::Require => PgSslMode::Require,
    }
}

struct LoggedIn(PgConnection);

#[async_trait]
impl Session for LoggedIn {
    async fn query(&mut self) -> Result<String, Failure> {
        self.select_version().await.map_err(|error| Failure {
            detail: words(&error),
            remedy: "The login works, but a plain query does not; look at the database's own log."
                .to_owned(),
        })
    }
}

impl LoggedIn {
    async fn select_version(&mut self) -> sqlx::Result<String> {
        // The simple protocol, which poolers and Redshift carry too.
        sqlx::raw_sql("SELECT 1").execute(&mut self.0).await?;
        let row = sqlx::Executor::fetch_one(&mut self.0, sqlx::raw_sql("SELECT version()")).await?;
        sqlx::Row::try_get(&row, 0)
    }
}

/// Remedies by SQLSTATE (PostgreSQL documentation, appendix A).
fn login_failure(error: &sqlx::Error) -> Failure {
    let code = error.as_database_error().and_then(|error| error.code());
    let remedy = match (error, code.as_deref()) {
        (_, Some("28P01")) => "Check user name and password.",
        (_, Some("28000")) => {
            "The database does not let this user in from the bastion's address: check the user name, \
             and the rules in pg_hba.conf, which may also ask for TLS."
        }
        (_, Some("3D000")) => "Check the database's name.",
        (_, Some("42501")) => "Give this user the CONNECT privilege on the database.",
        (_, Some("53300")) => {
            "The database has too many connections; close some or raise its limit."
        }
        (_, Some("57P03")) => "The database is starting or stopping; try again in a moment.",
        (sqlx::Error::Tls(_), _) => {
            "TLS could not be agreed on: turn it on at the database, or choose another TLS mode."
        }
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), _) => {
            "Look whether host and port belong to a PostgreSQL server, and at its log."
        }
        _ => "Look at the database's own log.",
    };
    Failure {
        detail: words(error),
        remedy: remedy.to_owned(),
    }
}

/// The database's own words where there are some; sqlx adds a line number of PostgreSQL's source.
fn words(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}
