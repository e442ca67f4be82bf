//! The HTTP client for the vendor's control plane.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::{Host as UrlHost, Url};

use super::failure::{Failure, OneLine};
use super::host::Host;
use crate::protocol::{
    API_BASE, Enrolled, Enrollment, KeyRegistration, LONGEST_POLL_SECONDS, NewPublicKey, Problem,
    ProblemKind, SaveProgress, Tunnel, TunnelChange, TunnelId, TunnelKey, TunnelUp,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// What a long poll may take beyond the time it asked the server to hold it.
const POLL_GRACE: Duration = Duration::from_secs(10);
/// How often a wait for an answer looks whether the run was interrupted.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No answer: the network, the name, the certificate, or the server is down.
    #[error("no answer from {server}: {}", OneLine(cause))]
    Unreachable {
        /// The control plane.
        server: String,
        /// The reason.
        cause: anyhow::Error,
    },
    /// The control plane refused.
    #[error("{server} answered {}: {}", .problem.status, .problem.detail)]
    Refused {
        /// The control plane.
        server: String,
        /// Its words.
        problem: Problem,
    },
    /// Something answered that is not a control plane, or is broken.
    #[error("{server} answered with status {status}, and not as a holistics-tunnel-server does")]
    NotOurs {
        /// The control plane.
        server: String,
        /// The HTTP status.
        status: u16,
    },
    /// The run was interrupted.
    #[error(transparent)]
    Interrupted(#[from] super::failure::Interrupted),
}

impl ApiError {
    /// Which problem the control plane named.
    pub fn kind(&self) -> Option<ProblemKind> {
        match self {
            ApiError::Refused { problem, .. } => Some(problem.kind),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            ApiError::Unreachable { .. } => true,
            ApiError::NotOurs { status, .. } => *status >= 500,
            ApiError::Refused { problem, .. } => {
                problem.status >= 500 && problem.kind != ProblemKind::PortsExhausted
            }
            ApiError::Interrupted(_) => false,
        }
    }

    /// The same with the next thing to do.
    pub fn advised(self) -> anyhow::Error {
        if let ApiError::Interrupted(interrupted) = self {
            return interrupted.into();
        }
        let next = match &self {
            ApiError::Unreachable { .. } => {
                "check that this host reaches it (proxies are taken from https_proxy, a private CA from \
                 --ca-cert), then run the same command again"
            }
            ApiError::Refused { problem, .. } => advice(problem.kind),
            _ => "check the address given with --server",
        };
        Failure::new(self.headline(), next).because(self).into()
    }

    fn headline(&self) -> String {
        match self {
            ApiError::Unreachable { server, .. } => {
                format!("the control plane {server} cannot be reached")
            }
            ApiError::Refused { problem, .. } => problem.title.to_lowercase(),
            _ => "the control plane gave no usable answer".to_owned(),
        }
    }
}

/// What the person on the bastion can do about a refusal.
fn advice(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Unauthorized => {
            "copy the whole command from the browser again; if it is refused again, have a new one generated"
        }
        ProblemKind::TokenExpired => "have a new command generated in the browser, and run that",
        ProblemKind::TokenUsed => {
            "this command has done its work: `holistics-tunnel list` shows this host's tunnels. For another \
             tunnel, create another data source in the browser"
        }
        ProblemKind::KeyConflict => {
            "run the command on the host that enrolled first; or delete the data source in the browser and \
             create it anew for this host"
        }
        ProblemKind::PortsExhausted => {
            "the vendor's tunnel server has no free port: ask them to free or add some, then run the same \
             command again"
        }
        ProblemKind::NotFound => {
            "it may have been deleted in the browser; create the data source anew"
        }
        ProblemKind::Internal | ProblemKind::Unknown => {
            "try again in a minute; if it stays, tell the vendor"
        }
        _ => "look at the data source in the browser",
    }
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
        let (sender, receiver) = mpsc::channel();
        let this = self.clone();
        let path = path.to_owned();
        std::thread::spawn(move || {
            // Nobody listens any more after an interrupt, and that is all right.
            let _ = sender.send(this.exchange(method, &path, body, timeout));
        });
        loop {
            host.check_interrupt()?;
            match receiver.recv_timeout(INTERRUPT_CHECK) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(
                        self.unreachable(anyhow::anyhow!("the request ended without an answer"))
                    );
                }
            }
        }
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

/// Whether an answer means that the tunnel does not exist any more.
pub fn is_gone(error: &ApiError) -> bool {
    matches!(
        error.kind(),
        Some(ProblemKind::NotFound | ProblemKind::Unauthorized)
    )
}

/// Reads an address given by a person.
///
/// # Errors
/// It is no http or https address, or plain http to another machine.
pub fn parse_address(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).map_err(|error| {
        Failure::usage(
            format!("{text:?} is not the address of a server"),
            "give it as https://NAME, as it stands in the command from the browser",
        )
        .because(error)
    })?;
    ensure!(
        url.has_host()
            && url.username().is_empty()
            && url.query().is_none()
            && url.fragment().is_none(),
        Failure::usage(
            format!("{text:?} is not the address of a server"),
            "give it as https://NAME, as it stands in the command from the browser",
        )
    );
    check_scheme(&url)?;
    Ok(url)
}

/// The token crosses this connection, and what comes back decides which host keys are trusted.
fn check_scheme(url: &Url) -> anyhow::Result<()> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => bail!(Failure::usage(
            format!("{url} is refused: plain http is allowed to this machine only"),
            "use the https address of the control plane",
        )),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(UrlHost::Ipv4(address)) => address.is_loopback(),
        Some(UrlHost::Ipv6(address)) => address.is_loopback(),
        Some(UrlHost::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_allowed_to_this_machine_only() {
        for good in [
            "https://vendor.example",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://localhost",
        ] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://vendor.example",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "ftp://127.0.0.1",
            "vendor.example",
            "https://user@vendor.example",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
