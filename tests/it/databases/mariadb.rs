//! MariaDB, and MySQL by its protocol.

use std::time::Duration;

use holistics_tunnel::protocol::{ConnectionTestResult, DatabaseType, TlsMode};
use sqlx::Connection;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};

use crate::databases::peer::Peer;
use crate::databases::{as_user, expect_failure, expect_success, to_database, with_password};
use crate::support::mariadb::MariaDb;
use crate::support::shared::Shared;
use crate::support::sql::Login;
use crate::support::wait;

static WITHOUT_TLS: Shared<MariaDb> = Shared::new();
static WITH_TLS: Shared<MariaDb> = Shared::new();

fn test(mariadb: &MariaDb, login: &Login, tls: TlsMode) -> ConnectionTestResult {
    crate::databases::test(DatabaseType::Mariadb, mariadb.port(), login, tls)
}

#[test]
fn without_tls_only_the_mode_require_fails() {
    let mariadb = WITHOUT_TLS.get(MariaDb::start);
    let login = mariadb.login();
    for tls in [TlsMode::Disable, TlsMode::Prefer] {
        let result = test(&mariadb, &login, tls);
        expect_success(&result, "not encrypted", "MariaDB");
    }
    let result = test(&mariadb, &login, TlsMode::Require);
    expect_failure(&result, "tls", "does not offer TLS", "ssl_cert");
}

#[test]
fn with_tls_the_result_says_what_was_agreed_on_and_whose_certificate_it_is() {
    let mariadb = WITH_TLS.get(MariaDb::start_with_tls);
    let login = mariadb.login();
    for tls in [TlsMode::Prefer, TlsMode::Require] {
        let result = test(&mariadb, &login, tls);
        expect_success(&result, "TLS 1.3 (TLS13_", "MariaDB");
        assert!(
            result.stages[2].detail.contains("CN=db.example"),
            "{result:?}"
        );
    }
    let result = test(&mariadb, &login, TlsMode::Disable);
    expect_success(&result, "the database offers it", "MariaDB");
}

#[test]
fn the_type_mysql_is_tested_in_the_same_way() {
    let mariadb = WITHOUT_TLS.get(MariaDb::start);
    let result = crate::databases::test(
        DatabaseType::Mysql,
        mariadb.port(),
        &mariadb.login(),
        TlsMode::Prefer,
    );
    expect_success(&result, "not encrypted", "MariaDB");
}

#[test]
fn each_refusal_is_in_the_databases_own_words_with_its_remedy() {
    let mariadb = WITHOUT_TLS.get(MariaDb::start);
    let login = mariadb.login();
    let prefer = |login: &Login| test(&mariadb, login, TlsMode::Prefer);

    let result = prefer(&with_password(&login, "guessed badly"));
    expect_failure(
        &result,
        "login",
        "Access denied for user 'reader'",
        "password",
    );
    assert!(!format!("{result:?}").contains("guessed"), "{result:?}");
    let result = prefer(&to_database(&login, "ledger"));
    expect_failure(&result, "login", "(1044)", "Grant");
    let result = prefer(&to_database(&as_user(&login, "admin"), "nowhere"));
    expect_failure(
        &result,
        "login",
        "Unknown database 'nowhere'",
        "database's name",
    );
}

#[test]
fn a_server_that_greets_with_a_refusal_is_quoted() {
    for (code, words, remedy) in [
        (
            1130_u16,
            "Host '10.0.0.9' is not allowed to connect",
            "CREATE USER",
        ),
        (1129, "Host '10.0.0.9' is blocked", "FLUSH HOSTS"),
        (1040, "Too many connections", "max_connections"),
    ] {
        let content = [&[0xff], &code.to_le_bytes()[..], words.as_bytes()].concat();
        let length = u8::try_from(content.len()).expect("a short packet");
        let peer = Peer::says(&[&[length, 0, 0, 0], &content[..]].concat());
        let login = Login {
            database: "shop".into(),
            username: "reader".into(),
            password: "open sesame".into(),
        };
        let result =
            crate::databases::test(DatabaseType::Mysql, peer.port(), &login, TlsMode::Prefer);
        expect_failure(&result, "tcp", words, remedy);
    }
}

#[test]
fn an_authentication_plugin_that_is_not_known_is_named() {
    let greeting = [
        b"\x0a8.4.0\0\x08\0\0\0abcdefgh\0\xff\xf7\x2d\x02\0\xff\xdf\x15",
        &[0; 10][..],
        b"ijklmnopqrst\0",
        b"authentication_ldap_sasl_client\0",
    ]
    .concat();
    let length = u8::try_from(greeting.len()).expect("a short packet");
    let peer = Peer::says(&[&[length, 0, 0, 0], &greeting[..]].concat());
    let login = Login {
        database: "shop".into(),
        username: "reader".into(),
        password: "open sesame".into(),
    };
    let result = crate::databases::test(DatabaseType::Mysql, peer.port(), &login, TlsMode::Prefer);
    expect_failure(
        &result,
        "login",
        "authentication_ldap_sasl_client",
        "caching_sha2_password",
    );
}

#[test]
fn a_session_ends_with_a_goodbye() {
    let mariadb = MariaDb::start();
    for _ in 0..3 {
        let result = test(&mariadb, &mariadb.login(), TlsMode::Prefer);
        expect_success(&result, "not encrypted", "MariaDB");
    }
    let sessions = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'reader'";
    wait::until_true(
        "the sessions of the tests to end",
        Duration::from_secs(20),
        || mariadb.log(),
        || number(&mariadb, sessions) == 0,
    );
    let lost = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS \
                WHERE VARIABLE_NAME = 'ABORTED_CLIENTS'";
    assert_eq!(number(&mariadb, lost), 0, "{}", mariadb.log());
}

/// The only column of the only row, as `admin` sees it.
fn number(mariadb: &MariaDb, query: &'static str) -> i64 {
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(mariadb.port())
        .username("admin")
        .password(&mariadb.login().password);
    let ask = async {
        let mut connection = MySqlConnection::connect_with(&options).await?;
        let number = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<i64, sqlx::Error>(number)
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(ask)
        .unwrap_or_else(|error| panic!("{query}: {error}"))
}
