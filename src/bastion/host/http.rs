//! HTTP as this program needs it: one request, one answer of bounded size, cut short by an interrupt.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::blocking::Client;
use reqwest::{Method, redirect};
use url::Url;

use super::interrupts::Aside;
use crate::bastion::failure::Interrupted;
use crate::protocol::is_loopback;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a control plane answers is a few kilobytes; something else may never come to an end.
const LONGEST_BODY: u64 = 1 << 20;

#[derive(Clone, PartialEq)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    /// The credential, which stands in no message.
    pub bearer: Option<String>,
    pub json: Option<Vec<u8>>,
    pub timeout: Duration,
    /// The certificates of a private authority, PEM.
    pub authority: Option<String>,
    /// The proxy to use, which may hold a password; without one, the environment says.
    pub proxy: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    /// The other side's time, to the second.
    pub date: Option<jiff::Timestamp>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// This side cannot even ask, such as for a certificate authority that cannot be read.
    #[error(transparent)]
    Setup(anyhow::Error),
    /// The network, the name, the certificate, or the other side.
    #[error(transparent)]
    NoAnswer(anyhow::Error),
}

/// Sends requests; what can be used again of a connection is.
#[derive(Default)]
pub struct Http {
    clients: Mutex<HashMap<Way, Client>>,
    /// What was sent, and whose answer nobody has taken yet.
    begun: Mutex<Vec<(Request, Sent)>>,
}

/// A request on a thread of its own, so that an interrupt need not wait for the answer.
type Sent = Aside<anyhow::Result<Response>>;

/// What a client is made for.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    authority: Option<String>,
    proxy: Option<String>,
    is_loopback: bool,
}

impl Http {
    /// Sends a request, and has whoever sends the same one take its answer.
    pub fn begin(&self, request: &Request) {
        // Why it cannot be sent is told to them.
        if let Ok(sent) = self.sent(request.clone()) {
            let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            begun.push((request.clone(), sent));
        }
    }

    /// Sends a request, unless it was begun, and waits for the answer.
    pub fn send(
        &self,
        request: Request,
        check_interrupt: &dyn Fn() -> Result<(), Interrupted>,
    ) -> Result<Response, HttpError> {
        let sent = match self.begun(&request) {
            Some(sent) => sent,
            None => self.sent(request).map_err(HttpError::Setup)?,
        };
        match sent.wait(|| check_interrupt().map_err(HttpError::from))? {
            Some(answer) => answer.map_err(HttpError::NoAnswer),
            None => Err(HttpError::NoAnswer(anyhow::anyhow!(
                "the request ended without an answer"
            ))),
        }
    }

    fn sent(&self, request: Request) -> anyhow::Result<Sent> {
        let client = self.client(&request)?;
        Ok(Aside::begin(move || exchange(&client, request)))
    }

    fn begun(&self, request: &Request) -> Option<Sent> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let place = begun.iter().position(|(begun, _)| begun == request)?;
        Some(begun.remove(place).1)
    }

    fn client(&self, request: &Request) -> anyhow::Result<Client> {
        let way = Way {
            authority: request.authority.clone(),
            proxy: request.proxy.clone(),
            is_loopback: is_loopback(&request.url),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let client = build(&way)?;
        clients.insert(way, client.clone());
        Ok(client)
    }
}

fn build(way: &Way) -> anyhow::Result<Client> {
    // Only the first call installs it; the library has no default built in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("holistics-tunnel/", env!("CARGO_PKG_VERSION")));
    if way.is_loopback {
        builder = builder.no_proxy();
    } else if let Some(proxy) = &way.proxy {
        let proxy = reqwest::Proxy::all(proxy).context("the proxy has no valid address")?;
        builder = builder.proxy(proxy);
    }
    if let Some(pem) = &way.authority {
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .context("the authority's certificate is damaged")?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().context("cannot set up the HTTP client")
}

fn exchange(client: &Client, request: Request) -> anyhow::Result<Response> {
    let mut sent = client
        .request(request.method, request.url)
        .timeout(request.timeout);
    if let Some(credential) = &request.bearer {
        sent = sent.bearer_auth(credential);
    }
    if let Some(json) = request.json {
        sent = sent.header("content-type", "application/json").body(json);
    }
    // The address goes, since it may hold a token; the server is named anyway.
    let response = sent.send().map_err(reqwest::Error::without_url)?;
    let date = response.headers().get("date");
    let date = date
        .and_then(|date| date.to_str().ok())
        .and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
        .map(|date| date.timestamp());
    let status = response.status().as_u16();
    let mut body = Vec::new();
    response.take(LONGEST_BODY + 1).read_to_end(&mut body)?;
    ensure!(
        body.len() as u64 <= LONGEST_BODY,
        "the answer is longer than {LONGEST_BODY} bytes"
    );
    Ok(Response { status, date, body })
}
