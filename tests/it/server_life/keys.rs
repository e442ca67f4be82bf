//! Keys where several servers share one PostgreSQL: what is revoked at one opens nothing at the others, and what is
//! known opens its tunnel also while the database is gone.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{API_BASE, DataSource};
use reqwest::blocking::Client;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::database::ServerDatabase;
use crate::support::lab::tunnel_of;
use crate::support::ports;
use crate::support::postgres::Postgres;
use crate::support::process::{self, Running};
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60);
const FAILED: i32 = 1;

/// In which a request is answered whatever the database does.
const ANSWERED_IN: Duration = Duration::from_secs(20);

/// In which a revoked key is closed everywhere when that was told, on the busiest machine.
const TOLD: Duration = Duration::from_secs(8);

/// The same though nothing was told: 15 s, and what a busy machine needs.
const CLOSED_UNTOLD: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------------------------
// Two servers
// ---------------------------------------------------------------------------------------------

#[test]
fn a_key_that_is_revoked_at_one_server_opens_nothing_at_the_other_at_once() {
    let two = Two::start();
    let mut took = Vec::new();
    for name in ["First", "Second", "Third"] {
        let bastion = Bastion::enroll(&two.first, name);
        let ssh = bastion.connect(&two.second);
        took.push(two.revoke(&bastion, ssh, LIMIT));
        bastion.assert_refused(&two.second);
        bastion.assert_refused(&two.first);
    }
    took.sort_unstable();
    println!("closed at the other server after {took:?}");
    assert!(took[1] < TOLD, "{took:?}");
}

#[test]
fn a_key_that_is_revoked_opens_nothing_at_the_other_server_soon_though_nothing_is_told() {
    let two = Two::start();
    let bastion = Bastion::enroll(&two.first, "Untold");
    let ssh = bastion.connect(&two.second);
    two.first.database().execute(
        "CREATE OR REPLACE FUNCTION note_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO key_changes (tunnel_id, version) VALUES (NEW.id, nextval('key_versions'))
                 ON CONFLICT (tunnel_id) DO UPDATE SET version = excluded.version;
             RETURN NULL;
         END $$",
    );
    let took = two.revoke(&bastion, ssh, CLOSED_UNTOLD);
    println!("closed at the other server after {took:?}, untold");

    // Who comes with a key of which nothing was told does not wait for that.
    let unknown = Bastion::enroll(&two.first, "Unknown");
    let begun = Instant::now();
    unknown.connect(&two.second);
    println!("a new key logged in after {:?}, untold", begun.elapsed());
    assert!(begun.elapsed() < TOLD, "{:?}", begun.elapsed());
}

#[test]
fn a_new_key_takes_the_old_one_s_place_also_at_the_other_server() {
    let two = Two::start();
    let mut bastion = Bastion::enroll(&two.first, "Shop");
    let old = bastion.connect(&two.second);
    let old_key = bastion.new_key("new");
    let new_key = bastion.public_key();

    let announced = bastion.key_call(&two.first, Method::PUT, "", &new_key);
    assert_eq!(announced["former_accepted"], true);
    // It takes the port from the old one, which both servers accept until it is confirmed.
    let new = bastion.connect(&two.second);
    old.wait(LIMIT);
    // The session is at the other server than the one that is asked.
    let confirmed = bastion.key_call(&two.first, Method::POST, "/confirm", &new_key);
    assert_eq!(confirmed["former_accepted"], false);
    two.wait_until_confirmed(&bastion.source);
    assert!(new.is_running());
    bastion.private = old_key;
    bastion.assert_refused(&two.first);
    bastion.assert_refused(&two.second);
}

/// Two servers on one database.
struct Two {
    first: Server,
    second: Server,
}

impl Two {
    fn start() -> Self {
        let database = Postgres::server_database();
        let first = Server::start_on(&database, &["--node-name", "node-a"]);
        let second = first.start_beside(&["--node-name", "node-b"]);
        register_nodes(&first.database());
        Two { first, second }
    }

    /// Removes the data source at the first server. Returns how long it took until the session at the second was
    /// closed, as its ssh sees it.
    #[track_caller]
    fn revoke(&self, bastion: &Bastion, ssh: Running, limit: Duration) -> Duration {
        let begun = Instant::now();
        self.first.operator().delete_now(bastion.source.id);
        let done = Instant::now();
        while ssh.is_running() {
            assert!(done.elapsed() < limit, "{}", self.second.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = begun.elapsed();
        assert!(!bastion.listens(), "its port is closed");
        self.wait_until_confirmed(&bastion.source);
        took
    }

    /// Waits until the API says that both have taken over the last change.
    #[track_caller]
    fn wait_until_confirmed(&self, source: &DataSource) {
        let operator = self.first.operator();
        let now = || operator.data_source(source.id);
        wait::until_true(
            "both have confirmed",
            LIMIT,
            || format!("{:?}", now()),
            || {
                let now = now();
                let tunnel = tunnel_of(&now);
                tunnel.key_pending_on.is_empty() && tunnel.key_confirmed_by == ["node-a", "node-b"]
            },
        );
    }
}

#[test]
fn the_api_names_the_servers_that_have_yet_to_take_over_a_change() {
    let database = Postgres::server_database();
    let server = Server::start_on(&database, &["--node-name", "node-a"]);
    // One that is there and takes nothing over.
    register_nodes(&server.database());
    let bastion = Bastion::enroll(&server, "Shop");
    let confirmed = || {
        let now = server.operator().data_source(bastion.source.id);
        tunnel_of(&now).key_confirmed_by == ["node-a"]
            && tunnel_of(&now).key_pending_on == ["node-b"]
    };
    wait::until_true("one has confirmed", LIMIT, || server.log(), confirmed);
    server.operator().delete_now(bastion.source.id);
    wait::until_true("the removal, too", LIMIT, || server.log(), confirmed);
    server
        .database()
        .execute("UPDATE nodes SET state = 'stopped' WHERE name = 'node-b'");
    let now = server.operator().data_source(bastion.source.id);
    assert!(tunnel_of(&now).key_pending_on.is_empty());
}

// ---------------------------------------------------------------------------------------------
// Without PostgreSQL
// ---------------------------------------------------------------------------------------------

#[test]
fn known_keys_open_their_tunnels_while_postgresql_is_gone_and_everything_else_says_so() {
    let mut postgres = Postgres::start();
    let metrics = format!("127.0.0.1:{}", ports::free_port());
    let mut server = Server::start_on(
        &postgres.guarded_server_database(),
        &["--node-name", "node-a", "--metrics-listen", &metrics],
    );
    let known = Bastion::enroll(&server, "Known");
    let ssh = known.connect(&server);
    assert_eq!(metric(&metrics, "key_table_behind"), 0.0);
    assert_eq!(metric(&metrics, "key_table_keys"), 1.0);

    postgres.crash();
    let noticed = || metric(&metrics, "key_table_behind") == 1.0;
    wait::until_true("the server notices", LIMIT, || server.log(), noticed);
    assert!(ssh.is_running() && known.listens());
    known.disconnect(ssh);
    let ssh = known.connect(&server);
    Bastion::unknown(&known).assert_refused(&server);
    assert_unavailable(&server);
    assert!(metric(&metrics, "stale_key_answers_total") > 0.0);
    known.disconnect(ssh);

    // Also one that is started now.
    server.stop();
    server.start_again();
    let words = "tunnels are served to the keys that are known on disk";
    assert!(server.log().contains(words), "{}", server.log());
    let ssh = known.connect(&server);
    Bastion::unknown(&known).assert_refused(&server);
    assert_unavailable(&server);
    assert_eq!(metric(&metrics, "key_table_behind"), 1.0);
    let age = metric(&metrics, "key_table_age_seconds");
    assert!((1.0..600.0).contains(&age), "{age}");

    postgres.start_again(false);
    let is_back = || metric(&metrics, "key_table_behind") == 0.0 && ready(&server);
    wait::until_true("all is well again", LIMIT, || server.log(), is_back);
    assert!(ssh.is_running() && known.listens());
    assert!(metric(&metrics, "key_table_age_seconds") < 60.0);
    let new = Bastion::enroll(&server, "New");
    new.connect(&server);
    server.operator().delete_now(known.source.id);
    ssh.wait(LIMIT);
}

#[test]
fn known_keys_open_their_tunnels_also_at_a_start_before_somebody_has_mended_the_database() {
    let postgres = Postgres::start();
    let database = postgres.guarded_server_database();
    let metrics = format!("127.0.0.1:{}", ports::free_port());
    let mut server = Server::start_on(&database, &["--metrics-listen", &metrics]);
    let known = Bastion::enroll(&server, "Known");
    known.disconnect(known.connect(&server));
    let file = server.data_dir().join("key-table");
    let is_kept = || fs::read_to_string(&file).is_ok_and(|it| it.contains(&known.public_key()));
    wait::until_true("the file", LIMIT, || server.log(), is_kept);
    assert_eq!(metric(&metrics, "database_open"), 1.0);
    let name = database.name();
    let rename = |from: &str, to: &str| -> &'static str {
        format!("ALTER DATABASE {from} RENAME TO {to}").leak()
    };
    postgres.run(
        name,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$",
    );
    let opened_later = "tunnels are served to the keys that are known on disk";
    for (at, breaks, mends, words) in [
        (
            "postgres",
            "ALTER ROLE keeper PASSWORD 'another'",
            "ALTER ROLE keeper PASSWORD 'sesame'",
            ["password authentication failed", opened_later],
        ),
        (
            "postgres",
            rename(name, "away"),
            rename("away", name),
            ["does not exist", opened_later],
        ),
        (
            "postgres",
            "ALTER ROLE keeper SET default_transaction_read_only = on",
            "ALTER ROLE keeper RESET default_transaction_read_only",
            ["it is read-only", opened_later],
        ),
        (
            name,
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'later', TRUE, '', 0)",
            "DELETE FROM _sqlx_migrations WHERE version = 9999",
            ["use the newer version", opened_later],
        ),
        // Also where it is only found once the database is open.
        (
            name,
            "CREATE TRIGGER full_disk BEFORE INSERT ON secret_mark FOR EACH ROW EXECUTE FUNCTION refuse()",
            "DROP TRIGGER full_disk ON secret_mark",
            ["whose secret.key", opened_later],
        ),
        (
            name,
            "CREATE TRIGGER full_disk BEFORE INSERT ON nodes FOR EACH ROW EXECUTE FUNCTION refuse()",
            "DROP TRIGGER full_disk ON nodes",
            [
                "cannot tell the other nodes of this one",
                "Tunnels are served meanwhile",
            ],
        ),
    ] {
        server.stop();
        postgres.run(at, breaks);
        server.start_again();
        for words in words {
            assert!(server.log().contains(words), "{words}: {}", server.log());
        }
        let ssh = known.connect(&server);
        assert!(!ready(&server), "{words:?}");
        let is_open = f64::from(!words.contains(&opened_later));
        assert_eq!(metric(&metrics, "database_open"), is_open, "{words:?}");
        postgres.run(at, mends);
        wait::until_true("all is well", LIMIT, || server.log(), || ready(&server));
        assert_eq!(metric(&metrics, "database_open"), 1.0, "{words:?}");
        known.disconnect(ssh);
    }
}

#[test]
fn what_was_taken_over_is_confirmed_also_while_all_who_write_have_to_wait() {
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "node-a"]);
    let _bastion = Bastion::enroll(&server, "Shop");
    let database = server.database();
    let mut writers = Vec::new();
    database.held(|| {
        for _ in 0..12 {
            let new = json!({
                "display_name": "Late", "database_type": "mysql", "host": "db", "port": 3306,
            });
            let request = server.operator().call(Method::POST, "/data-sources");
            let request = request.json(&new);
            writers.push(std::thread::spawn(move || request.send().map(drop)));
        }
        let all_wait = || {
            database.number(
                "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                 WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()",
            ) == 2
        };
        wait::until_true("the writers wait", LIMIT, || server.log(), all_wait);
        database.execute(
            "UPDATE key_changes SET version = nextval('key_versions');
             SELECT pg_notify('holistics_tunnel_keys', '')",
        );
        let is_confirmed = || {
            database.number(
                "SELECT count(*) FROM key_confirmations
                 WHERE version = (SELECT max(version) FROM key_changes)",
            ) == 1
        };
        wait::until_true("it is confirmed", LIMIT, || server.log(), is_confirmed);
        assert!(all_wait(), "{}", server.log());
    });
    for writer in writers {
        // Whoever could not write in time was told so.
        let _ = writer.join().expect("it ends");
    }
}

#[test]
fn what_is_not_on_a_server_s_disk_yet_is_not_confirmed_by_it() {
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "node-a"]);
    let first = Bastion::enroll(&server, "First");
    let confirmed_by = |of: &Bastion| {
        let now = server.operator().data_source(of.source.id);
        tunnel_of(&now).key_confirmed_by.clone()
    };
    let is_confirmed = |of: &Bastion| confirmed_by(of) == ["node-a"];
    wait::until_true("the first", LIMIT, || server.log(), || is_confirmed(&first));
    // What no file can take the place of.
    let file = server.data_dir().join("key-table");
    fs::remove_file(&file).expect("the file");
    fs::create_dir(&file).expect("a folder");
    let second = Bastion::enroll(&server, "Second");
    second.disconnect(second.connect(&server));
    let told = || server.log().contains("the keys are not kept on disk");
    wait::until_true("it is told", LIMIT, || server.log(), told);
    assert!(confirmed_by(&second).is_empty());
    fs::remove_dir(&file).expect("the folder");
    wait::until_true(
        "the second",
        LIMIT,
        || server.log(),
        || is_confirmed(&second),
    );
    assert!(fs::read_to_string(&file).is_ok_and(|it| it.contains(&second.public_key())));
}

#[test]
fn keys_that_are_known_for_too_long_open_nothing_and_what_runs_runs_on() {
    let mut postgres = Postgres::start();
    let mut server = Server::start_on(
        &postgres.guarded_server_database(),
        &["--stale-logins", "4s"],
    );
    let bastion = Bastion::enroll(&server, "Shop");
    let _ssh = bastion.connect(&server);
    postgres.crash();
    std::thread::sleep(Duration::from_secs(4));
    bastion.assert_refused(&server);
    assert!(server.log().contains("--stale-logins"), "{}", server.log());
    assert!(bastion.listens());

    // A restart makes nothing younger.
    server.stop();
    server.start_again();
    bastion.assert_refused(&server);

    postgres.start_again(false);
    let is_current = || server.log().contains("the keys are current again");
    wait::until_true("all is well again", LIMIT, || server.log(), is_current);
    bastion.connect(&server);
}

#[test]
fn keys_on_disk_that_are_damaged_or_another_installation_s_are_refused_told_and_made_anew() {
    let mut postgres = Postgres::start();
    let mut server = Server::start_on(&postgres.guarded_server_database(), &[]);
    let bastion = Bastion::enroll(&server, "Shop");
    drop(bastion.connect(&server));
    let file = server.data_dir().join("key-table");
    let is_good = |file: &Path| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.ends_with('\n') && text.contains(&bastion.public_key())
    };
    wait::until_true("the file", LIMIT, || server.log(), || is_good(&file));
    let good = fs::read_to_string(&file).expect("the file");
    let (heading, rest) = good.split_once('\n').expect("a heading");
    let mut heading: Value = serde_json::from_str(heading).expect("JSON");
    heading["installation"] = json!("another");
    let another = format!("{heading}\n{rest}");
    for (bad, words) in [
        (&good[..good.len() / 2], "cut off"),
        (&another, "another installation's"),
    ] {
        // With the database, it is only told.
        server.stop();
        fs::write(&file, bad).expect("a bad file");
        server.start_again();
        assert!(server.log().contains(words), "{}", server.log());
        wait::until_true("a good file", LIMIT, || server.log(), || is_good(&file));
        // Without, there is nothing to start from.
        server.stop();
        fs::write(&file, bad).expect("a bad file");
        postgres.crash();
        let folder = Workspace::new();
        process::run(&mut server.command("serve"), folder.path(), "refused")
            .expect_code(FAILED)
            .expect_words(&[words, "cannot connect to the database"]);
        postgres.start_again(false);
        server.start_again();
        wait::until_true("a good file", LIMIT, || server.log(), || is_good(&file));
    }
}

#[test]
fn a_database_that_was_made_anew_to_be_restored_closes_no_tunnel_and_nothing_is_made_in_it() {
    let database = Postgres::server_database();
    let mut server = Server::start_on(&database, &[]);
    let known = Bastion::enroll(&server, "Known");
    known.disconnect(known.connect(&server));
    let file = server.data_dir().join("key-table");
    let is_kept = || fs::read_to_string(&file).is_ok_and(|it| it.contains(&known.public_key()));
    wait::until_true("the file", LIMIT, || server.log(), is_kept);
    server.stop();
    let inside = server.database();
    inside.execute("ALTER SCHEMA public RENAME TO kept; CREATE SCHEMA public");

    // What serves no tunnels by itself does not start, and commands change nothing.
    let folder = Workspace::new();
    let serve = ["serve", "--role", "web", "--listen", "127.0.0.1:0"];
    for words in [&serve[..], &["token", "list"], &["login-link"]] {
        let mut command = server.command(words[0]);
        process::run(command.args(&words[1..]), folder.path(), "refused")
            .expect_code(FAILED)
            .expect_words(&[
                "is empty",
                "would be forgotten",
                "Restore it",
                "--new-installation",
            ]);
    }
    server.start_again();
    for words in [
        "is empty",
        "tunnels are served to the keys that are known on disk",
    ] {
        assert!(server.log().contains(words), "{}", server.log());
    }
    let ssh = known.connect(&server);
    assert_unavailable(&server);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(inside.number(tables), 0, "something was made in it");

    // Somebody restores it.
    inside.execute("DROP SCHEMA public; ALTER SCHEMA kept RENAME TO public");
    wait::until_true("it is open", LIMIT, || server.log(), || ready(&server));
    assert!(ssh.is_running() && known.listens());
    let source = server.operator().data_source(known.source.id);
    assert_eq!(source.id, known.source.id);
}

#[test]
fn a_new_installation_beside_keys_of_a_former_one_is_begun_when_it_is_meant() {
    let database = Postgres::server_database();
    let mut server = Server::start_on(&database, &[]);
    let known = Bastion::enroll(&server, "Known");
    let file = server.data_dir().join("key-table");
    let is_kept = || fs::read_to_string(&file).is_ok_and(|it| it.contains(&known.public_key()));
    wait::until_true("the file", LIMIT, || server.log(), is_kept);
    server.stop();
    let inside = server.database();
    inside.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    server.start_again_with(&["--new-installation"]);
    known.assert_refused(&server);
    assert_eq!(inside.number("SELECT count(*) FROM data_sources"), 0);
    assert!(server.log().contains("sign-in link (works once"));
}

/// Whatever needs the database is answered with 503, soon.
#[track_caller]
fn assert_unavailable(server: &Server) {
    let operator = server.operator();
    for request in [
        operator.call(Method::GET, "/data-sources"),
        operator.call(Method::GET, "/enrollment"),
        operator.call_beside(Method::GET, "/readyz"),
    ] {
        let begun = Instant::now();
        let answer = request.send().expect("an answer");
        let (url, status) = (answer.url().clone(), answer.status());
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{url}");
        let took = begun.elapsed();
        assert!(took < ANSWERED_IN, "{url}: {took:?}");
        println!("503 after {took:?} from {url}");
    }
}

fn ready(server: &Server) -> bool {
    let request = server.operator().call_beside(Method::GET, "/readyz");
    request.send().expect("an answer").status() == StatusCode::OK
}

/// A number at the address of the metrics.
#[track_caller]
fn metric(address: &str, name: &str) -> f64 {
    let answer = reqwest::blocking::get(format!("http://{address}/metrics"));
    let text = answer.expect("an answer").text().expect("text");
    let name = format!("holistics_tunnel_{name} ");
    let number = text.lines().find_map(|line| line.strip_prefix(&name));
    let number = number.unwrap_or_else(|| panic!("no {name} in:\n{text}"));
    number.parse().expect("a number")
}

/// The servers as they make themselves known, where they do not yet.
fn register_nodes(database: &ServerDatabase) {
    database.execute(
        "INSERT INTO nodes (name, region, role, epoch, version, state, beat, started_at)
         SELECT name, 'default', 'all', nextval('node_epochs'), 'test', 'up', 0, 0
         FROM (VALUES ('node-a'), ('node-b')) AS n (name) ON CONFLICT DO NOTHING",
    );
}

// ---------------------------------------------------------------------------------------------
// The bastion
// ---------------------------------------------------------------------------------------------

/// A machine with a key and a plain ssh.
struct Bastion {
    source: DataSource,
    private: PathBuf,
    port: u16,
    token: String,
    folder: Workspace,
}

impl Bastion {
    /// Registers a new key for a new data source.
    #[track_caller]
    fn enroll(server: &Server, name: &str) -> Self {
        let source = server.operator().create(name, 9);
        let folder = Workspace::new();
        let mut bastion = Bastion {
            private: make_key(&folder, "key"),
            port: 0,
            token: String::new(),
            source,
            folder,
        };
        let enrollment = bastion.source.enrollment.as_ref().expect("a command");
        let registration = json!({
            "public_key": bastion.public_key(),
            "hostname": "bastion", "os": "Debian 12", "user": "ann",
        });
        let url = format!("{}{API_BASE}/enrollment/public-key", server.url);
        let request = Client::new().put(url).bearer_auth(&enrollment.token);
        let answer: Value = answer(request.json(&registration), server);
        bastion.port = serde_json::from_value(answer["remote_port"].clone()).expect("a port");
        bastion.token = answer["tunnel_token"].as_str().expect("a token").to_owned();
        bastion
    }

    /// Somebody whose key nobody has registered.
    fn unknown(like: &Bastion) -> Self {
        let folder = Workspace::new();
        Bastion {
            source: like.source.clone(),
            private: make_key(&folder, "key"),
            port: like.port,
            token: String::new(),
            folder,
        }
    }

    /// Takes another key. Returns the former one.
    fn new_key(&mut self, name: &str) -> PathBuf {
        let new = make_key(&self.folder, name);
        std::mem::replace(&mut self.private, new)
    }

    fn public_key(&self) -> String {
        let line = fs::read_to_string(self.private.with_extension("pub")).expect("its other half");
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// A call about its tunnel's key.
    #[track_caller]
    fn key_call(&self, server: &Server, method: Method, rest: &str, key: &str) -> Value {
        let tunnel = tunnel_of(&self.source).id;
        let url = format!("{}{API_BASE}/tunnels/{tunnel}/public-key{rest}", server.url);
        let request = Client::new().request(method, url).bearer_auth(&self.token);
        answer(request.json(&json!({ "public_key": key })), server)
    }

    /// A tunnel by ssh to this server; it listens when this returns.
    #[track_caller]
    fn connect(&self, server: &Server) -> Running {
        let was_up = self.listens();
        let ssh = Running::start(&mut self.ssh(server), self.folder.path(), "ssh");
        ssh.wait_until("the port", LIMIT, || {
            assert!(ssh.is_running(), "{}\n{}", ssh.output(), server.log());
            let up = ssh.output().contains("remote forward success");
            up && (was_up || self.listens())
        });
        ssh
    }

    #[track_caller]
    fn disconnect(&self, ssh: Running) {
        drop(ssh);
        wait::until_true("the port is closed", LIMIT, String::new, || !self.listens());
    }

    #[track_caller]
    fn assert_refused(&self, server: &Server) {
        process::run(&mut self.ssh(server), self.folder.path(), "refused")
            .expect_code(255)
            .expect_words(&["permission denied"]);
    }

    fn ssh(&self, server: &Server) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-N", "-v", "-p", server.ssh_port(), "-i"]);
        ssh.arg(&self.private);
        for option in [
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.args(["-R", &format!("{}:127.0.0.1:9", self.port)]);
        ssh.arg("tunnel@127.0.0.1");
        ssh
    }

    /// Whether its port is open.
    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }
}

fn make_key(folder: &Workspace, name: &str) -> PathBuf {
    let private = folder.path().join(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
    process::run(keygen.arg(&private), folder.path(), "keygen").expect_code(0);
    private
}

#[track_caller]
fn answer(request: reqwest::blocking::RequestBuilder, server: &Server) -> Value {
    let answer = request.send().expect("an answer");
    let status = answer.status();
    let text = answer.text().expect("text");
    assert!(status.is_success(), "{status}: {text}\n{}", server.log());
    serde_json::from_str(&text).expect("JSON")
}
