//! The HTTP client for the vendor's control plane.

mod address;
mod error;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use address::{check_scheme, is_loopback};

pub use address::parse_address;
pub use error::{ApiError, is_gone};

use crate::bastion::host::{Host, aside};
use crate::protocol::{
    API_BASE, Enrolled, Enrollment, KeyRegistration, LONGEST_POLL_SECONDS, NewPublicKey,
    SaveProgress, Tunnel, TunnelChange, TunnelId, TunnelKey, TunnelUp,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// What a long poll may take beyond the time it asked the server to hold it.
const POLL_GRACE: Duration = Duration::from_secs(10);

/// What came back from a knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knock {
    /// The HTTP status.
    pub status: u16,
    /// The other side's time, to the second.
    pub date: Option<jiff::Timestamp>,
}

/// The vendor's control plane, with the credential of one tunnel.
#[derive(Clone)]
pub struct ControlPlane {
    base: Url,
    credential: String,
    client: Client,
}

impl ControlPlane {
    /// A client for the control plane at `base`, with a private CA where one is given.
    ///
    /// # Errors
    /// Plain http to another machine, or a CA file that cannot be used.
    pub fn new(base: &Url, credential: &str, ca_cert: Option<&Path>) -> anyhow::Result<Self> {
        check_scheme(base)?;
        // Only the first call installs it; the library has no default built in.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("holistics-tunnel/", env!("CARGO_PKG_VERSION")));
        if is_loopback(base) {
            builder = builder.no_proxy();
        }
        if let Some(file) = ca_cert {
            let pem =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("{} holds no PEM certificate", file.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(ControlPlane {
            base: base.clone(),
            credential: credential.to_owned(),
            client: builder.build().context("cannot set up the HTTP client")?,
        })
    }

    /// The same control plane with another credential.
    #[must_use]
    pub fn with_credential(&self, credential: &str) -> Self {
        ControlPlane {
            credential: credential.to_owned(),
            ..self.clone()
        }
    }

    /// Its address.
    pub fn address(&self) -> &Url {
        &self.base
    }

    /// `GET /enrollment`: what to tunnel.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn enrollment(&self, host: &dyn Host) -> Result<Enrollment, ApiError> {
        self.call(
            host,
            Method::GET,
            "/enrollment",
            None::<()>,
            REQUEST_TIMEOUT,
        )
    }

    /// `PUT /enrollment/public-key`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn register_key(
        &self,
        host: &dyn Host,
        registration: &KeyRegistration,
    ) -> Result<Enrolled, ApiError> {
        self.call(
            host,
            Method::PUT,
            "/enrollment/public-key",
            Some(registration.clone()),
            REQUEST_TIMEOUT,
        )
    }

    /// `POST /enrollment/tunnel-up`: succeeds only if this tunnel's own session listens.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn tunnel_up(&self, host: &dyn Host) -> Result<TunnelUp, ApiError> {
        self.call(
            host,
            Method::POST,
            "/enrollment/tunnel-up",
            None::<()>,
            REQUEST_TIMEOUT,
        )
    }

    /// `GET /enrollment/data-source?wait=`: returns when it is saved, or when the time is over.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn wait_for_save(&self, host: &dyn Host, wait: Duration) -> Result<SaveProgress, ApiError> {
        let seconds = wait.as_secs().clamp(1, LONGEST_POLL_SECONDS);
        let path = format!("/enrollment/data-source?wait={seconds}");
        let timeout = Duration::from_secs(seconds) + POLL_GRACE;
        self.call(host, Method::GET, &path, None::<()>, timeout)
    }

    /// `GET /tunnels/{id}`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn tunnel(&self, host: &dyn Host, id: TunnelId) -> Result<Tunnel, ApiError> {
        self.call(
            host,
            Method::GET,
            &format!("/tunnels/{id}"),
            None::<()>,
            REQUEST_TIMEOUT,
        )
    }

    /// The same, within this time.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn tunnel_within(
        &self,
        host: &dyn Host,
        id: TunnelId,
        timeout: Duration,
    ) -> Result<Tunnel, ApiError> {
        let path = format!("/tunnels/{id}");
        self.call(host, Method::GET, &path, None::<()>, timeout)
    }

    /// Whether anything answers there at all, and what time it has: a request without credentials.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`], with the reason, if nothing does.
    pub fn knock(&self, host: &dyn Host, timeout: Duration) -> Result<Knock, ApiError> {
        let this = self.clone();
        await_on_thread(
            host,
            || self.no_answer(),
            move || this.ask_for_health(timeout),
        )
    }

    fn ask_for_health(&self, timeout: Duration) -> Result<Knock, ApiError> {
        let response = self
            .client
            .get(format!("{}/healthz", self.name()))
            .timeout(timeout)
            .send()
            .map_err(|error| self.unreachable(error.without_url().into()))?;
        let date = response
            .headers()
            .get("date")
            .and_then(|date| date.to_str().ok())
            .and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Ok(Knock {
            status: response.status().as_u16(),
            date: date.map(|date| date.timestamp()),
        })
    }

    fn no_answer(&self) -> ApiError {
        self.unreachable(anyhow::anyhow!("the request ended without an answer"))
    }

    /// `PATCH /tunnels/{id}`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn change_tunnel(
        &self,
        host: &dyn Host,
        id: TunnelId,
        change: TunnelChange,
    ) -> Result<Tunnel, ApiError> {
        self.call(
            host,
            Method::PATCH,
            &format!("/tunnels/{id}"),
            Some(change),
            REQUEST_TIMEOUT,
        )
    }

    /// `PUT /tunnels/{id}/public-key`: both keys open the tunnel from now on.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn announce_key(
        &self,
        host: &dyn Host,
        id: TunnelId,
        public_key: &str,
    ) -> Result<TunnelKey, ApiError> {
        let path = format!("/tunnels/{id}/public-key");
        let new = NewPublicKey {
            public_key: public_key.to_owned(),
        };
        self.call(host, Method::PUT, &path, Some(new), REQUEST_TIMEOUT)
    }

    /// `POST /tunnels/{id}/public-key/confirm`: the old key opens nothing any more.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn confirm_key(
        &self,
        host: &dyn Host,
        id: TunnelId,
        public_key: &str,
    ) -> Result<TunnelKey, ApiError> {
        let path = format!("/tunnels/{id}/public-key/confirm");
        let new = NewPublicKey {
            public_key: public_key.to_owned(),
        };
        self.call(host, Method::POST, &path, Some(new), REQUEST_TIMEOUT)
    }

    /// `DELETE /tunnels/{id}`. A tunnel that is gone already is as good as deleted.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn delete_tunnel(&self, host: &dyn Host, id: TunnelId) -> Result<(), ApiError> {
        let result: Result<serde_json::Value, ApiError> = self.call(
            host,
            Method::DELETE,
            &format!("/tunnels/{id}"),
            None::<()>,
            REQUEST_TIMEOUT,
        );
        match result {
            Err(error) if is_gone(&error) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Sends a request on a thread of its own, so that an interrupt need not wait for the answer.
    fn call<B, A>(
        &self,
        host: &dyn Host,
        method: Method,
        path: &str,
        body: Option<B>,
        timeout: Duration,
    ) -> Result<A, ApiError>
    where
        B: Serialize + Send + 'static,
        A: DeserializeOwned + Send + 'static,
    {
        let this = self.clone();
        let path = path.to_owned();
        await_on_thread(
            host,
            || self.no_answer(),
            move || this.exchange(method, &path, body, timeout),
        )
    }

    fn exchange<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<B>,
        timeout: Duration,
    ) -> Result<A, ApiError> {
        let url = format!(
            "{}{API_BASE}{path}",
            self.base.as_str().trim_end_matches('/')
        );
        let mut request = self
            .client
            .request(method, url)
            .bearer_auth(&self.credential)
            .timeout(timeout);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request
            .send()
            // The address goes, since it may hold a token; the server is named anyway.
            .map_err(|error| self.unreachable(error.without_url().into()))?;
        self.answer(response)
    }

    fn answer<A: DeserializeOwned>(&self, response: Response) -> Result<A, ApiError> {
        let status = response.status();
        let body = response
            .bytes()
            .map_err(|error| self.unreachable(error.without_url().into()))?;
        let not_ours = || ApiError::NotOurs {
            server: self.name(),
            status: status.as_u16(),
        };
        if !status.is_success() {
            let problem = serde_json::from_slice(&body).map_err(|_| not_ours())?;
            return Err(ApiError::Refused {
                server: self.name(),
                problem,
            });
        }
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|_| not_ours())
    }

    fn unreachable(&self, cause: anyhow::Error) -> ApiError {
        ApiError::Unreachable {
            server: self.name(),
            cause,
        }
    }

    fn name(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

/// Runs a request on a thread of its own and watches for interrupts meanwhile.
fn await_on_thread<A: Send + 'static>(
    host: &dyn Host,
    no_answer: impl Fn() -> ApiError,
    request: impl FnOnce() -> Result<A, ApiError> + Send + 'static,
) -> Result<A, ApiError> {
    let look = || host.check_interrupt().map_err(ApiError::from);
    aside(request, look)?.unwrap_or_else(|| Err(no_answer()))
}
