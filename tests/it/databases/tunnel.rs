//! The whole way: an operator's request, the real server, a real tunnel, a real database.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holistics_tunnel::protocol::{DataSource, DatabaseType};

use crate::databases::sqlserver;
use crate::databases::{names, with_password};
use crate::support::clickhouse::ClickHouse;
use crate::support::lab::Lab;
use crate::support::mariadb::MariaDb;
use crate::support::server::Server;
use crate::support::sql::Login;

/// The stages of a test through a tunnel, where all is well.
const ALL: [&str; 5] = ["tunnel", "tcp", "tls", "login", "query"];

/// A data source of this type whose tunnel is up.
fn tunnelled(lab: &Lab, database_type: DatabaseType, port: u16) -> DataSource {
    let name = database_type.into_str();
    let source = lab
        .operator
        .create_of(database_type, name, "127.0.0.1", port);
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
    source
}

#[test]
fn every_kind_is_logged_in_to_through_a_tunnel_and_no_log_has_the_password() {
    let lab = Lab::with(Server::start_talkative());
    let mariadb = MariaDb::start_with_tls();
    let clickhouse = ClickHouse::start();
    let sql_server = sqlserver::start(sqlserver::Encryption::On);
    let databases: [(DatabaseType, u16, Login, &str); 4] = [
        (
            DatabaseType::Postgresql,
            lab.postgres.port(),
            lab.postgres.login(),
            "PostgreSQL",
        ),
        (
            DatabaseType::Mariadb,
            mariadb.port(),
            mariadb.login(),
            "MariaDB",
        ),
        (
            DatabaseType::Clickhouse,
            clickhouse.http(),
            clickhouse.login(),
            "ClickHouse",
        ),
        (
            DatabaseType::Sqlserver,
            sql_server.port(),
            sqlserver::login(),
            "SQL Server",
        ),
    ];
    for (database_type, port, login, version) in &databases {
        let source = tunnelled(&lab, *database_type, *port);
        let result = lab.operator.test(source.id, login);
        assert!(result.ok, "{result:#?}");
        assert_eq!(names(&result), ALL);
        let found = result.server_version.as_deref().unwrap_or_default();
        assert!(found.contains(version), "{found}");
        assert!(result.latency_milliseconds.is_some(), "{result:#?}");
        let wrong = with_password(login, "guessed badly");
        let result = lab.operator.test(source.id, &wrong);
        assert_eq!(names(&result), ALL[..4], "{result:#?}");
        assert!(result.stages[3].remedy.is_some(), "{result:#?}");
        expect_silence(&lab.server.log(), login);
        expect_silence(&lab.server.log(), &wrong);
    }
}

/// A log at the level `trace` has no form of the password: as it is, in UTF-16, and as HTTP sends it.
#[track_caller]
fn expect_silence(log: &str, login: &Login) {
    assert!(log.contains("connection tested"), "the log is the server's");
    assert!(log.contains("TRACE"), "the log has all it can");
    // A driver that can log at all has said so by now: this one notes each step of its login.
    assert!(!log.contains("tiberius"), "drivers are not heard");
    let password = &login.password;
    let spaced: Vec<_> = password.chars().map(String::from).collect();
    let numbers: Vec<_> = password.bytes().map(|byte| byte.to_string()).collect();
    let hex: Vec<_> = password.bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in [
        password.clone(),
        spaced.join("\\0"),
        numbers.join(", "),
        hex.join(" "),
        hex.concat(),
        STANDARD.encode(format!("{}:{password}", login.username)),
    ] {
        let found = log.lines().find(|line| line.contains(&form));
        assert_eq!(found, None, "\"{form}\" is logged");
    }
}
