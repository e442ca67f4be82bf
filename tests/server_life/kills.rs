//! A server that is killed in the middle of whatever it does: what it has answered holds, what it was asked twice it has
//! done once, and its database is whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holistics_tunnel::protocol::{API_BASE, DataSource, Enrolled};
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::database::ServerDatabase;
use crate::support::lab::token_of;
use crate::support::process::Running;
use crate::support::server::{Operator, Server};
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(120);

/// How often it is killed, and after how many more answers each time at least.
const KILLS: u64 = 12;
const ANSWERS: u64 = 9;

/// How many are at it at a time.
const CUSTOMERS: usize = 4;

#[test]
#[ignore = "written, and not seen to pass yet"]
fn a_server_that_is_killed_again_and_again_forgets_nothing_that_it_has_answered() {
    // No port rests, and there are some for all.
    let mut server = Server::start_with(10, &["--ports", "30000-30999"]);
    let work = Arc::new(Work::default());
    let customers: Vec<_> = (0..CUSTOMERS)
        .map(|number| {
            let customer = Customer {
                number,
                operator: server.operator(),
                api: format!("{}{API_BASE}", server.url),
                http: Client::builder().no_proxy().build().expect("a client"),
                work: Arc::clone(&work),
            };
            std::thread::spawn(move || customer.go_on())
        })
        .collect();
    for kill in 1..=KILLS {
        let before = work.answers.load(Ordering::Relaxed);
        // Now and then sooner, so that it is not always the same moment of somebody's life.
        let wanted = before + ANSWERS + kill % 4;
        wait::until_true(
            "some more answers",
            LIMIT,
            || server.log(),
            || {
                customers.iter().any(|customer| customer.is_finished())
                    || work.answers.load(Ordering::Relaxed) >= wanted
            },
        );
        server.kill();
        assert_whole(&server.database());
        server.start_again();
    }
    work.is_over.store(true, Ordering::Relaxed);
    let lives: Vec<Life> = customers
        .into_iter()
        .flat_map(|customer| customer.join().expect("a customer"))
        .collect();
    assert_whole(&server.database());
    for life in &lives {
        life.assert_remembered(&server);
    }
    let (answers, lost) = (&work.answers, &work.lost);
    println!(
        "{KILLS} kills, {} lives, {} answers, {} lost ones",
        lives.len(),
        answers.load(Ordering::Relaxed),
        lost.load(Ordering::Relaxed)
    );
    assert!(
        lost.load(Ordering::Relaxed) > 0,
        "no kill has met a request"
    );
}

/// What nobody may ever find otherwise.
fn assert_whole(database: &ServerDatabase) {
    if database.is_file() {
        assert_eq!(database.texts("PRAGMA integrity_check"), ["ok"]);
        let dangling = "SELECT count(*) FROM pragma_foreign_key_check";
        assert_eq!(database.number(dangling), 0, "foreign keys");
    }
    for (what, query) in [
        (
            "a port is two tunnels'",
            "SELECT count(*) FROM (SELECT region, remote_port FROM tunnels WHERE removed_at IS NULL
                 AND remote_port IS NOT NULL GROUP BY region, remote_port HAVING count(*) > 1) AS twice",
        ),
        (
            "a key opens nothing",
            "SELECT count(*) FROM keys WHERE NOT EXISTS
                 (SELECT 1 FROM tunnels WHERE key_id = keys.id OR next_key_id = keys.id)",
        ),
        (
            "a tunnel is enrolled without a key or a port",
            "SELECT count(*) FROM tunnels WHERE removed_at IS NULL
                 AND (enrolled_at IS NOT NULL) <> (key_id IS NOT NULL AND remote_port IS NOT NULL)",
        ),
        (
            "a tunnel is enrolled and has no token",
            "SELECT count(*) FROM tunnels WHERE removed_at IS NULL AND enrolled_at IS NOT NULL AND NOT EXISTS
                 (SELECT 1 FROM tokens WHERE tunnel_id = tunnels.id AND kind = 'tunnel' AND revoked_at IS NULL)",
        ),
        (
            "a data source has no history",
            "SELECT count(*) FROM data_sources WHERE NOT EXISTS
                 (SELECT 1 FROM events WHERE data_source_id = data_sources.id)",
        ),
        (
            "a data source is removed and its tunnel is not",
            "SELECT count(*) FROM data_sources AS d JOIN tunnels AS t ON t.data_source_id = d.id
                 WHERE (d.removed_at IS NULL) <> (t.removed_at IS NULL)",
        ),
        (
            "a data source is there twice",
            "SELECT count(*) FROM (SELECT display_name FROM data_sources GROUP BY display_name
                 HAVING count(*) > 1) AS twice",
        ),
    ] {
        assert_eq!(database.number(query), 0, "{what}");
    }
}

#[derive(Default)]
struct Work {
    answers: AtomicU64,
    /// Requests to which no answer came.
    lost: AtomicU64,
    is_over: AtomicBool,
}

/// An operator and a bastion, who ask again until they are answered.
struct Customer {
    number: usize,
    operator: Operator,
    api: String,
    http: Client,
    work: Arc<Work>,
}

/// What became of a data source, as it was answered.
struct Life {
    source: DataSource,
    enrolled: Enrolled,
    key: String,
    host: String,
    is_removed: bool,
}

impl Customer {
    fn go_on(&self) -> Vec<Life> {
        let mut lives = Vec::new();
        while !self.work.is_over.load(Ordering::Relaxed) {
            lives.push(self.live(lives.len()));
        }
        lives
    }

    fn live(&self, turn: usize) -> Life {
        let name = format!("Customer {} {turn}", self.number);
        let source = self.insist(&[200, 201], || {
            let new = json!({
                "display_name": name, "database_type": "postgresql", "host": "db", "port": 5432,
            });
            let request = self.operator.call(Method::POST, "/data-sources");
            request.header("Idempotency-Key", &name).json(&new)
        });
        let source: DataSource = serde_json::from_value(source).expect("a data source");
        let key = |which| key(self.number, turn, which);
        let enroll = || {
            let registration = json!({
                "public_key": key(0), "hostname": "bastion", "os": "Debian 12", "user": "ann",
            });
            let request = self.http.put(format!("{}/enrollment/public-key", self.api));
            request.bearer_auth(token_of(&source)).json(&registration)
        };
        let enrolled = self.insist(&[200, 201], enroll);
        assert_eq!(self.insist(&[200, 201], enroll), enrolled, "another answer");
        let enrolled: Enrolled = serde_json::from_value(enrolled).expect("an enrollment");
        let as_tunnel = |method: Method, rest: &str| {
            let url = format!("{}/tunnels/{}{rest}", self.api, enrolled.tunnel_id);
            let request = self.http.request(method, url);
            request.bearer_auth(&enrolled.tunnel_token)
        };
        // Nothing is up.
        let confirm = || {
            let request = self.http.post(format!("{}/enrollment/tunnel-up", self.api));
            request.bearer_auth(&enrolled.tunnel_token)
        };
        self.insist(&[409], confirm);
        let announced = self.insist(&[200], || {
            as_tunnel(Method::PUT, "/public-key").json(&json!({ "public_key": key(1) }))
        });
        assert_eq!(announced["former_accepted"], true);
        // It is taken back.
        self.insist(&[200], || {
            as_tunnel(Method::PUT, "/public-key").json(&json!({ "public_key": key(0) }))
        });
        let place = format!("/data-sources/{}", source.id);
        let host = format!("db-{turn}");
        self.insist(&[200], || {
            let request = self.operator.call(Method::PATCH, &place);
            request.json(&json!({ "host": host }))
        });
        let is_removed = match turn % 3 {
            // What was removed by a request that got no answer is not there any more.
            0 => {
                self.insist(&[200, 204, 401, 404], || as_tunnel(Method::DELETE, ""));
                true
            }
            1 => {
                let place = format!("{place}?force=true");
                self.insist(&[200, 204, 404], || {
                    self.operator.call(Method::DELETE, &place)
                });
                true
            }
            _ => false,
        };
        Life {
            source,
            enrolled,
            key: key(0),
            host,
            is_removed,
        }
    }

    /// Asks until there is an answer, which must be one of these.
    fn insist(&self, statuses: &[u16], request: impl Fn() -> RequestBuilder) -> Value {
        let since = Instant::now();
        loop {
            // An answer that was cut off is none.
            let answered = request()
                .send()
                .and_then(|answer| Ok((answer.status(), answer.url().clone(), answer.text()?)));
            match answered {
                Ok((status, url, text)) => {
                    assert!(
                        statuses.contains(&status.as_u16()),
                        "{status} from {url}: {text}"
                    );
                    self.work.answers.fetch_add(1, Ordering::Relaxed);
                    return serde_json::from_str(&text).unwrap_or_default();
                }
                Err(error) => {
                    // One that was not there yet has not been asked.
                    if !error.is_connect() {
                        self.work.lost.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(since.elapsed() < LIMIT, "{error}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

impl Life {
    fn assert_remembered(&self, server: &Server) {
        let now = server.operator().data_source(self.source.id);
        let state = serde_json::to_value(now.state).expect("a state");
        if self.is_removed {
            assert_eq!(state, "removed", "{}", self.source.display_name);
            return;
        }
        assert_eq!(now.host, self.host);
        let tunnel = now.tunnel.expect("a tunnel");
        assert_eq!(tunnel.id, self.enrolled.tunnel_id);
        assert_eq!(tunnel.remote_port, Some(self.enrolled.remote_port));
        let opened = format!(
            "SELECT count(*) FROM tunnels JOIN keys ON keys.id = tunnels.key_id
             WHERE tunnels.id = {} AND public_key = '{}' AND next_key_id IS NULL",
            tunnel.id, self.key
        );
        assert_eq!(server.database().number(&opened), 1);
    }
}

/// A public key that nobody else has, and nobody the other half of.
fn key(customer: usize, turn: usize, which: u8) -> String {
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    let mut bytes = [which; 32];
    bytes[..8].copy_from_slice(&customer.to_be_bytes());
    bytes[8..16].copy_from_slice(&turn.to_be_bytes());
    blob.extend(bytes);
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

// ---------------------------------------------------------------------------------------------
// The first start
// ---------------------------------------------------------------------------------------------

#[test]
#[ignore = "written, and not seen to pass yet"]
fn a_first_start_that_is_killed_anywhere_is_finished_by_the_next_one() {
    for name in [
        "serve.lock",
        "control-plane.sqlite",
        "control-plane.sqlite-wal",
        "secret.key",
        "last-run",
        "ssh",
        "ssh/next",
        "ssh/ssh_host_ed25519_key",
        "ssh/ssh_host_ecdsa_key",
        "public-url",
        "sign-in-link",
    ] {
        let server = Server::not_started();
        let reached = server.data_dir().join(name);
        let folder = Workspace::new();
        let mut serve = server.command("serve");
        let ports = ["--listen", "127.0.0.1:0", "--ssh-listen", "127.0.0.1:0"];
        let starting = Running::start(serve.args(ports), folder.path(), "first");
        kill_once(&starting, &reached);
        drop(starting);
        let server = server.first_launch();
        assert!(server.data_dir().join("sign-in-link").exists(), "{name}");
        let left: Vec<_> = names_below(&server.data_dir());
        let unfinished = |name: &String| name.contains("/.") || name.ends_with(".new");
        assert!(!left.iter().any(unfinished), "{name}: {left:?}");
        server.operator().create("Shop", 5432);
        assert_whole(&server.database());
    }
}

/// As soon as it has come to this.
fn kill_once(starting: &Running, reached: &Path) {
    let since = Instant::now();
    while !reached.exists() {
        assert!(since.elapsed() < LIMIT, "{}", starting.output());
        std::hint::spin_loop();
    }
    starting.signal(Signal::KILL);
}

fn names_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            names.extend(names_below(&path));
        }
        names.push(path.display().to_string());
    }
    names
}
