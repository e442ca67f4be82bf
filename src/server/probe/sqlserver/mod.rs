//! SQL Server.
//!
//! The pre-login is ours, on the one connection that the test makes: it says what the database wants of
//! encryption. Then [`handshake`] encrypts that connection, and the driver, which has no TLS of its own
//! here, logs in on it; its own pre-login is answered by [`replay`].

mod handshake;
mod replay;

use std::io;
use std::time::Instant;

use async_trait::async_trait;
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::allowance::Socket;
use super::contact;
use super::driver::{Answer, Driver, Found, Place, Reached, Ready, Session, query_failure, remedy};
use super::report::Failure;
use super::tls::{self, Agreement};
use crate::protocol::{ConnectionTest, TlsMode};
use crate::wire_probe::sqlserver::{self, Encryption, Prelogin};
use handshake::Packets;
use replay::Replay;

/// By the numbers of `sys.messages`, and Azure's beyond 40,000.
const REMEDIES: [(&[u32], &str); 7] = [
    (&[18456], "Check user name and password."),
    (
        &[4060, 911],
        "Check the database's name, and that this user may use it.",
    ),
    (&[916, 229], "Give this user rights on the database."),
    (
        &[18452],
        "Use a login of SQL Server's own: this one is a Windows account, or SQL Server allows no other kind \
         (\"mixed mode\").",
    ),
    (
        &[18470, 18486, 18487, 18488],
        "The login is disabled or locked, or its password has expired: renew or unlock it at the database.",
    ),
    (
        &[17809, 10928, 10929],
        "The database has too many connections: close some, or raise its limit.",
    ),
    (
        &[40615, 40914],
        "Let the address that the database sees in through its firewall.",
    ),
];

/// The driver tiberius.
pub(super) struct SqlServer;

#[async_trait]
impl Driver for SqlServer {
    async fn reach(&self, place: &Place, tls: TlsMode) -> Result<Found<dyn Reached>, Failure> {
        let wanted = match tls {
            TlsMode::Disable => Encryption::NotSupported,
            TlsMode::Prefer | TlsMode::Require => Encryption::On,
        };
        let answering = prelogin(place, wanted).await?;
        let version = &answering.prelogin.version;
        Ok(Found::new(
            format!("{} is SQL Server {version}", place.database),
            Box::new(answering),
        ))
    }
}

async fn prelogin(place: &Place, wanted: Encryption) -> Result<Answering, Failure> {
    let (stream, prelogin) = contact::open(place, &sqlserver::SqlServer(wanted)).await?;
    Ok(Answering {
        place: place.clone(),
        stream,
        prelogin,
    })
}

/// A database that has answered the pre-login.
struct Answering {
    place: Place,
    stream: Socket,
    prelogin: Prelogin,
}

#[async_trait]
impl Reached for Answering {
    async fn encrypt(self: Box<Self>, tls: TlsMode) -> Result<Found<dyn Ready>, Failure> {
        if tls == TlsMode::Disable && self.prelogin.encryption == Encryption::Required {
            return Err(Failure::new(
                "the database insists on encryption, and the TLS mode is `disable`",
                "Choose the TLS mode `require`.",
            ));
        }
        let is_offered = self.prelogin.encryption != Encryption::NotSupported;
        match tls::agree(tls, is_offered, "give SQL Server a certificate")? {
            Agreement::Encrypted => self.encrypted().await,
            Agreement::Plain(said) => Ok(Found::new(said, Box::new(self.plain(tls).await?))),
        }
    }
}

impl Answering {
    async fn encrypted(self) -> Result<Found<dyn Ready>, Failure> {
        // The handshake travels in packets that end with it; TLS 1.3 would send more of it later.
        let versions = [&rustls::version::TLS12];
        let stream = tls::encrypt_with(Packets::new(self.stream), &self.place, &versions).await;
        let mut stream = stream.map_err(|error| tls::failure(&error))?;
        stream.get_mut().0.end();
        let said = tls::describe(stream.get_ref().1);
        let agreed = Agreed {
            place: self.place,
            stream: Replay::new(stream, self.prelogin.bytes),
        };
        Ok(Found::new(said, Box::new(agreed)))
    }

    /// A database that was asked for encryption and cannot give it may want to hear that none is asked for.
    async fn plain(self, tls: TlsMode) -> Result<Agreed<Socket>, Failure> {
        let again = match tls {
            TlsMode::Disable => self,
            TlsMode::Prefer | TlsMode::Require => {
                prelogin(&self.place, Encryption::NotSupported).await?
            }
        };
        Ok(Agreed {
            place: again.place,
            stream: Replay::new(again.stream, again.prelogin.bytes),
        })
    }
}

/// The connection on which the driver logs in.
struct Agreed<S> {
    place: Place,
    stream: Replay<S>,
}

#[async_trait]
impl Ready for Agreed<Socket> {
    async fn login(self: Box<Self>, login: &ConnectionTest) -> Result<Box<dyn Session>, Failure> {
        log_in(*self, login).await
    }
}

#[async_trait]
impl Ready for Agreed<TlsStream<Packets<Socket>>> {
    async fn login(self: Box<Self>, login: &ConnectionTest) -> Result<Box<dyn Session>, Failure> {
        log_in(*self, login).await
    }
}

async fn log_in<S>(agreed: Agreed<S>, login: &ConnectionTest) -> Result<Box<dyn Session>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::new();
    config.host(agreed.place.host());
    config.port(agreed.place.address.port());
    config.database(&login.database);
    config.application_name("holistics-tunnel connection test");
    config.authentication(AuthMethod::sql_server(&login.username, &login.password));
    // Of the driver: it is our socket that encrypts.
    config.encryption(EncryptionLevel::NotSupported);
    match Client::connect(config, agreed.stream.compat()).await {
        Ok(client) => Ok(Box::new(LoggedIn(client))),
        Err(error) => Err(login_failure(&error)),
    }
}

struct LoggedIn<S: AsyncRead + AsyncWrite + Unpin + Send>(Client<Compat<Replay<S>>>);

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session for LoggedIn<S> {
    async fn query(&mut self) -> Result<Answer, Failure> {
        self.select()
            .await
            .map_err(|error| query_failure(words(&error)))
    }

    async fn close(self: Box<Self>) {
        // Whether the database takes note changes nothing.
        let _ = self.0.close().await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> LoggedIn<S> {
    async fn select(&mut self) -> tiberius::Result<Answer> {
        let started = Instant::now();
        self.0.simple_query("SELECT 1").await?.into_row().await?;
        let round_trip = started.elapsed();
        let row = self.0.simple_query("SELECT @@VERSION").await?;
        let row = row.into_row().await?;
        let version = match &row {
            Some(row) => row.try_get::<&str, _>(0)?,
            None => None,
        };
        Ok(Answer {
            round_trip,
            version: version.unwrap_or_default().to_owned(),
        })
    }
}

fn login_failure(error: &tiberius::error::Error) -> Failure {
    use tiberius::error::Error;

    let remedy = match (remedy(&REMEDIES, error.code().as_ref()), error) {
        (Some(remedy), _) => remedy,
        (None, Error::Routing { .. }) => {
            "Let the database carry connections itself instead of sending them elsewhere: Azure calls that the \
             connection policy \"Proxy\"."
        }
        (None, Error::Io { kind, .. }) if *kind == io::ErrorKind::UnexpectedEof => {
            "The database ended the connection during the login: look at its own log."
        }
        (None, Error::Server(_)) => "Look at the database's own log.",
        (None, _) => "Check whether host and port belong to a SQL Server, and at its log.",
    };
    Failure::new(words(error), remedy)
}

/// The database's own words where there are some.
fn words(error: &tiberius::error::Error) -> String {
    match error {
        tiberius::error::Error::Server(error) => format!("{} ({})", error.message(), error.code()),
        error => error.to_string(),
    }
}
