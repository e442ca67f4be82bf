//! A database that the server reaches without a tunnel.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holistics_tunnel::protocol::{
    ConnectionKind, ConnectionTestResult, DataSource, DataSourceState, ProblemKind,
};
use reqwest::Method;
use serde_json::json;

use crate::connections::{Desk, answer, direct, problem};
use crate::support::hosts::namespace::Namespace;
use crate::support::server::Server;
use crate::support::workspace::Workspace;

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
fn an_address_that_the_server_has_or_gets_is_its_own_machine_in_every_notation() {
    let workspace = Workspace::new();
    let machine = Namespace::new(&workspace, "vendor");
    machine.ip("address add 10.99.0.5/24 dev lo");
    machine.ip("address add fd00:99::5/64 dev lo nodad");
    let _inside = machine.enter();
    let server = Server::start();
    let operator = server.operator();
    let knocks = Knocks::listen();
    let stages = |host: &str| {
        let new = json!({
            "display_name": "Shop", "database_type": "postgresql", "connection": "direct",
            "host": host, "port": knocks.port,
        });
        let request = operator.call(Method::POST, "/data-sources").json(&new);
        let source: DataSource = answer(request);
        let path = format!("/data-sources/{}/test", source.id);
        let login = json!({"database": "shop", "username": "reader", "password": "x"});
        let result: ConnectionTestResult = answer(operator.call(Method::POST, &path).json(&login));
        result.stages
    };
    let refused = |host: &str| {
        let stages = stages(host);
        assert_eq!(stages.len(), 1, "{host}: {stages:?}");
        assert!(
            stages[0].detail.contains("own machine"),
            "{host}: {stages:?}"
        );
    };
    for host in [
        "10.99.0.5",
        "::ffff:10.99.0.5",
        "64:ff9b::10.99.0.5",
        "64:ff9b:1:a63:0:500::",
        "2002:a63:5::1",
        "2001:db8::5efe:10.99.0.5",
        "fd00:99::5",
        "[fd00:99::5]",
    ] {
        refused(host);
    }
    assert_eq!(
        stages("10.98.0.5")[0].detail,
        "10.98.0.5 is an address that may be connected to"
    );
    // A second one of the same network, which is not where its connections come from; and addresses that a
    // route makes the machine's own.
    machine.ip("address add 10.99.0.6/24 dev lo");
    machine.ip("route add local 198.51.100.0/24 dev lo");
    for host in ["10.99.0.6", "198.51.100.7", "64:ff9b::198.51.100.7"] {
        refused(host);
    }
    assert_eq!(knocks.number(), 0, "somebody was let through");
}

#[test]
fn a_name_whose_address_becomes_the_servers_own_is_not_looked_up_again() {
    let workspace = Workspace::new();
    let machine = Namespace::new(&workspace, "vendor");
    let _inside = machine.enter();
    let names = Names::that_turn();
    let file = workspace.folder("names").join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n").expect("a file");
    let server = Server::start_resolving_by(&file);
    let knocks = Knocks::listen();
    let operator = server.operator();
    for database_type in ["postgresql", "mysql", "sqlserver", "clickhouse", "other"] {
        names.asked.store(0, Ordering::SeqCst);
        let new = json!({
            "display_name": "Shop", "database_type": database_type, "connection": "direct",
            "host": "db.turning.example", "port": knocks.port,
        });
        let source: DataSource = answer(operator.call(Method::POST, "/data-sources").json(&new));
        let path = format!("/data-sources/{}/test", source.id);
        let login = json!({"database": "shop", "username": "reader", "password": "x"});
        let result: ConnectionTestResult = answer(operator.call(Method::POST, &path).json(&login));
        let found = &result.stages[0];
        assert_eq!(
            found.detail, "db.turning.example is 10.98.0.5",
            "{result:?}"
        );
        assert!(!result.ok, "{result:?}");
        assert_eq!(names.asked.load(Ordering::SeqCst), 1, "{database_type}");
    }
    assert_eq!(knocks.number(), 0, "somebody was let through");
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

/// Counts who connects, whatever address he uses.
struct Knocks {
    port: u16,
    number: Arc<AtomicUsize>,
}

impl Knocks {
    fn listen() -> Self {
        let listener = TcpListener::bind("[::]:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let number = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&number);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Knocks { port, number }
    }

    fn number(&self) -> usize {
        self.number.load(Ordering::SeqCst)
    }
}

/// A name server for which every name has a far address the first time that it is asked, and loopback later.
struct Names {
    asked: Arc<AtomicUsize>,
}

impl Names {
    fn that_turn() -> Self {
        const ADDRESS: [u8; 2] = [0, 1];
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the port of a name server");
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut heard = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut heard) {
                // Behind the header stands the name, and behind that what is asked of it.
                let name = 12
                    + heard[12..length]
                        .iter()
                        .position(|byte| *byte == 0)
                        .expect("a name");
                let question = &heard[12..name + 5];
                let wanted = &heard[name + 1..name + 3];
                let address =
                    (wanted == ADDRESS).then(|| match count.fetch_add(1, Ordering::SeqCst) {
                        0 => [10, 98, 0, 5],
                        _ => [127, 0, 0, 1],
                    });
                let answers = u8::from(address.is_some());
                let header = [heard[0], heard[1], 0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0];
                let mut answer = [&header[..], question].concat();
                if let Some(address) = address {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    answer.extend(address);
                }
                let _ = socket.send_to(&answer, from);
            }
        });
        Names { asked }
    }
}
