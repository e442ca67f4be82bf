//! "Test connection" against real databases: what an operator is told, stage by stage.

#![cfg(all(feature = "bastion", feature = "server"))]

#[path = "../support/mod.rs"]
mod support;

use support::mariadb::MariaDb;

#[test]
fn a_mariadb_starts() {
    let mariadb = MariaDb::start();
    assert!(support::ports::is_open(mariadb.port()));
    let mariadb = MariaDb::start_with_tls();
    assert!(support::ports::is_open(mariadb.port()));
}
