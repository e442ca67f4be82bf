//! The vendor's side of the walk, and what runs on the host.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::bastion::commands::in_memory::{answer, problem};
use crate::bastion::failure::Interrupted;
use crate::bastion::host::http::{HttpError, Request, Response};

pub(super) const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
pub(super) const PORT: u16 = 20001;
/// Of the other region.
pub(super) const OTHER_HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBVeqk0Cv5xkVJkQyLX0KzSWGkSF7KKrCtRn3zhlCGHg";
pub(super) const OTHER_PORT: u16 = 20002;

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
    /// The call that is done and gets no answer, and after which nobody answers.
    pub last_call: Cell<usize>,
    /// The call that is done, and during which Ctrl-C is pressed.
    pub interrupted_call: Cell<usize>,
    /// Whether it is to move to the other region, and whether the vendor knows that it has.
    pub is_moving: Cell<bool>,
    pub has_moved: Cell<bool>,
    /// Whether the vendor does not let it move any more.
    pub refuses_move: Cell<bool>,
    /// The port at which the service has the tunnel end.
    pub service_port: Cell<u16>,
}

impl World {
    pub fn answer(&self, request: &Request) -> Result<Response, HttpError> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.lost_call.get() {
            return Err(HttpError::NoAnswer(anyhow::anyhow!("the line was cut")));
        }
        let last = self.last_call.get();
        if last > 0 && self.calls.get() > last {
            return Err(HttpError::NoAnswer(anyhow::anyhow!("the line is cut")));
        }
        let done = self.carry_out(request);
        match self.calls.get() {
            call if call == last => {
                Err(HttpError::NoAnswer(anyhow::anyhow!("the answer was lost")))
            }
            call if call == self.interrupted_call.get() => Err(HttpError::Interrupted(Interrupted)),
            _ => Ok(done),
        }
    }

    fn carry_out(&self, request: &Request) -> Response {
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
            (Method::PATCH, "/tunnels/7") if body.get("region").is_some() && !self.moves() => {
                (409, problem("tunnel-down", 409))
            }
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
        answer(status, &body)
    }

    /// The key of the session that the tunnel server sees.
    pub fn session(&self) -> Option<String> {
        let is_shut_out = |unit| self.shut_out.borrow().as_ref() == Some(unit);
        if self.units.borrow().iter().any(is_shut_out) {
            return None;
        }
        if self.has_moved.get() && self.service_port.get() != OTHER_PORT {
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

    /// A bastion says that it has moved the tunnel.
    fn moves(&self) -> bool {
        let is_there = self.service_port.get() == OTHER_PORT && self.session().is_some();
        if self.refuses_move.get() || !is_there {
            return false;
        }
        self.has_moved.set(true);
        true
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
        let mut tunnel = json!({
            "id": 7, "display_name": "Shop", "host": host, "port": port, "remote_port": PORT,
            "status": if session.is_some() { "up" } else { "down" }, "state": "active",
            "session": session.map(|key| json!({"since": since, "public_key": key})),
        });
        if self.is_moving.get() {
            tunnel["place"] = json!({
                "region": "eu", "remote_port": OTHER_PORT,
                "server": {
                    "host": "eu.example.com", "port": 50022, "user": "tunnel",
                    "host_keys": [OTHER_HOST_KEY],
                },
            });
            let (key, port) = if self.has_moved.get() {
                (OTHER_HOST_KEY, OTHER_PORT)
            } else {
                (HOST_KEY, PORT)
            };
            tunnel["host_keys"] = json!([key]);
            tunnel["remote_port"] = json!(port);
        }
        tunnel
    }
}

fn enrolled() -> Value {
    json!({
        "tunnel_id": 7, "remote_port": PORT, "tunnel_token": "htt_0123456789abcdef",
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
