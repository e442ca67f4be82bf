//! What stands at a port where the database should be.

use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DatabaseType, TlsMode};

use crate::databases::peer::Peer;
use crate::databases::{expect_failure, names, test};
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::sql::Login;

/// A stage's ten seconds, and what a busy machine adds.
const STAGE_LIMIT: Duration = Duration::from_secs(25);

const WITH_DRIVERS: [DatabaseType; 4] = [
    DatabaseType::Postgresql,
    DatabaseType::Mysql,
    DatabaseType::Sqlserver,
    DatabaseType::Clickhouse,
];

fn login() -> Login {
    Login {
        database: "shop".into(),
        username: "reader".into(),
        password: "open sesame".into(),
    }
}

#[test]
fn a_postgresql_behind_another_type_is_recognised() {
    let postgres = Postgres::shared();
    for database_type in [DatabaseType::Mysql, DatabaseType::Sqlserver] {
        let result = test(database_type, postgres.port(), &login(), TlsMode::Prefer);
        expect_failure(&result, "tcp", "PostgreSQL", "host and port");
    }
}

#[test]
fn a_mariadb_behind_another_type_is_recognised() {
    let mariadb = MariaDb::start();
    for database_type in [DatabaseType::Postgresql, DatabaseType::Sqlserver] {
        let result = test(database_type, mariadb.port(), &login(), TlsMode::Prefer);
        expect_failure(&result, "tcp", "MySQL or MariaDB", "host and port");
    }
}

#[test]
fn servers_of_other_kinds_are_named_by_what_they_say() {
    let ssh = Peer::says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n");
    let web = Peer::answers(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    for database_type in WITH_DRIVERS {
        let result = test(database_type, ssh.port(), &login(), TlsMode::Prefer);
        expect_failure(&result, "tcp", "an SSH server", "host and port");
        let result = test(database_type, web.port(), &login(), TlsMode::Prefer);
        expect_failure(&result, "tcp", "a web server", "host and port");
    }
}

#[test]
fn a_port_that_says_nothing_ends_the_test_in_time() {
    let peer = Peer::silent();
    std::thread::scope(|scope| {
        for database_type in WITH_DRIVERS {
            let port = peer.port();
            scope.spawn(move || {
                let started = Instant::now();
                let result = test(database_type, port, &login(), TlsMode::Prefer);
                expect_failure(&result, "tcp", "no answer within 10 s", "firewall");
                assert!(started.elapsed() < STAGE_LIMIT, "{:?}", started.elapsed());
            });
        }
    });
}

#[test]
fn a_port_that_hangs_up_at_once_is_told_from_one_that_is_silent() {
    let peer = Peer::hangs_up();
    for database_type in [
        DatabaseType::Postgresql,
        DatabaseType::Mysql,
        DatabaseType::Sqlserver,
        DatabaseType::Clickhouse,
        DatabaseType::Other,
    ] {
        let result = test(database_type, peer.port(), &login(), TlsMode::Disable);
        expect_failure(&result, "tcp", "closes it without a word", "address in");
    }
}

#[test]
fn a_database_that_falls_silent_during_the_login_ends_the_test_in_time() {
    // It does not offer TLS, and never answers the login.
    let peer = Peer::answers_once(b"N");
    let started = Instant::now();
    let result = test(
        DatabaseType::Postgresql,
        peer.port(),
        &login(),
        TlsMode::Prefer,
    );
    expect_failure(&result, "login", "no answer within 10 s", "overloaded");
    assert!(started.elapsed() < STAGE_LIMIT, "{:?}", started.elapsed());
}

#[test]
fn an_answer_that_makes_no_sense_is_a_failed_stage() {
    // A greeting that ends in the middle of what a client needs.
    let peer = Peer::says(b"\x0a\0\0\0\x0a8.4.0\0\x08\0\0");
    let result = test(DatabaseType::Mysql, peer.port(), &login(), TlsMode::Prefer);
    expect_failure(&result, "login", "makes no sense", "host and port");
}

#[test]
fn another_type_is_tested_for_reachability_alone_and_the_result_says_so() {
    let postgres = Postgres::shared();
    let result = test(
        DatabaseType::Other,
        postgres.port(),
        &login(),
        TlsMode::Require,
    );
    assert!(result.ok, "{result:#?}");
    assert_eq!(names(&result), ["dns", "tcp"]);
    let said = &result.stages[1].detail;
    assert!(said.contains("Only reachability was checked"), "{said}");
    assert_eq!(result.latency_milliseconds, None);
}
