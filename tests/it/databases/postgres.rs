//! PostgreSQL.

use std::io::{Read, Write};
use std::time::Duration;

use holistics_tunnel::protocol::{ConnectionTestResult, DatabaseType, TlsMode};

use crate::databases::peer::Peer;
use crate::databases::{as_user, expect_failure, expect_success, to_database, with_password};
use crate::support::postgres::Postgres;
use crate::support::shared::Shared;
use crate::support::sql::{Client, Login};
use crate::support::wait;

static WITH_TLS: Shared<Postgres> = Shared::new();

fn test(postgres: &Postgres, login: &Login, tls: TlsMode) -> ConnectionTestResult {
    crate::databases::test(DatabaseType::Postgresql, postgres.port(), login, tls)
}

#[test]
fn without_tls_only_the_mode_require_fails() {
    let postgres = Postgres::shared();
    let login = postgres.login();
    for tls in [TlsMode::Disable, TlsMode::Prefer] {
        let result = test(&postgres, &login, tls);
        expect_success(&result, "not encrypted", "PostgreSQL");
    }
    let result = test(&postgres, &login, TlsMode::Require);
    expect_failure(&result, "tls", "does not offer TLS", "ssl = on");
}

#[test]
fn with_tls_the_result_says_what_was_agreed_on_and_whose_certificate_it_is() {
    let postgres = WITH_TLS.get(Postgres::start_with_tls);
    let login = postgres.login();
    for tls in [TlsMode::Prefer, TlsMode::Require] {
        let result = test(&postgres, &login, tls);
        expect_success(&result, "TLS 1.3 (TLS13_", "PostgreSQL");
        for word in ["CN=db.example", "CN=Lab", "not verified", "ends on 20"] {
            assert!(result.stages[2].detail.contains(word), "{word}: {result:?}");
        }
    }
    let result = test(&postgres, &login, TlsMode::Disable);
    expect_success(&result, "the database offers it", "PostgreSQL");
}

#[test]
fn redshift_is_tested_in_the_same_way() {
    let postgres = Postgres::shared();
    let result = crate::databases::test(
        DatabaseType::Redshift,
        postgres.port(),
        &postgres.login(),
        TlsMode::Prefer,
    );
    expect_success(&result, "not encrypted", "PostgreSQL");
}

#[test]
fn each_refusal_is_in_the_databases_own_words_with_its_remedy() {
    let postgres = WITH_TLS.get(Postgres::start_with_tls);
    let login = postgres.login();
    let prefer = |login: &Login| test(&postgres, login, TlsMode::Prefer);

    let result = prefer(&with_password(&login, "guessed badly"));
    expect_failure(
        &result,
        "login",
        "password authentication failed",
        "password",
    );
    assert!(!format!("{result:?}").contains("guessed"), "{result:?}");
    let result = prefer(&to_database(&login, "nowhere"));
    expect_failure(
        &result,
        "login",
        "\"nowhere\" does not exist",
        "database's name",
    );
    let result = prefer(&as_user(&login, "stranger"));
    expect_failure(&result, "login", "pg_hba.conf rejects", "pg_hba.conf");
    let result = prefer(&to_database(&login, "ledger"));
    expect_failure(&result, "login", "permission denied", "CONNECT");
    let result = prefer(&as_user(&login, "crowded"));
    expect_failure(&result, "login", "too many connections", "max_connections");
}

#[test]
fn a_login_for_which_the_database_wants_tls_says_so() {
    let postgres = WITH_TLS.get(Postgres::start_with_tls);
    let login = as_user(&postgres.login(), "guarded");
    let result = test(&postgres, &login, TlsMode::Disable);
    expect_failure(&result, "login", "no encryption", "TLS mode `require`");
    let result = test(&postgres, &login, TlsMode::Require);
    expect_success(&result, "TLS 1.3", "PostgreSQL");
}

#[test]
fn a_database_that_is_starting_says_so() {
    let fields = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let length = u32::try_from(fields.len() + 4).expect("a short message");
    let error = [b"E", &length.to_be_bytes()[..], fields].concat();
    let peer = Peer::serving(move |mut stream| {
        let mut request = [0; 1024];
        // A client that has seen enough hangs up in the middle.
        let _ = stream.read(&mut request).and_then(|count| match count {
            // A request for encryption is this long; a login is longer.
            8 => stream.write_all(b"N"),
            _ => stream.write_all(&error),
        });
    });
    let login = Postgres::shared().login();
    let result = crate::databases::test(
        DatabaseType::Postgresql,
        peer.port(),
        &login,
        TlsMode::Prefer,
    );
    expect_failure(&result, "login", "starting up", "try again in a moment");
}

#[test]
fn an_offer_of_tls_that_comes_to_nothing_fails_there() {
    let peer = Peer::serving(|mut stream| {
        let _ = stream
            .read(&mut [0; 8])
            .and_then(|_| stream.write_all(b"S"))
            .and_then(|()| stream.read(&mut [0; 4096]))
            // "handshake_failure", as a server says that knows only what is broken.
            .and_then(|_| stream.write_all(b"\x15\x03\x01\0\x02\x02\x28"));
    });
    let login = Postgres::shared().login();
    let result = crate::databases::test(
        DatabaseType::Postgresql,
        peer.port(),
        &login,
        TlsMode::Prefer,
    );
    expect_failure(&result, "tls", "HandshakeFailure", "TLS 1.2 or 1.3");
}

#[test]
fn a_test_leaves_no_session_behind() {
    let postgres = Postgres::start();
    let login = postgres.login();
    let result = test(&postgres, &login, TlsMode::Prefer);
    expect_success(&result, "not encrypted", "PostgreSQL");
    let mut client = Client::connect(postgres.port(), &login).expect("a login");
    let others = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND pid <> pg_backend_pid()";
    wait::until(
        "the session of the test to end",
        Duration::from_secs(20),
        String::new,
        || (client.number(others).ok()? == 0).then_some(()),
    );
    let log = postgres.log();
    assert!(!log.contains("unexpected EOF"), "{log}");
}
