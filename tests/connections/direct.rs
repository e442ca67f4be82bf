//! A database that the server reaches without a tunnel.

use holistics_tunnel::protocol::{ConnectionKind, DataSourceState, ProblemKind};
use reqwest::Method;
use serde_json::json;

use crate::support::server::Server;
use crate::{Desk, answer, direct, problem};

#[test]
fn a_direct_connection_is_tested_saved_and_deleted_without_a_bastion() {
    let desk = Desk::new();
    let source = desk.direct();
    assert_eq!(source.connection, ConnectionKind::Direct);
    assert_eq!(source.state, DataSourceState::Draft);
    assert!(source.tunnel.is_none() && source.enrollment.is_none());

    let result = desk.test(source.id, &desk.login());
    assert!(result.ok, "{result:?}");
    assert_eq!(result.stages[0].name, "dns");
    assert!(result.server_version.unwrap().contains("PostgreSQL"));

    let saved = desk.operator.save(source.id);
    assert_eq!(saved.state, DataSourceState::Saved);
    assert_eq!(saved.login, None, "nothing was sent to keep");

    let path = format!("/data-sources/{}", source.id);
    let deleted = desk.operator.call(Method::DELETE, &path).send().unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(deleted.text().unwrap(), "");
    let gone = desk.operator.data_source(source.id);
    assert_eq!(gone.state, DataSourceState::Removed);
    let again = problem(desk.operator.call(Method::DELETE, &path));
    assert_eq!(again.kind, ProblemKind::NotFound);
}

#[test]
fn it_can_be_saved_before_it_works_and_changed_without_a_command() {
    let desk = Desk::new();
    let source = desk.saved("prefer");
    assert_eq!(source.state, DataSourceState::Saved);
    desk.change(source.id, &json!({"host": "db.example", "port": 5433}));
    let changed = desk.operator.data_source(source.id);
    assert_eq!(changed.address().to_string(), "db.example:5433");
    assert_eq!(changed.update_command, None);
}

#[test]
fn the_servers_own_machine_is_reached_only_where_that_was_allowed() {
    let server = Server::start();
    let operator = server.operator();
    let source = direct(&operator, 5432);
    let path = format!("/data-sources/{}/test", source.id);
    let login = json!({"database": "shop", "username": "reader", "password": "x"});
    let request = operator.call(Method::POST, &path).json(&login);
    let result: holistics_tunnel::protocol::ConnectionTestResult = answer(request);
    assert!(!result.ok);
    assert_eq!(result.stages.len(), 1, "{result:?}");
    assert!(result.stages[0].remedy.is_some());
}

#[test]
fn a_data_source_is_reached_through_a_tunnel_unless_the_other_is_asked_for() {
    let server = Server::start();
    let operator = server.operator();
    let source = operator.create("Shop", 5432);
    assert_eq!(source.connection, ConnectionKind::ReverseTunnel);
    assert!(source.tunnel.is_some() && source.enrollment.is_some());
    let new = json!({"display_name": "Shop", "database_type": "mysql", "host": "db", "port": 3306});
    let source: holistics_tunnel::protocol::DataSource =
        answer(operator.call(Method::POST, "/data-sources").json(&new));
    assert_eq!(source.connection, ConnectionKind::ReverseTunnel);
}

#[test]
fn the_one_region_may_be_named_and_another_is_told_apart() {
    let server = Server::start();
    let operator = server.operator();
    let create = |region: &str| {
        let new = json!({
            "display_name": "Shop", "database_type": "mysql", "host": "db", "port": 3306, "region": region,
        });
        operator.call(Method::POST, "/data-sources").json(&new)
    };
    answer::<holistics_tunnel::protocol::DataSource>(create("default"));
    let refused = problem(create("eu-west"));
    assert_eq!(refused.kind, ProblemKind::InvalidRequest);
    assert!(refused.detail.contains("\"default\""), "{}", refused.detail);
}
