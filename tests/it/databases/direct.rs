//! A data source without a tunnel: the server connects by itself.

use holistics_tunnel::protocol::{DatabaseType, TlsMode};
use holistics_tunnel::server::probe::{Route, Target};

use crate::databases::{ALL, expect_failure, names};
use crate::support::ports;
use crate::support::postgres::Postgres;

fn target(host: &str, port: u16, loopback_allowed: bool) -> Target {
    Target {
        database_type: DatabaseType::Postgresql,
        database: format!("{host}:{port}"),
        route: Route::Direct {
            host: host.into(),
            port,
            loopback_allowed,
        },
    }
}

#[test]
fn a_name_is_looked_up_once_and_all_stages_pass() {
    let postgres = Postgres::shared();
    let target = target("localhost", postgres.port(), true);
    let result = crate::databases::run(&target, &postgres.login(), TlsMode::Prefer);
    assert!(result.ok, "{result:#?}");
    assert_eq!(names(&result), ALL);
    assert!(
        result.stages[0].detail.contains("localhost is"),
        "{result:?}"
    );
}

#[test]
fn the_servers_own_machine_is_not_tested_unless_that_is_allowed() {
    let postgres = Postgres::shared();
    let target = target("localhost", postgres.port(), false);
    let result = crate::databases::run(&target, &postgres.login(), TlsMode::Prefer);
    expect_failure(&result, "dns", "own machine", "from outside");
}

#[test]
fn a_port_on_which_nothing_listens_is_said() {
    let postgres = Postgres::shared();
    let target = target("127.0.0.1", ports::free_port(), true);
    let result = crate::databases::run(&target, &postgres.login(), TlsMode::Prefer);
    expect_failure(&result, "tcp", "refused", "Check host and port");
}
