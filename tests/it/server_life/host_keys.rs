//! The tunnel server gets another host key: bastions that know it before go on as if nothing were, and the
//! operator is told of those that do not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::lab::{Lab, SERVICE_LIMIT, tunnel_of};
use crate::support::process::{self, Finished};
use crate::support::server::Server;
use crate::support::sql::Client;
use crate::support::workspace::Workspace;
use crate::support::{figures, wait};
use holistics_tunnel::protocol::{DataSource, DataSourceState};
use rustix::process::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_change_of_the_host_key_costs_a_bastion_that_was_told_of_it_nothing() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let before = list(&lab.server);
    let known = of(&before, &shop);
    assert_eq!(known["source"], "pinned", "its bastion has said so");
    assert_eq!(
        (&known["knows_current"], &known["knows_next"]),
        (&json!(true), &json!(true))
    );
    assert_shows(&lab, &before["current"]);

    let rows = Rows::read_through(&lab, &shop);
    let session = session(&lab);
    host_key(&lab.server, &["promote"])
        .expect_code(0)
        .expect_words(&["current", "SHA256:"]);
    lab.server.signal(Signal::HUP);
    wait_until_shown(&lab, &before["next"]);
    let after = list(&lab.server);
    assert_eq!(keys(&after["current"]), keys(&before["next"]));
    assert_eq!(keys(&after["former"]), keys(&before["current"]));
    assert_eq!(keys(&after["next"]), [""; 0]);
    assert_eq!(
        self::session(&lab),
        session,
        "the living session is the same"
    );

    // It reconnects without a question, and with no change on the bastion.
    let known_hosts = lab.bastion.own_folder().join("known_hosts");
    let pinned = fs::read(&known_hosts).expect("the pinned keys");
    rows.all_came();
    reconnect(&lab, &shop);
    assert_eq!(fs::read(&known_hosts).expect("the pinned keys"), pinned);

    // The key after that one is made while the tunnel runs, and one command takes it over.
    let rows = Rows::read_through(&lab, &shop);
    let session = self::session(&lab);
    host_key(&lab.server, &["next"])
        .expect_code(0)
        .expect_words(&["next", "SHA256:"]);
    let next = list(&lab.server)["next"].clone();
    assert_eq!(
        of(&list(&lab.server), &shop)["knows_next"],
        false,
        "announced is not pinned"
    );
    host_key(&lab.server, &["promote"])
        .expect_code(1)
        .expect_words(&["Shop", "update-tunnel"]);
    wait_until_announced(&lab, &shop, &next);
    lab.bastion
        .run(
            &mut lab
                .bastion
                .program(["update-tunnel", "--yes", id_of(&shop).as_str()]),
        )
        .expect_code(0);
    let known = list(&lab.server);
    assert_eq!(of(&known, &shop)["source"], "pinned");
    assert_eq!(of(&known, &shop)["knows_next"], true);
    let pinned = fs::read_to_string(&known_hosts).expect("the pinned keys");
    for key in keys(&next) {
        assert!(pinned.contains(&key), "{pinned}");
    }
    for key in keys(&before["current"]) {
        assert!(
            !pinned.contains(&key),
            "a replaced key stays good:\n{pinned}"
        );
    }
    host_key(&lab.server, &["promote"])
        .expect_code(1)
        .expect_words(&["former", "host-key drop"]);
    host_key(&lab.server, &["drop"]).expect_code(0);
    host_key(&lab.server, &["promote"]).expect_code(0);
    // Without a signal, too.
    wait_until_shown(&lab, &next);
    assert_eq!(self::session(&lab), session);
    rows.all_came();
    reconnect(&lab, &shop);
}

#[test]
fn a_bastion_that_does_not_know_the_next_key_is_named_before_it_is_locked_out_and_can_come_back() {
    let lab = Lab::with(server_of_before());
    let shop = lab.active_data_source("Shop");
    let id = id_of(&shop);
    // As a tunnel is that was set up by an older version of both.
    forget_what_is_known(&lab.server);
    let known = of(&list(&lab.server), &shop);
    assert_eq!(
        (&known["source"], &known["knows_current"]),
        (&json!("assumed"), &json!(true))
    );
    host_key(&lab.server, &["promote"])
        .expect_code(1)
        .expect_words(&["no next host key", "host-key next"]);
    host_key(&lab.server, &["next"]).expect_code(0);
    host_key(&lab.server, &["next"])
        .expect_code(1)
        .expect_words(&["already", "promote"]);
    let listed = list(&lab.server);
    assert_eq!(of(&listed, &shop)["knows_next"], false);
    host_key(&lab.server, &["list"])
        .expect_code(0)
        .expect_words(&["Shop", &id, "last seen", "update-tunnel"]);

    host_key(&lab.server, &["promote"])
        .expect_code(1)
        .expect_words(&[
            "Shop",
            &id,
            "nothing was changed",
            "update-tunnel",
            "--force",
        ]);
    assert_eq!(
        keys(&list(&lab.server)["current"]),
        keys(&listed["current"])
    );

    wait_until_announced(&lab, &shop, &listed["next"]);
    let told = check(&lab, "host-keys");
    assert_eq!(told["outcome"], "fail", "{told}");
    assert!(
        told["remedy"]
            .as_str()
            .is_some_and(|remedy| remedy.contains("update-tunnel")),
        "{told}"
    );

    let rows = Rows::read_through(&lab, &shop);
    host_key(&lab.server, &["promote", "--force"]).expect_code(0);
    lab.server.signal(Signal::HUP);
    wait_until_shown(&lab, &listed["next"]);
    rows.all_came();
    host_key(&lab.server, &["list"])
        .expect_code(0)
        .expect_words(&["cannot reconnect", "Shop"]);
    lab.bastion.service("restart");
    lab.operator
        .wait_for_state(shop.id, DataSourceState::Down, SERVICE_LIMIT);
    let told = check(&lab, "server-host-key");
    assert_eq!(told["outcome"], "fail", "{told}");
    assert!(
        told["remedy"]
            .as_str()
            .is_some_and(|remedy| remedy.contains("update-tunnel")),
        "{told}"
    );

    // The control plane is known by its certificate, and so may say what holds now.
    let update = &mut lab.bastion.program(["update-tunnel", "--yes", id.as_str()]);
    lab.bastion
        .run(update)
        .expect_code(0)
        .expect_words(&["host keys"]);
    lab.operator
        .wait_for_state(shop.id, DataSourceState::Active, LIMIT);
    assert!(lab.login_through(&shop).is_ok());
    for name in ["host-keys", "server-host-key"] {
        assert_eq!(check(&lab, name)["outcome"], "pass");
    }
    assert_eq!(of(&list(&lab.server), &shop)["source"], "pinned");
    let again = &mut lab.bastion.program(["update-tunnel", "--yes", id.as_str()]);
    lab.bastion
        .run(again)
        .expect_code(0)
        .expect_words(&["Nothing was changed"]);
}

#[test]
fn a_new_key_of_the_bastion_brings_it_the_next_host_key() {
    let lab = Lab::with(server_of_before());
    let shop = lab.active_data_source("Shop");
    host_key(&lab.server, &["next"]).expect_code(0);
    wait_until_announced(&lab, &shop, &list(&lab.server)["next"]);
    lab.bastion
        .run(&mut lab.bastion.program(["rotate-key", "--yes"]))
        .expect_code(0);
    assert_eq!(of(&list(&lab.server), &shop)["knows_next"], true);
    host_key(&lab.server, &["promote"]).expect_code(0);
}

#[test]
fn a_bastion_that_says_nothing_is_known_by_what_it_was_told() {
    let lab = Lab::new();
    let setup = lab.setup_that_waits(&lab.data_source("Shop"));
    let known = &list(&lab.server)["tunnels"][0];
    assert_eq!(
        (&known["source"], &known["knows_next"]),
        (&json!("told"), &json!(true))
    );
    drop(setup);

    let record = fs::read(lab.bastion.receipt()).expect("the receipt");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let tunnel = record["tunnels"]
        .as_object()
        .and_then(|all| all.values().next())
        .expect("a tunnel");
    let pinned = &tunnel["enrolled"]["server"]["host_keys"];
    let report = |keys: &Value| {
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let url = format!("{}/api/v1/tunnels/{}", lab.server.url, known["tunnel_id"]);
        let request = client.patch(url).json(&json!({ "host_keys": keys }));
        let token = tunnel["enrolled"]["tunnel_token"]
            .as_str()
            .expect("a token");
        request
            .bearer_auth(token)
            .send()
            .expect("an answer")
            .status()
            .as_u16()
    };
    for wrong in [
        json!([]),
        json!(["ssh-ed25519 AAAA"]),
        json!([1]),
        json!(vec![&pinned[0]; 17]),
    ] {
        assert!([400, 422].contains(&report(&wrong)), "{wrong} is accepted");
    }
    assert_eq!(list(&lab.server)["tunnels"][0]["source"], "told");
    assert_eq!(report(&json!([pinned[0]])), 200);
    let known = &list(&lab.server)["tunnels"][0];
    assert_eq!(
        (&known["source"], &known["knows_next"]),
        (&json!("pinned"), &json!(false))
    );
}

#[test]
fn a_next_key_that_cannot_be_used_is_told_and_changes_nothing() {
    let mut server = Server::start();
    let folder = server.data_dir().join("ssh");
    let next = folder.join("next/ssh_host_ed25519_key");
    let current = keys(&list(&server)["current"]);
    let shown = || scan(&server);
    assert!(current.contains(&shown()));

    fs::set_permissions(&next, fs::Permissions::from_mode(0o644)).expect("a mode");
    for action in ["list", "next", "promote"] {
        host_key(&server, &[action])
            .expect_code(1)
            .expect_words(&["may be read by others", "chmod 600"]);
    }
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::write(&next, "not a key").expect("a file");
    for action in ["list", "next", "promote"] {
        host_key(&server, &[action])
            .expect_code(1)
            .expect_words(&["is not an OpenSSH private key", "host-key next"]);
    }
    server.signal(Signal::HUP);
    let is_told = || server.log().contains("cannot use the host keys");
    wait::until_true("it is told", LIMIT, || server.log(), is_told);
    assert!(current.contains(&shown()));

    // Nor does it keep the server from starting.
    server.stop();
    server.start_again();
    assert!(current.contains(&scan(&server)));
    assert!(
        server.log().contains("the next host key is not announced"),
        "{}",
        server.log()
    );

    // What the message says to do succeeds.
    fs::remove_dir_all(folder.join("next")).expect("the folder");
    host_key(&server, &["next"]).expect_code(0);

    let lock = fs::File::options()
        .write(true)
        .open(folder.join("lock"))
        .expect("the lock");
    lock.lock().expect("the lock");
    for action in ["next", "promote", "drop"] {
        host_key(&server, &[action])
            .expect_code(1)
            .expect_words(&["another `host-key` command"]);
    }
    drop(lock);
    host_key(&server, &["promote"]).expect_code(0);
    host_key(&server, &["promote"])
        .expect_code(1)
        .expect_words(&["no next host key"]);
    assert_eq!(keys(&list(&server)["former"]), current);
}

// ---------------------------------------------------------------------------------------------

/// A server whose first start was before there was a next key.
fn server_of_before() -> Server {
    let mut server = Server::start();
    server.stop();
    fs::remove_dir_all(server.data_dir().join("ssh/next")).expect("the next key");
    server.start_again();
    server
}

fn forget_what_is_known(server: &Server) {
    let forgotten = server.database().execute("DELETE FROM known_host_keys");
    assert_eq!(forgotten, 1);
}

fn host_key(server: &Server, arguments: &[&str]) -> Finished {
    let folder = Workspace::new();
    process::run(
        server.command("host-key").args(arguments),
        folder.path(),
        "host-key",
    )
}

fn list(server: &Server) -> Value {
    host_key(server, &["list", "--json"]).expect_code(0).json()
}

/// What is known of a data source's tunnel.
fn of(list: &Value, source: &DataSource) -> Value {
    let tunnels = list["tunnels"].as_array().expect("tunnels");
    let id = json!(tunnel_of(source).id);
    let known = tunnels.iter().find(|tunnel| tunnel["tunnel_id"] == id);
    known
        .unwrap_or_else(|| panic!("no tunnel {id} in {list}"))
        .clone()
}

fn keys(list: &Value) -> Vec<String> {
    let keys = list.as_array().expect("keys").iter();
    keys.map(|key| key["public_key"].as_str().expect("a key").to_owned())
        .collect()
}

fn id_of(source: &DataSource) -> String {
    tunnel_of(source).id.to_string()
}

/// The ed25519 key that a newcomer is shown.
fn scan(server: &Server) -> String {
    let scan = std::process::Command::new("ssh-keyscan")
        .args([
            "-T",
            "20",
            "-t",
            "ed25519",
            "-p",
            server.ssh_port(),
            "127.0.0.1",
        ])
        .output()
        .expect("ssh-keyscan");
    let line = String::from_utf8(scan.stdout).expect("text");
    let key = line.trim().split_once(' ').map(|(_, key)| key.to_owned());
    key.unwrap_or_default()
}

#[track_caller]
fn assert_shows(lab: &Lab, expected: &Value) {
    assert!(keys(expected).contains(&scan(&lab.server)));
}

fn wait_until_shown(lab: &Lab, expected: &Value) {
    let shown = || keys(expected).contains(&scan(&lab.server));
    wait::until_true("the new key is shown", LIMIT, || lab.server.log(), shown);
}

/// Waits until bastions are told of these keys.
fn wait_until_announced(lab: &Lab, source: &DataSource, expected: &Value) {
    let expected = keys(expected);
    let token = lab.bastion.tunnel_record(tunnel_of(source).id)["enrolled"]["tunnel_token"].clone();
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let announced = || {
        let url = format!("{}/api/v1/tunnels/{}", lab.server.url, tunnel_of(source).id);
        let answer = client
            .get(url)
            .bearer_auth(token.as_str().expect("a token"))
            .send();
        let text = answer
            .and_then(reqwest::blocking::Response::text)
            .unwrap_or_default();
        expected.iter().all(|key| text.contains(key))
    };
    wait::until_true(
        "the keys are announced",
        LIMIT,
        || lab.server.log(),
        announced,
    );
}

/// The ssh that holds the tunnel.
fn session(lab: &Lab) -> Vec<i32> {
    let processes = process::naming(&lab.bastion.own_folder()).into_iter();
    let ssh: Vec<_> = processes
        .filter(|process| process.name == "ssh")
        .map(|process| process.pid)
        .collect();
    assert_eq!(ssh.len(), 1, "{ssh:?}");
    ssh
}

/// Ends the tunnel's connection, and waits until it is back.
fn reconnect(lab: &Lab, source: &DataSource) {
    lab.bastion.service("restart").expect_code(0);
    lab.operator
        .wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
    wait::until_true("rows", LIMIT, String::new, || {
        lab.login_through(source).is_ok()
    });
}

/// One check of `doctor`.
fn check(lab: &Lab, name: &str) -> Value {
    let found = lab
        .bastion
        .run(&mut lab.bastion.program(["doctor", "--json"]))
        .json();
    let checks = found["checks"].as_array().expect("checks").iter();
    let found = checks.clone().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no check {name}")).clone()
}

/// Reads rows once a second, all through one connection.
struct Rows {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(u32, Duration), String>>,
}

impl Rows {
    fn read_through(lab: &Lab, source: &DataSource) -> Self {
        let mut client: Client = lab.login_through(source).expect("a login");
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut read, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
            loop {
                let over = is_over.load(Ordering::SeqCst);
                let rows = client.number("SELECT count(*) FROM orders");
                rows.map_err(|error| error.to_string())?;
                longest = longest.max(last.elapsed());
                (read, last) = (read + 1, Instant::now());
                if over {
                    return Ok((read, longest));
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Rows { stop, thread }
    }

    #[track_caller]
    fn all_came(self) {
        self.stop.store(true, Ordering::SeqCst);
        let (read, longest) = self
            .thread
            .join()
            .expect("the reader")
            .expect("rows on the living session");
        figures::say(&format!(
            "{read} readings, one a second, longest gap {longest:.1?}"
        ));
    }
}
