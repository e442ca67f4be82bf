//! The vendor's side of the walk, and what runs on the host.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::bastion::commands::in_memory::{answer, problem};
use crate::bastion::host::http::{HttpError, Request, Response};

pub(super) const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

/// The vendor's side and what runs on the host.
#[derive(Default)]
pub(super) struct World {
    pub is_saved: Cell<bool>,
    pub is_removed: Cell<bool>,
    pub registered: RefCell<Option<String>>,
    pub announced: RefCell<Option<String>>,
    pub target: RefCell<(String, u16)>,
    /// The key with which the temporary tunnel runs.
    pub master: RefCell<Option<String>>,
    /// The key with which the service runs the tunnel.
    pub service: RefCell<Option<String>>,
    /// The units that do so, and those that do at boot.
    pub units: RefCell<BTreeSet<String>>,
    pub at_boot: RefCell<BTreeSet<String>>,
    /// The unit whose ssh the tunnel server does not let in.
    pub shut_out: RefCell<Option<String>>,
    /// How often the service's tunnel was started.
    pub starts: Cell<i64>,
    pub calls: Cell<usize>,
    /// The call that gets no answer.
    pub lost_call: Cell<usize>,
}

impl World {
    pub fn answer(&self, request: &Request) -> Result<Response, HttpError> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.lost_call.get() {
            return Err(HttpError::NoAnswer(anyhow::anyhow!("the line was cut")));
        }
        let body: Value = request
            .json
            .as_deref()
            .map_or(Value::Null, |json| serde_json::from_slice(json).unwrap());
        let path = request.url.path().trim_start_matches("/api/v1");
        let key = || body["public_key"].as_str().map(plain);
        let (status, body) = match (request.method.clone(), path) {
            (Method::GET, "/enrollment") => (200, self.enrollment()),
            (Method::PUT, "/enrollment/public-key") => {
                self.registered
                    .borrow_mut()
                    .get_or_insert_with(|| key().unwrap());
                (200, enrolled())
            }
            _ if self.is_removed.get() => (404, problem("not-found", 404)),
            (Method::POST, "/enrollment/tunnel-up") if self.session().is_some() => {
                (200, json!({"status": "up", "state": "connected"}))
            }
            (Method::POST, "/enrollment/tunnel-up") => (409, problem("tunnel-down", 409)),
            (Method::GET, "/enrollment/data-source") => {
                self.is_saved.set(true);
                (200, json!({"status": "saved"}))
            }
            (Method::GET, "/tunnels/7") => (200, self.tunnel()),
            (Method::PATCH, "/tunnels/7") => {
                if let Some(target) = body.get("target") {
                    let host = target["host"].as_str().unwrap().to_owned();
                    let port = u16::try_from(target["port"].as_u64().unwrap()).unwrap();
                    *self.target.borrow_mut() = (host, port);
                }
                (200, self.tunnel())
            }
            (Method::DELETE, "/tunnels/7") => {
                self.is_removed.set(true);
                (200, Value::Null)
            }
            (Method::PUT, "/tunnels/7/public-key") => {
                *self.announced.borrow_mut() =
                    key().filter(|key| Some(key) != self.registered.borrow().as_ref());
                (200, json!({"public_key": key(), "former_accepted": true}))
            }
            (Method::POST, "/tunnels/7/public-key/confirm") => {
                *self.registered.borrow_mut() = key();
                self.announced.take();
                (200, json!({"public_key": key(), "former_accepted": false}))
            }
            (method, path) => panic!("nobody answers {method} {path}"),
        };
        Ok(answer(status, &body))
    }

    /// The key of the session that the tunnel server sees.
    pub fn session(&self) -> Option<String> {
        let is_shut_out = |unit| self.shut_out.borrow().as_ref() == Some(unit);
        if self.units.borrow().iter().any(is_shut_out) {
            return None;
        }
        let running = self
            .service
            .borrow()
            .clone()
            .or(self.master.borrow().clone())?;
        let is_accepted = [&self.registered, &self.announced]
            .iter()
            .any(|known| known.borrow().as_ref() == Some(&running));
        is_accepted.then_some(running)
    }

    fn enrollment(&self) -> Value {
        let (host, port) = self.target.borrow().clone();
        let state = if self.is_saved.get() {
            "saved"
        } else {
            "draft"
        };
        json!({
            "data_source_id": 3, "tunnel_id": 7, "display_name": "Shop", "database_type": "postgresql",
            "host": host, "port": port, "state": state, "server": server(),
        })
    }

    fn tunnel(&self) -> Value {
        let (host, port) = self.target.borrow().clone();
        let session = self.session();
        let since = jiff::Timestamp::from_second(self.starts.get()).unwrap();
        json!({
            "id": 7, "display_name": "Shop", "host": host, "port": port, "remote_port": 20001,
            "status": if session.is_some() { "up" } else { "down" }, "state": "active",
            "session": session.map(|key| json!({"since": since, "public_key": key})),
        })
    }
}

fn enrolled() -> Value {
    json!({
        "tunnel_id": 7, "remote_port": 20001, "tunnel_token": "htt_0123456789abcdef",
        "server": server(),
    })
}

fn server() -> Value {
    json!({
        "host": "tunnel.example.com", "port": 50022, "user": "tunnel",
        "host_keys": [HOST_KEY],
    })
}

pub(super) fn public(private: &str) -> String {
    format!("ssh-ed25519 {} ada@bastion", private.replace(' ', "-"))
}

pub(super) fn plain(public: &str) -> String {
    public.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
