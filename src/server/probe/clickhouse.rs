//! ClickHouse over HTTP, or over HTTPS by the TLS mode.
//!
//! A port of ClickHouse speaks either, and does not say which. So the modes `prefer` and `require` begin
//! with TLS; what answers otherwise is asked in the clear. There are no sessions: each query logs in, and
//! all of them go through one connection.

use std::io;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::instrument::WithSubscriber;
use url::form_urlencoded;

use super::allowance::Socket;
use super::contact;
use super::driver::{Answer, Driver, Found, Place, Reached, Ready, Session, refused};
use super::report::Failure;
use super::tls;
use crate::protocol::{ConnectionTest, TlsMode};
use crate::wire_probe::clickhouse::{self, Pong};
use crate::wire_probe::{Protocol, looks_like, text};

/// More than any answer to a test.
const MOST_BYTES: usize = 64 * 1024;
/// How long TLS is tried before the port is asked in the clear.
const PATIENCE: Duration = Duration::from_secs(3);
const NAME: &str = clickhouse::ClickHouse::NAME;

/// By the numbers in ClickHouse's `ErrorCodes.cpp`.
const REMEDIES: [(&[u32], &str); 5] = [
    (&[516, 192, 193, 194], "Check user name and password."),
    (&[81], "Check the database's name."),
    (
        &[195, 291],
        "Let this user in from the address that the database sees (`HOST` of the user, `networks` in users.xml).",
    ),
    (&[497], "Grant this user rights on the database."),
    (
        &[202, 439],
        "The database has too many queries or connections: wait, or raise its limits.",
    ),
];

/// The driver, by hyper.
pub(super) struct ClickHouse;

#[async_trait]
impl Driver for ClickHouse {
    async fn reach(&self, place: &Place, tls: TlsMode) -> Result<Found<dyn Reached>, Failure> {
        let refused = match tls {
            TlsMode::Disable => None,
            TlsMode::Prefer | TlsMode::Require => match try_tls(place).await? {
                Ok(stream) => return Ok(reached(place, Some(stream))),
                Err(error) => Some(error),
            },
        };
        if let Some(error) = refused.as_ref().filter(|error| tls::is_alert(error)) {
            return Err(tls::failure(error));
        }
        let pong = contact::open(place, &clickhouse::ClickHouse).await;
        match (pong.map(|(_, pong)| pong), refused) {
            (Ok(Pong::ClickHouse), _) => Ok(reached(place, None)),
            (Ok(Pong::NativePort), _) => Err(native_port()),
            (Ok(Pong::WantsTls), None) => Err(wants_tls(place)),
            (Ok(Pong::WantsTls), Some(error)) => Err(tls::failure(&error)),
            // What wants TLS closes the connection on hearing anything else.
            (Err(_), None) if matches!(try_tls(place).await, Ok(Ok(_))) => Err(wants_tls(place)),
            (Err(failure), _) => Err(failure),
        }
    }
}

fn reached(place: &Place, encrypted: Option<TlsStream<Socket>>) -> Found<dyn Reached> {
    let said = match &encrypted {
        Some(_) => format!("{} answers with TLS", place.database),
        None => format!("{} answers as {NAME} does", place.database),
    };
    let place = place.clone();
    Found::new(said, Box::new(Answering { place, encrypted }))
}

/// A connection that is encrypted, or why it is not. Only that there is no connection at all is a failure.
async fn try_tls(place: &Place) -> Result<io::Result<TlsStream<Socket>>, Failure> {
    let stream = contact::connect(place).await?;
    let handshake = timeout(PATIENCE, tls::encrypt(stream, place)).await;
    Ok(handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
}

fn native_port() -> Failure {
    Failure::new(
        "this is the port of ClickHouse's native protocol, and its HTTP port is needed",
        "Change the port to ClickHouse's HTTP port: 8123, or 8443 with TLS, unless it was changed.",
    )
}

fn wants_tls(place: &Place) -> Failure {
    Failure::new(
        format!(
            "{} wants TLS, and the TLS mode is `disable`",
            place.database
        ),
        "Choose the TLS mode `require`, or the port on which ClickHouse serves HTTP without TLS.",
    )
}

struct Answering {
    place: Place,
    encrypted: Option<TlsStream<Socket>>,
}

#[async_trait]
impl Reached for Answering {
    async fn encrypt(self: Box<Self>, tls: TlsMode) -> Result<Found<dyn Ready>, Failure> {
        let how = "the port of `https_port`, 8443 unless it was changed";
        let (said, requests) = match self.encrypted {
            Some(stream) => (tls::describe(stream.get_ref().1), start(stream).await),
            None => {
                let said = tls::without_offer(tls, how)?;
                (said, start(contact::connect(&self.place).await?).await)
            }
        };
        let requests = requests.map_err(|error| no_answer(&error))?;
        let agreed = Agreed {
            place: self.place,
            requests,
        };
        Ok(Found::new(said, Box::new(agreed)))
    }
}

/// An HTTP connection, and the task that drives it.
struct Requests {
    sender: SendRequest<Empty<Bytes>>,
    task: AbortOnDropHandle<()>,
}

async fn start<S>(stream: S) -> hyper::Result<Requests>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let drive = async {
        // Whoever waits for an answer gets the error as well.
        let _ = connection.await;
    };
    // A task of its own would log again, unlike all else in a test.
    let drive = drive.with_current_subscriber();
    let task = AbortOnDropHandle::new(tokio::spawn(drive));
    Ok(Requests { sender, task })
}

struct Agreed {
    place: Place,
    requests: Requests,
}

#[async_trait]
impl Ready for Agreed {
    async fn login(self: Box<Self>, login: &ConnectionTest) -> Result<Box<dyn Session>, Failure> {
        let credentials = STANDARD.encode(format!("{}:{}", login.username, login.password));
        let mut session = LoggedIn {
            host: self.place.database.clone(),
            database: login.database.clone(),
            authorization: format!("Basic {credentials}"),
            requests: self.requests,
            version: String::new(),
        };
        session.version = session.ask("SELECT version()").await?;
        Ok(Box::new(session))
    }
}

struct LoggedIn {
    host: String,
    database: String,
    authorization: String,
    requests: Requests,
    version: String,
}

#[async_trait]
impl Session for LoggedIn {
    async fn query(&mut self) -> Result<Answer, Failure> {
        let started = Instant::now();
        self.ask("SELECT 1").await?;
        Ok(Answer {
            round_trip: started.elapsed(),
            version: format!("{NAME} {}", self.version),
        })
    }

    async fn close(self: Box<Self>) {
        // Without a sender the connection comes to its end.
        drop(self.requests.sender);
        let _ = self.requests.task.await;
    }
}

impl LoggedIn {
    async fn ask(&mut self, query: &str) -> Result<String, Failure> {
        let request = self.request(query).map_err(|error| no_answer(&error))?;
        let sender = &mut self.requests.sender;
        // The task may not have noticed yet that the answer before was read to its end; a request before that
        // is thrown away.
        sender.ready().await.map_err(|error| no_answer(&error))?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| no_answer(&error))?;
        let status = response.status();
        let is_ours = response.headers().keys().any(|name| {
            let name = name.as_str();
            name.starts_with("x-clickhouse")
        });
        let body = Limited::new(response.into_body(), MOST_BYTES).collect();
        let body = body.await.map_err(|error| no_answer(&*error))?;
        let body = text(&body.to_bytes());
        match (status, is_ours) {
            (StatusCode::OK, true) => Ok(body),
            (status, _) => Err(refusal(status, &body)),
        }
    }

    /// A `GET`, for which ClickHouse changes nothing whatever the query says.
    fn request(&self, query: &str) -> hyper::http::Result<Request<Empty<Bytes>>> {
        let question = form_urlencoded::Serializer::new(String::new())
            .append_pair("database", &self.database)
            .append_pair("query", query)
            .finish();
        Request::get(format!("/?{question}"))
            .header(HOST, &self.host)
            .header(USER_AGENT, "holistics-tunnel")
            .header(AUTHORIZATION, &self.authorization)
            .body(Empty::new())
    }
}

fn refusal(status: StatusCode, body: &str) -> Failure {
    let Some(code) = code(body) else {
        let seen = looks_like(b"HTTP/").unwrap_or("something else");
        return Failure::new(
            format!("what answers with {status} is not {NAME}: it looks like {seen}"),
            "Correct host and port of the data source: ClickHouse's HTTP port is 8123, or 8443 with TLS, unless it \
             was changed.",
        );
    };
    refused(words(body), &REMEDIES, &code)
}

/// The number of an error, `Code: 516. DB::Exception: …`.
fn code(body: &str) -> Option<u32> {
    let number = body.strip_prefix("Code: ")?;
    let end = number.find(|letter: char| !letter.is_ascii_digit())?;
    number[..end].parse().ok()
}

/// What an error says, without what is for ClickHouse's developers.
fn words(body: &str) -> String {
    let line = body.lines().next().unwrap_or_default();
    let end = line.find(", e.what()").unwrap_or(line.len());
    line[..end].to_owned()
}

fn no_answer(error: &dyn std::error::Error) -> Failure {
    Failure::new(
        format!("the connection ended before an answer: {error}"),
        "Check whether host and port belong to ClickHouse's HTTP interface, and at its log.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_errors_are_told_by_their_number() {
        let new = "Code: 516. DB::Exception: reader: Authentication failed: password is incorrect.";
        let old = "Code: 81, e.displayText() = DB::Exception: Database nope doesn't exist, e.what() = DB::Exception";
        assert_eq!(code(new), Some(516));
        assert_eq!(code(old), Some(81));
        assert_eq!(code("<html>"), None);
        assert!(!words(old).contains("e.what()"), "{}", words(old));
        let failure = refusal(StatusCode::FORBIDDEN, new);
        assert_eq!(failure.remedy, "Check user name and password.");
    }

    #[test]
    fn a_web_server_is_told_from_clickhouse() {
        let failure = refusal(StatusCode::NOT_FOUND, "<html>not here</html>");
        assert!(failure.detail.contains("web server"), "{failure:?}");
    }
}
