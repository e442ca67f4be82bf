//! The vendor's disk is full for a while: what is up stays up, what cannot be kept is refused, and once there
//! is room again everything works at once.

use std::time::Duration;

use holistics_tunnel::protocol::{ConnectionKind, DataSource, DatabaseType, NewDataSource};
use reqwest::{Method, StatusCode};

use crate::support::lab::Lab;
use crate::support::server::Server;
use crate::support::wait;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn after_a_full_disk_everything_works_again_at_once() {
    let lab = Lab::with(Server::start_on_small_disk());
    let source = lab.active_data_source("Shop");
    let disk = lab.server.disk.as_ref().expect("its own disk");
    assert_eq!(readiness(&lab), StatusCode::OK);

    disk.fill();
    // What has room in files that are there already may still be written.
    wait::until_true("a write fails", LIMIT, String::new, || {
        !create(&lab).is_success()
    });
    for _ in 0..3 {
        assert!(create(&lab).is_server_error());
    }
    wait_until_unready(&lab);
    assert_rows_come(&lab, &source);
    let test = lab.operator.test(source.id, &lab.postgres.login());
    assert!(test.ok, "a test that has succeeded says so: {test:?}");

    disk.free();
    assert_eq!(create(&lab), StatusCode::CREATED);
    assert_eq!(readiness(&lab), StatusCode::OK);
}

#[test]
fn a_server_that_starts_while_its_disk_is_full_brings_the_tunnels_up() {
    let mut lab = Lab::with(Server::start_on_small_disk());
    let source = lab.active_data_source("Shop");
    for end in [Server::kill, |server: &mut Server| {
        server.stop().expect_code(0);
    }] {
        lab.server.disk.as_ref().expect("its own disk").fill();
        end(&mut lab.server);
        lab.server.start_again();
        wait::until_true("the tunnel is up again", LIMIT, String::new, || {
            lab.login_through(&source).is_ok()
        });
        assert_rows_come(&lab, &source);
        wait_until_unready(&lab);

        lab.server.disk.as_ref().expect("its own disk").free();
        assert_eq!(create(&lab), StatusCode::CREATED);
        assert_eq!(readiness(&lab), StatusCode::OK);
    }
}

fn create(lab: &Lab) -> StatusCode {
    let new = NewDataSource {
        display_name: "Another".to_owned(),
        database_type: DatabaseType::Postgresql,
        connection: ConnectionKind::ReverseTunnel,
        host: "127.0.0.1".to_owned(),
        port: lab.postgres.port(),
        region: None,
    };
    let call = lab.operator.call(Method::POST, "/data-sources");
    call.json(&new).send().expect("an answer").status()
}

/// What was seen a moment ago may hold, and little may have room where much has none.
fn wait_until_unready(lab: &Lab) {
    wait::until_true("it is not ready", LIMIT, String::new, || {
        readiness(lab) == StatusCode::SERVICE_UNAVAILABLE
    });
}

fn readiness(lab: &Lab) -> StatusCode {
    let call = lab.operator.call_beside(Method::GET, "/readyz");
    call.send().expect("an answer").status()
}

#[track_caller]
fn assert_rows_come(lab: &Lab, source: &DataSource) {
    let mut client = lab.login_through(source).expect("a login");
    let orders = client.number("SELECT count(*) FROM orders");
    assert!(orders.is_ok_and(|orders| orders > 0));
}
