//! "Test connection" against real databases, and against what stands in their place: what an operator is
//! told, stage by stage.
//!
//! There is no SQL Server and no MySQL 8 for Debian: a [`peer`] speaks the part of their protocols that a
//! test needs.

mod clickhouse;
mod direct;
mod mariadb;
mod mysql;
mod peer;
mod postgres;
mod sqlserver;
mod strangers;
mod tunnel;

use std::net::Ipv4Addr;

use crate::support::sql::Login;
use holistics_tunnel::protocol::{ConnectionTest, ConnectionTestResult, DatabaseType, TlsMode};
use holistics_tunnel::server::probe::{self, Route, Target};

/// The stages of a test without a tunnel, where all is well.
const ALL: [&str; 5] = ["dns", "tcp", "tls", "login", "query"];

/// Tests the connection to a database on this port of loopback.
fn test(
    database_type: DatabaseType,
    port: u16,
    login: &Login,
    tls: TlsMode,
) -> ConnectionTestResult {
    let target = Target {
        database_type,
        database: format!("db.example:{port}"),
        route: Route::Direct {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
            loopback_allowed: true,
        },
    };
    run(&target, login, tls)
}

fn run(target: &Target, login: &Login, tls: TlsMode) -> ConnectionTestResult {
    let login = ConnectionTest {
        database: login.database.clone(),
        username: login.username.clone(),
        password: login.password.clone(),
        tls: Some(tls),
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(probe::run(target, &login))
}

/// The same login as somebody else.
fn as_user(login: &Login, username: &str) -> Login {
    Login {
        username: username.into(),
        ..login.clone()
    }
}

/// The same login with another password.
fn with_password(login: &Login, password: &str) -> Login {
    Login {
        password: password.into(),
        ..login.clone()
    }
}

/// The same login to another database.
fn to_database(login: &Login, database: &str) -> Login {
    Login {
        database: database.into(),
        ..login.clone()
    }
}

/// Every stage passed; what the stage `tls` says holds these words, and so does the version.
#[track_caller]
fn expect_success(result: &ConnectionTestResult, tls: &str, version: &str) {
    assert!(result.ok, "{result:#?}");
    let names: Vec<_> = names(result);
    assert_eq!(names[1..], ALL[1..], "{result:#?}");
    let said = &result.stages[2].detail;
    assert!(said.contains(tls), "no \"{tls}\" in \"{said}\"");
    let found = result.server_version.as_deref().unwrap_or_default();
    assert!(found.contains(version), "no \"{version}\" in \"{found}\"");
    let latency = result.latency_milliseconds.expect("a query ran");
    assert!((0.0..10_000.0).contains(&latency), "{latency}");
}

/// It ends at this stage, with these words in the detail and in the remedy.
#[track_caller]
fn expect_failure(result: &ConnectionTestResult, stage: &str, detail: &str, remedy: &str) {
    assert!(!result.ok, "{result:#?}");
    let last = result.stages.last().expect("a stage");
    assert_eq!(last.name, stage, "{result:#?}");
    assert!(!last.ok, "{result:#?}");
    let said = last.detail.to_lowercase();
    assert!(
        said.contains(&detail.to_lowercase()),
        "no \"{detail}\" in \"{said}\""
    );
    let advice = last.remedy.as_deref().expect("a remedy").to_lowercase();
    assert!(
        advice.contains(&remedy.to_lowercase()),
        "no \"{remedy}\" in \"{advice}\""
    );
    assert_eq!(result.server_version, None);
    assert_eq!(result.latency_milliseconds, None);
}

fn names(result: &ConnectionTestResult) -> Vec<&str> {
    result
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect()
}
