//! The HTTP client for the vendor's control plane.

mod address;
mod error;
pub mod reach;

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use address::check_scheme;

pub use address::parse_address;
pub use error::{ApiError, is_gone, is_unauthorized};
pub use reach::{Given, Reach};

use crate::bastion::host::Host;
use crate::bastion::host::http::{HttpError, Request, Response};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{
    API_BASE, Enrolled, Enrollment, KeyRegistration, LONGEST_POLL_SECONDS, NewPublicKey,
    SaveProgress, Tunnel, TunnelChange, TunnelKey, TunnelUp,
};

const ENROLLMENT: &str = "/enrollment";

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// What a long poll may take beyond the time it asked the server to hold it.
const POLL_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    pub status: u16,
    /// The other side's time, to the second.
    pub date: Option<jiff::Timestamp>,
}

/// The vendor's control plane, with the credential of one tunnel.
#[derive(Clone)]
pub struct ControlPlane {
    base: Url,
    credential: String,
    reach: Reach,
}

impl ControlPlane {
    /// The control plane at `base`, reached in this way. That of a tunnel knows its record.
    pub fn new(base: &Url, credential: &str, reach: Reach) -> anyhow::Result<Self> {
        check_scheme(base)?;
        Ok(ControlPlane {
            base: base.clone(),
            credential: credential.to_owned(),
            reach,
        })
    }

    pub fn address(&self) -> &Url {
        &self.base
    }

    /// `GET /enrollment`: what to tunnel.
    pub fn enrollment(&self, host: &dyn Host) -> Result<Enrollment, ApiError> {
        self.get(host, ENROLLMENT, REQUEST_TIMEOUT)
    }

    /// Asks what [`ControlPlane::enrollment`] answers, beside whatever is done meanwhile.
    pub fn begin_enrollment(&self, host: &dyn Host) {
        let path = format!("{API_BASE}{ENROLLMENT}");
        // Why it cannot be asked is told to whoever needs the answer.
        if let Ok(request) = self.request(Method::GET, &path, REQUEST_TIMEOUT) {
            host.begin_http(&request);
        }
    }

    /// `PUT /enrollment/public-key`.
    pub fn register_key(
        &self,
        host: &dyn Host,
        registration: &KeyRegistration,
    ) -> Result<Enrolled, ApiError> {
        let path = "/enrollment/public-key";
        self.send(host, Method::PUT, path, registration)
    }

    /// `POST /enrollment/tunnel-up`: succeeds only if this tunnel's own session listens.
    pub fn tunnel_up(&self, host: &dyn Host) -> Result<TunnelUp, ApiError> {
        let path = "/enrollment/tunnel-up";
        self.call(host, Method::POST, path, None::<()>, REQUEST_TIMEOUT)
    }

    /// `GET /enrollment/data-source?wait=`: returns when it is saved, or when the time is over.
    pub fn wait_for_save(&self, host: &dyn Host, wait: Duration) -> Result<SaveProgress, ApiError> {
        let seconds = wait.as_secs().clamp(1, LONGEST_POLL_SECONDS);
        let path = format!("/enrollment/data-source?wait={seconds}");
        self.get(host, &path, Duration::from_secs(seconds) + POLL_GRACE)
    }

    /// `GET /tunnels/{id}`.
    pub fn tunnel(&self, host: &dyn Host, tunnel: TunnelName) -> Result<Tunnel, ApiError> {
        self.tunnel_within(host, tunnel, REQUEST_TIMEOUT)
    }

    /// The same, within this time.
    pub fn tunnel_within(
        &self,
        host: &dyn Host,
        tunnel: TunnelName,
        timeout: Duration,
    ) -> Result<Tunnel, ApiError> {
        self.get(host, &format!("/tunnels/{tunnel}"), timeout)
    }

    /// Whether anything answers there at all, and what time it has: a request without credentials.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`], with the reason, if nothing does.
    pub fn health(&self, host: &dyn Host, timeout: Duration) -> Result<Health, ApiError> {
        let request = self.health_request(timeout)?;
        let response = host.http(request).map_err(|error| self.no_answer(error))?;
        Ok(Health {
            status: response.status,
            date: response.date,
        })
    }

    /// Asks what [`ControlPlane::health`] answers, beside whatever is done meanwhile.
    pub fn begin_health(&self, host: &dyn Host, timeout: Duration) {
        // Why it cannot be asked is told to whoever needs the answer.
        if let Ok(request) = self.health_request(timeout) {
            host.begin_http(&request);
        }
    }

    fn health_request(&self, timeout: Duration) -> Result<Request, ApiError> {
        let request = self.request(Method::GET, "/healthz", timeout)?;
        Ok(Request {
            bearer: None,
            ..request
        })
    }

    /// `PATCH /tunnels/{id}`.
    pub fn change_tunnel(
        &self,
        host: &dyn Host,
        tunnel: TunnelName,
        change: &TunnelChange,
    ) -> Result<Tunnel, ApiError> {
        let path = format!("/tunnels/{tunnel}");
        self.send(host, Method::PATCH, &path, change)
    }

    /// `PUT /tunnels/{id}/public-key`: both keys open the tunnel from now on.
    pub fn announce_key(
        &self,
        host: &dyn Host,
        tunnel: TunnelName,
        public_key: &str,
    ) -> Result<TunnelKey, ApiError> {
        let path = format!("/tunnels/{tunnel}/public-key");
        self.send(host, Method::PUT, &path, &new_key(public_key))
    }

    /// `POST /tunnels/{id}/public-key/confirm`: the old key opens nothing any more.
    pub fn confirm_key(
        &self,
        host: &dyn Host,
        tunnel: TunnelName,
        public_key: &str,
    ) -> Result<TunnelKey, ApiError> {
        let path = format!("/tunnels/{tunnel}/public-key/confirm");
        self.send(host, Method::POST, &path, &new_key(public_key))
    }

    /// `DELETE /tunnels/{id}`. A tunnel that is gone already is as good as deleted.
    pub fn delete_tunnel(&self, host: &dyn Host, tunnel: TunnelName) -> Result<(), ApiError> {
        let path = format!("/tunnels/{tunnel}");
        match self.call(host, Method::DELETE, &path, None::<()>, REQUEST_TIMEOUT) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other.map(|_: serde_json::Value| ()),
        }
    }

    fn get<A: DeserializeOwned>(
        &self,
        host: &dyn Host,
        path: &str,
        timeout: Duration,
    ) -> Result<A, ApiError> {
        self.call(host, Method::GET, path, None::<()>, timeout)
    }

    fn send<A: DeserializeOwned>(
        &self,
        host: &dyn Host,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, ApiError> {
        self.call(host, method, path, Some(body), REQUEST_TIMEOUT)
    }

    fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        host: &dyn Host,
        method: Method,
        path: &str,
        body: Option<B>,
        timeout: Duration,
    ) -> Result<A, ApiError> {
        let mut request = self.request(method, &format!("{API_BASE}{path}"), timeout)?;
        request.json = body
            .map(|body| serde_json::to_vec(&body))
            .transpose()
            .map_err(|error| ApiError::Setup(error.into()))?;
        let response = host.http(request).map_err(|error| self.no_answer(error))?;
        self.answer(&response)
    }

    fn request(&self, method: Method, path: &str, timeout: Duration) -> Result<Request, ApiError> {
        let url = Url::parse(&format!("{}{path}", self.name()));
        Ok(Request {
            method,
            url: url.map_err(|error| ApiError::Setup(error.into()))?,
            bearer: Some(self.credential.clone()),
            json: None,
            timeout,
            authority: self.reach.authority.clone(),
            proxy: self.reach.proxy.clone(),
        })
    }

    fn answer<A: DeserializeOwned>(&self, response: &Response) -> Result<A, ApiError> {
        let not_ours = || ApiError::NotOurs {
            server: self.name(),
            status: response.status,
        };
        if !(200..300).contains(&response.status) {
            let problem = serde_json::from_slice(&response.body).map_err(|_| not_ours())?;
            return Err(ApiError::Refused {
                server: self.name(),
                problem,
            });
        }
        let body: &[u8] = if response.body.is_empty() {
            b"null"
        } else {
            &response.body
        };
        serde_json::from_slice(body).map_err(|_| not_ours())
    }

    fn no_answer(&self, error: HttpError) -> ApiError {
        match error {
            HttpError::Interrupted(interrupted) => ApiError::Interrupted(interrupted),
            HttpError::Setup(error) => ApiError::Setup(error),
            HttpError::NoAnswer(cause) => ApiError::Unreachable {
                server: self.name(),
                cause,
            },
        }
    }

    fn name(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

fn new_key(public_key: &str) -> NewPublicKey {
    NewPublicKey {
        public_key: public_key.to_owned(),
    }
}
