//! PostgreSQL, and Redshift, which speaks its protocol.
//!
//! What is agreed on in the stage `tls` is seen on a connection of its own; the driver then makes its own
//! connection in just that way.

use std::time::Instant;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::allowance::Socket;
use super::contact;
use super::driver::{
    Answer, Driver, Found, Place, Reached, Ready, Session, query_failure, refused, remedy,
};
use super::relay::Relay;
use super::report::Failure;
use super::tls::{self, Agreement};
use crate::protocol::{ConnectionTest, TlsMode};
use crate::wire_probe::postgres::{self, Offer};

/// By SQLSTATE (PostgreSQL's documentation, appendix A).
const REMEDIES: [(&[&str], &str); 6] = [
    (&["28P01"], "Check user name and password."),
    (
        &["28000"],
        "Let this user in from the address that the database sees (pg_hba.conf), or check the user name.",
    ),
    (&["3D000"], "Check the database's name."),
    (
        &["42501"],
        "Give this user the CONNECT privilege on the database.",
    ),
    (
        &["53300"],
        "The database has too many connections: close some, or raise its limit (max_connections).",
    ),
    (
        &["57P03"],
        "The database is starting or stopping: try again in a moment.",
    ),
];

/// The driver of sqlx.
pub(super) struct Postgres;

#[async_trait]
impl Driver for Postgres {
    async fn reach(&self, place: &Place, _: TlsMode) -> Result<Found<dyn Reached>, Failure> {
        let (stream, offer) = contact::open(place, &postgres::Postgres).await?;
        let offers_tls = match offer {
            Offer::Tls => true,
            Offer::Plain => false,
            Offer::Refused(refusal) => {
                let said = refusal.to_string();
                return Err(refused(said, &REMEDIES, &refusal.code.as_str()));
            }
        };
        Ok(Found::new(
            format!("{} answers as PostgreSQL does", place.database),
            Box::new(Answering {
                place: place.clone(),
                stream,
                offers_tls,
            }),
        ))
    }
}

struct Answering {
    place: Place,
    stream: Socket,
    offers_tls: bool,
}

#[async_trait]
impl Reached for Answering {
    async fn encrypt(self: Box<Self>, tls: TlsMode) -> Result<Found<dyn Ready>, Failure> {
        let agreement = tls::agree(tls, self.offers_tls, "`ssl = on` in postgresql.conf")?;
        let (said, ssl_mode) = match agreement {
            Agreement::Plain(said) => (said, PgSslMode::Disable),
            Agreement::Encrypted => {
                let said = tls::trial(self.stream, &self.place).await?;
                (said, PgSslMode::Require)
            }
        };
        let ready = Agreed {
            place: self.place,
            offers_tls: self.offers_tls,
            ssl_mode,
        };
        Ok(Found::new(said, Box::new(ready)))
    }
}

struct Agreed {
    place: Place,
    offers_tls: bool,
    ssl_mode: PgSslMode,
}

#[async_trait]
impl Ready for Agreed {
    async fn login(self: Box<Self>, login: &ConnectionTest) -> Result<Box<dyn Session>, Failure> {
        let relay = Relay::to(&self.place).await?;
        let options = PgConnectOptions::new_without_pgpass()
            .host(&relay.host())
            .port(relay.port())
            .database(&login.database)
            .username(&login.username)
            .password(&login.password)
            .ssl_mode(self.ssl_mode)
            .application_name("holistics-tunnel connection test")
            // Redshift and some poolers refuse this start-up parameter.
            .extra_float_digits(None)
            .disable_statement_logging();
        match PgConnection::connect_with(&options).await {
            Ok(connection) => Ok(Box::new(LoggedIn(connection, relay))),
            Err(error) => Err(self.failure(&error)),
        }
    }
}

impl Agreed {
    fn failure(&self, error: &sqlx::Error) -> Failure {
        let detail = words(error);
        let remedy = if self.is_refused_for_lack_of_tls(&detail) {
            "The database wants TLS for this login: choose the TLS mode `require`."
        } else {
            login_remedy(error)
        };
        Failure::new(detail, remedy)
    }

    /// PostgreSQL says of each connection that no rule admits whether it was encrypted.
    fn is_refused_for_lack_of_tls(&self, detail: &str) -> bool {
        self.offers_tls
            && matches!(self.ssl_mode, PgSslMode::Disable)
            && (detail.contains("no encryption") || detail.contains("SSL off"))
    }
}

struct LoggedIn(PgConnection, Relay);

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
        // The simple protocol, which poolers and Redshift carry too.
        sqlx::raw_sql("SELECT 1").execute(&mut self.0).await?;
        let round_trip = started.elapsed();
        let row = sqlx::Executor::fetch_one(&mut self.0, sqlx::raw_sql("SELECT version()")).await?;
        let version = sqlx::Row::try_get(&row, 0)?;
        Ok(Answer {
            round_trip,
            version,
        })
    }
}

fn login_remedy(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|error| error.code());
    match (remedy(&REMEDIES, code.as_deref().as_ref()), error) {
        (Some(remedy), _) => remedy,
        (None, sqlx::Error::Tls(_)) => {
            "TLS could not be agreed on: turn it on at the database, or choose another TLS mode."
        }
        (None, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => {
            "Check whether host and port belong to a PostgreSQL server, and at its log."
        }
        (None, _) => "Look at the database's own log.",
    }
}

/// The database's own words where there are some; sqlx adds a line number of PostgreSQL's source.
fn words(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}
