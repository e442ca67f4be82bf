//! A server whose database is one of PostgreSQL that is not as it must be, or is not any more.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::account::Account;
use crate::support::database::{self, PostgresDatabase, ServerDatabase};
use crate::support::ports;
use crate::support::postgres::Postgres;
use crate::support::process::{self, Finished, Running};
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(120);
const FAILED: i32 = 1;

/// In which a request is answered whatever the database does.
const ANSWERED_IN: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------------------------
// At the start
// ---------------------------------------------------------------------------------------------

#[test]
fn a_database_that_cannot_be_used_is_refused_with_the_cause_and_what_to_do() {
    let postgres = Postgres::start();
    let port = postgres.port();
    let good = postgres.guarded_server_database();
    let at = |login: &str, name: &str| format!("postgres://{login}@127.0.0.1:{port}/{name}");

    let nobody = format!(
        "postgres://keeper:sesame@127.0.0.1:{}/d",
        ports::free_port()
    );
    refused(
        &nobody,
        &["cannot connect", "refused", "PostgreSQL runs there"],
    );

    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("its address");
    refused(
        &format!("postgres://{silent}/d"),
        &["does not answer within 10 s", "address"],
    );

    refused(
        &at("keeper:wrong", good.name()),
        &["password authentication failed", ".pgpass"],
    );
    refused(
        &at("keeper:sesame", "nothing"),
        &["does not exist", "createdb --owner=keeper nothing"],
    );
    refused(&at("stranger:open%20sesame", good.name()), &["pg_hba.conf"]);
    refused(
        &at("crowded:open%20sesame", good.name()),
        &["too many connections", "raise max_connections"],
    );
    refused(
        &at("reader:open%20sesame", good.name()),
        &["reader", "may not make tables", "owner"],
    );
    refused(
        &at("reader:open%20sesame", "shop"),
        &["something else", "orders", "for this server alone"],
    );
    postgres.run("postgres", "CREATE ROLE careful LOGIN PASSWORD 'sesame'; ALTER ROLE careful SET default_transaction_read_only = on");
    let careful = good.owned_by("careful:sesame", &format!("127.0.0.1:{port}"));
    refused(
        careful.url(),
        &["read-only", "default_transaction_read_only"],
    );
}

#[test]
fn a_database_that_a_newer_version_or_another_user_has_made_is_refused() {
    let postgres = Postgres::start();
    let database = postgres.guarded_server_database();
    let mut server = Server::start_on(&database, &[]);
    server.stop().expect_code(0);

    let beside = ServerDatabase::Postgres(database.clone());
    beside.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', TRUE, '', 0)",
    );
    refused(
        database.url(),
        &["newer version", "9999", "use the newer version"],
    );
    beside.execute("DELETE FROM _sqlx_migrations WHERE version = 9999");
    server.start_again();
    server.stop().expect_code(0);

    // The tables stay their maker's.
    postgres.run("postgres", "CREATE ROLE heir LOGIN PASSWORD 'sesame'");
    let address = format!("127.0.0.1:{}", postgres.port());
    let heir = database.owned_by("heir:sesame", &address);
    refused(
        heir.url(),
        &[
            "heir",
            "may not read and write",
            "log in as the user who made it",
        ],
    );
}

#[test]
fn a_standby_is_refused_by_that_name() {
    let mut postgres = Postgres::start();
    let database = postgres.guarded_server_database();
    postgres.crash();
    postgres.start_again(true);
    refused(database.url(), &["standby", "name the primary"]);
    postgres.crash();
}

#[test]
fn a_pooler_of_transactions_is_refused_and_one_of_sessions_is_as_good_as_none() {
    let postgres = Postgres::start();
    let database = postgres.guarded_server_database();
    let folder = Workspace::new();
    let pooler = Pooler::start(&folder, &postgres, &database, "transaction");
    refused(&pooler.url, &["behind a pooler", "pool_mode = session"]);
    drop(pooler);
    let pooler = Pooler::start(&folder, &postgres, &database, "session");
    let mut command = server_command(&pooler.url, folder.path(), &["token", "create", "ci"]);
    process::run(&mut command, folder.path(), "token").expect_code(0);
}

/// A pgbouncer in front of a database.
struct Pooler {
    url: String,
    _process: Running,
}

impl Pooler {
    fn start(folder: &Workspace, postgres: &Postgres, to: &PostgresDatabase, mode: &str) -> Self {
        let port = ports::free_port();
        let own = folder.folder(mode);
        let users = own.join("users");
        std::fs::write(&users, "\"keeper\" \"sesame\"\n").expect("its users");
        let settings = own.join("pgbouncer.ini");
        let written = format!(
            "[databases]\n{name} = host=127.0.0.1 port={at} dbname={name}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n\
             auth_file = {users}\npool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n",
            name = to.name(),
            at = postgres.port(),
            users = users.display(),
        );
        std::fs::write(&settings, written).expect("its settings");
        // It refuses root.
        let account = Account::for_a_database();
        for path in [folder.path(), &own, &users, &settings] {
            account.give(path);
        }
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
        let program = program.iter().find(|path| Path::new(path).exists());
        let program = program.expect("no pgbouncer: apt-get install pgbouncer");
        let mut command = Command::new(program);
        command.arg(&settings);
        account.apply_to(&mut command);
        let process = Running::start(&mut command, folder.path(), "pgbouncer");
        process.wait_until("the pooler", LIMIT, || ports::is_open(port));
        Pooler {
            url: format!("postgres://keeper:sesame@127.0.0.1:{port}/{}", to.name()),
            _process: process,
        }
    }
}

// ---------------------------------------------------------------------------------------------
// While the server runs
// ---------------------------------------------------------------------------------------------

#[test]
fn a_database_that_crashes_and_comes_back_is_told_as_503_meanwhile_and_nothing_more_is_needed() {
    let mut postgres = Postgres::start();
    let server = Server::start_on(&postgres.guarded_server_database(), &[]);
    server.operator().create("Before", 5432);
    postgres.crash();
    for _ in 0..3 {
        assert_unavailable(&server);
    }
    postgres.start_again(false);
    assert_comes_back(&server);
    assert_eq!(names(&server), ["Before", "After"]);
}

#[test]
fn a_database_that_stands_still_holds_no_request_for_ever() {
    let postgres = Postgres::start();
    let server = Server::start_on(&postgres.guarded_server_database(), &[]);
    server.operator().create("Before", 5432);
    postgres.freeze();
    // More of them than there are connections.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_unavailable(&server));
        }
    });
    postgres.thaw();
    assert_comes_back(&server);
    assert_eq!(names(&server).last().map(String::as_str), Some("After"));
}

#[test]
fn however_many_ask_at_once_a_server_makes_no_more_than_sixteen_connections() {
    const PROMISED: i64 = 16;
    let postgres = Postgres::start();
    let database = postgres.guarded_server_database();
    let server = Server::start_on(&database, &[]);
    let inside = ServerDatabase::Postgres(database);
    let is_over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // On a busy machine some are told to come again.
                    creation(&server);
                    let _ = server.operator().call(Method::GET, "/data-sources").send();
                }
            });
        }
        // Those that count, of which the last one may still be ending, do not.
        let open = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND query NOT LIKE '%pg_stat_activity%'";
        let most = (0..50).map(|_| inside.number(open)).max();
        is_over.store(true, Ordering::Relaxed);
        most.expect("a number")
    });
    println!("{most} connections at most");
    assert!((4..=PROMISED).contains(&most), "{most} connections");
}

#[test]
fn a_database_without_room_for_connections_or_writing_is_told_as_503_until_there_is() {
    let postgres = Postgres::start();
    let server = Server::start_on(&postgres.guarded_server_database(), &[]);
    server.operator().create("Before", 5432);
    // It waits until they have ended: a connection that goes on for a moment answers.
    let end =
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'keeper'";
    for (begin, over) in [
        (
            "ALTER ROLE keeper CONNECTION LIMIT 0",
            "ALTER ROLE keeper CONNECTION LIMIT -1",
        ),
        (
            "ALTER ROLE keeper PASSWORD 'another'",
            "ALTER ROLE keeper PASSWORD 'sesame'",
        ),
    ] {
        postgres.run("postgres", begin);
        postgres.run("postgres", end);
        assert_unavailable(&server);
        postgres.run("postgres", over);
        assert_comes_back(&server);
    }
    postgres.run(
        "postgres",
        "ALTER ROLE keeper SET default_transaction_read_only = on",
    );
    postgres.run("postgres", end);
    assert_eq!(creation(&server), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!names(&server).is_empty(), "what is read goes on");
    postgres.run(
        "postgres",
        "ALTER ROLE keeper RESET default_transaction_read_only",
    );
    postgres.run("postgres", end);
    assert_comes_back(&server);
}

// ---------------------------------------------------------------------------------------------

/// A database of this address is refused by the server and by its commands, with these words and no password.
#[track_caller]
fn refused(url: &str, words: &[&str]) {
    let folder = Workspace::new();
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--ssh-listen",
        "127.0.0.1:0",
    ];
    for arguments in [&serve[..], &["token", "create", "ci"]] {
        let begun = Instant::now();
        let mut command = server_command(url, folder.path(), arguments);
        let told = finished(&mut command, &folder)
            .expect_code(FAILED)
            .expect_words(words);
        assert!(!told.output().contains("sesame"), "{told}");
        assert!(begun.elapsed() < ANSWERED_IN, "{told}");
    }
}

fn finished(command: &mut Command, folder: &Workspace) -> Finished {
    process::run(command, folder.path(), "refused")
}

fn server_command(url: &str, folder: &Path, arguments: &[&str]) -> Command {
    // There has to be an installation for a command to be about.
    std::fs::create_dir_all(folder.join("data/ssh")).expect("a data folder");
    std::fs::write(folder.join("data/ssh/x"), "").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    command.env_clear().env("HOME", folder).args(arguments);
    command.arg("--data-dir").arg(folder.join("data"));
    command.env(database::VARIABLE, url);
    command
}

/// Reading, writing and the question whether it is ready are answered with 503, soon.
#[track_caller]
fn assert_unavailable(server: &Server) {
    let begun = Instant::now();
    let list = server.operator().call(Method::GET, "/data-sources").send();
    assert_eq!(
        list.expect("an answer").status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(begun.elapsed() < ANSWERED_IN, "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(creation(server), StatusCode::SERVICE_UNAVAILABLE);
    assert!(begun.elapsed() < ANSWERED_IN, "{:?}", begun.elapsed());
    // What was seen a moment ago may hold.
    wait::until_true(
        "it is not ready",
        LIMIT,
        || server.log(),
        || {
            let ready = server.operator().call_beside(Method::GET, "/readyz").send();
            ready.expect("an answer").status() == StatusCode::SERVICE_UNAVAILABLE
        },
    );
}

#[track_caller]
fn assert_comes_back(server: &Server) {
    wait::until_true(
        "a data source is made",
        LIMIT,
        || server.log(),
        || creation(server) == StatusCode::CREATED,
    );
    wait::until_true(
        "it is ready",
        LIMIT,
        || server.log(),
        || {
            let ready = server.operator().call_beside(Method::GET, "/readyz").send();
            ready.expect("an answer").status() == StatusCode::OK
        },
    );
}

fn creation(server: &Server) -> StatusCode {
    let new =
        json!({ "display_name": "After", "database_type": "mysql", "host": "db", "port": 3306 });
    let request = server
        .operator()
        .call(Method::POST, "/data-sources")
        .json(&new);
    request.send().expect("an answer").status()
}

fn names(server: &Server) -> Vec<String> {
    let list = server.operator().call(Method::GET, "/data-sources").send();
    let list: serde_json::Value = list.expect("an answer").json().expect("JSON");
    let names = list.as_array().expect("a list").iter();
    names
        .map(|source| source["display_name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_load_balancer_with_no_postgresql_behind_it_is_an_outage_also_for_a_server_that_is_started() {
    let mut postgres = Postgres::start();
    let address = balancer_before(postgres.port());
    let database = postgres.server_database_behind(&address);
    let mut server = Server::start_on(&database, &["--node-name", "one"]);
    let keys = server.data_dir().join("key-table");
    wait::until_true("the keys on disk", LIMIT, || server.log(), || keys.exists());
    let status = |server: &Server, path: &str| {
        let answer = server.operator().call(Method::GET, path).send();
        answer.expect("an answer").status()
    };

    postgres.crash();
    for _ in 0..5 {
        let answer = status(&server, "/data-sources");
        assert_eq!(answer, StatusCode::SERVICE_UNAVAILABLE, "{}", server.log());
    }
    server.stop();
    server.start_again();
    let answer = status(&server, "/data-sources");
    assert_eq!(answer, StatusCode::SERVICE_UNAVAILABLE, "{}", server.log());

    postgres.start_again(false);
    wait::until_true(
        "it answers again",
        LIMIT,
        || server.log(),
        || status(&server, "/data-sources") == StatusCode::OK,
    );
}

/// Takes every connection, and ends it at once where there is nobody at this port. Returns its address.
fn balancer_before(port: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            for (mut from, mut to) in [
                (
                    client.try_clone().expect("a handle"),
                    server.try_clone().expect("a handle"),
                ),
                (server, client),
            ] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    address.to_string()
}
