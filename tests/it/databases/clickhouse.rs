//! ClickHouse over HTTP and HTTPS.

use holistics_tunnel::protocol::{ConnectionTestResult, DatabaseType, TlsMode};

use crate::databases::{as_user, expect_failure, expect_success, to_database, with_password};
use crate::support::clickhouse::ClickHouse;
use crate::support::shared::Shared;
use crate::support::sql::Login;

static CLICKHOUSE: Shared<ClickHouse> = Shared::new();

fn test(port: u16, login: &Login, tls: TlsMode) -> ConnectionTestResult {
    crate::databases::test(DatabaseType::Clickhouse, port, login, tls)
}

#[test]
fn over_http_only_the_mode_require_fails() {
    let clickhouse = CLICKHOUSE.get(ClickHouse::start);
    let login = clickhouse.login();
    for tls in [TlsMode::Disable, TlsMode::Prefer] {
        let result = test(clickhouse.http(), &login, tls);
        expect_success(&result, "not encrypted", "ClickHouse 18.");
    }
    let result = test(clickhouse.http(), &login, TlsMode::Require);
    expect_failure(&result, "tls", "does not offer TLS", "https_port");
}

#[test]
fn over_https_only_the_mode_disable_fails() {
    let clickhouse = CLICKHOUSE.get(ClickHouse::start);
    let login = clickhouse.login();
    for tls in [TlsMode::Prefer, TlsMode::Require] {
        let result = test(clickhouse.https(), &login, tls);
        expect_success(&result, "TLS 1.3 (TLS13_", "ClickHouse 18.");
        assert!(
            result.stages[2].detail.contains("CN=db.example"),
            "{result:?}"
        );
    }
    let result = test(clickhouse.https(), &login, TlsMode::Disable);
    expect_failure(&result, "tcp", "wants TLS", "TLS mode `require`");
}

#[test]
fn each_refusal_is_in_the_databases_own_words_with_its_remedy() {
    let clickhouse = CLICKHOUSE.get(ClickHouse::start);
    let login = clickhouse.login();
    let prefer = |login: &Login| test(clickhouse.http(), login, TlsMode::Prefer);

    let result = prefer(&with_password(&login, "guessed badly"));
    expect_failure(&result, "login", "Wrong password", "password");
    assert!(!format!("{result:?}").contains("guessed"), "{result:?}");
    let result = prefer(&as_user(&login, "nobody"));
    expect_failure(&result, "login", "Unknown user nobody", "user name");
    let result = prefer(&to_database(&login, "nowhere"));
    expect_failure(&result, "login", "nowhere", "database's name");
    let result = prefer(&as_user(&login, "stranger"));
    expect_failure(&result, "login", "not allowed to connect", "networks");
}

#[test]
fn the_port_of_the_native_protocol_is_told_from_the_http_port() {
    let clickhouse = CLICKHOUSE.get(ClickHouse::start);
    let login = clickhouse.login();
    for tls in [TlsMode::Disable, TlsMode::Prefer] {
        let result = test(clickhouse.native(), &login, tls);
        expect_failure(&result, "tcp", "native protocol", "8123");
    }
}
