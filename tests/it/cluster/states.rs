//! What the vendor is shown meanwhile: by `node list`, and by the API through its load balancer.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::header::CONNECTION;
use serde_json::Value;

use crate::support::machines::Machine;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);

/// What is shown, by what it is about.
pub type Shown = BTreeMap<String, String>;

/// Somebody who looks. It ends when this is dropped.
pub struct Watcher {
    changes: Arc<Mutex<Vec<(Instant, String, String)>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to look on this machine: at what `node list --json` prints, and at what the API answers.
    pub fn start(machine: &Machine, mut list: Command, api: Api) -> Self {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let _inside = machine.enter();
        let watch = |mut look: Box<dyn FnMut() -> Shown + Send>| {
            let (changes, is_over) = (Arc::clone(&changes), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut before = Shown::new();
                while !is_over.load(Ordering::Relaxed) {
                    let now = look();
                    let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                    for (what, shown) in &now {
                        if before.get(what) != Some(shown) {
                            changes.push((Instant::now(), what.clone(), shown.clone()));
                        }
                    }
                    drop(changes);
                    before = now;
                    std::thread::sleep(EVERY);
                }
            })
        };
        let threads = vec![
            watch(Box::new(move || nodes(&mut list))),
            // Its client is made in its own thread, which is on that machine.
            watch(Box::new({
                let mut client = None;
                move || api.shown(client.get_or_insert_with(|| api.client()))
            })),
        ];
        Watcher {
            changes,
            is_over,
            threads,
        }
    }

    /// What has changed from a moment on, with the seconds since.
    pub fn changes_since(&self, since: Instant) -> Vec<String> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = changes.iter().filter(|(at, ..)| *at > since);
        changes
            .map(|(at, what, shown)| {
                let seconds = at.duration_since(since).as_secs_f64();
                format!("{seconds:.1} s {what}: {shown}")
            })
            .collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What `node list` prints of each node, without the beat, which always moves.
fn nodes(list: &mut Command) -> Shown {
    let answer = list.output().expect("the command runs");
    let Ok(Value::Array(nodes)) = serde_json::from_slice(&answer.stdout) else {
        return Shown::from([("node list".into(), "cannot be asked".into())]);
    };
    let mut shown = Shown::from([("node list".into(), "answers".into())]);
    shown.extend(nodes.iter().map(|node| {
        let name = node["name"].as_str().unwrap_or_default();
        let state = node["state"].as_str().unwrap_or_default();
        let silent = if node["beat_moves"] == true || state == "stopped" {
            ""
        } else {
            ", not heard"
        };
        let held = &node["tunnels"];
        (
            format!("node {name}"),
            format!("{state}{silent}, {held} tunnels"),
        )
    }));
    shown
}

/// How the API is asked.
pub struct Api {
    /// Where it is.
    pub url: String,
    /// With which token.
    pub token: String,
    /// Whose certificate is trusted.
    pub authority: reqwest::Certificate,
}

impl Api {
    /// A client that trusts it.
    pub fn client(&self) -> reqwest::blocking::Client {
        reqwest::blocking::Client::builder()
            .no_proxy()
            .add_root_certificate(self.authority.clone())
            .timeout(Duration::from_secs(10))
            .build()
            .expect("an HTTP client")
    }

    /// The state of each data source, or why there is none.
    pub fn shown(&self, client: &reqwest::blocking::Client) -> Shown {
        let url = format!("{}/api/v1/data-sources?limit=20", self.url);
        let request = client.get(url).bearer_auth(&self.token);
        // Each time by the load balancer's choice.
        let answer = request.header(CONNECTION, "close").send();
        let said = match &answer {
            Ok(answer) => answer.status().as_u16().to_string(),
            Err(error) if error.is_timeout() => "no answer in 10 s".to_owned(),
            Err(_) => "no connection".to_owned(),
        };
        let mut shown = Shown::from([("API".to_owned(), said)]);
        let list: Option<Value> = answer.ok().and_then(|answer| answer.json().ok());
        let sources = list.as_ref().and_then(Value::as_array);
        for source in sources.into_iter().flatten() {
            let name = source["display_name"].as_str().unwrap_or_default();
            let state = source["state"].as_str().unwrap_or_default();
            shown.insert(format!("data source {name}"), state.to_owned());
        }
        shown
    }
}
