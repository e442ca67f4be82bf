//! Nodes of different roles: what one for pages and API does with tunnels that only others hold.

use std::io::Read;
use std::sync::{Arc, Mutex};

use holistics_tunnel::protocol::{DataSource, DataSourceState};
use reqwest::{Method, StatusCode};

use super::cluster::{
    Customer, LIMIT, SOON, http, is_answered, nodes, of_name, readiness, wait_for,
};
use crate::support::lab::{token_of, tunnel_of};
use crate::support::postgres::Postgres;
use crate::support::server::Server;
use crate::support::wait;

/// What comes on a data source's stream of events.
struct Stream(Arc<Mutex<String>>);

impl Stream {
    fn of(server: &Server, source: &DataSource) -> Self {
        let path = format!("/data-sources/{}/events", source.id);
        let answer = server.operator().call(Method::GET, &path).timeout(LIMIT);
        let mut answer = answer.send().expect("a stream");
        assert_eq!(answer.status(), StatusCode::OK);
        let heard: Arc<Mutex<String>> = Arc::default();
        let hears = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(number @ 1..) = answer.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..number]);
                hears.lock().expect("what was heard").push_str(&text);
            }
        });
        Stream(heard)
    }

    fn heard(&self) -> String {
        self.0.lock().expect("what was heard").clone()
    }

    #[track_caller]
    fn wait_for(&self, kind: &str) {
        let sent = format!("\"kind\":\"{kind}\"");
        wait::until_true(kind, SOON, || self.heard(), || self.heard().contains(&sent));
    }
}

/// A sample of a node's metrics.
pub fn metric(server: &Server, name: &str) -> Option<String> {
    let answer = server
        .operator()
        .call_beside(Method::GET, "/metrics")
        .send();
    let page = answer.and_then(|answer| answer.text()).expect("metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map(|value| value.trim().to_owned())
}

#[test]
fn a_node_for_pages_leads_the_whole_journey_of_a_tunnel_that_another_node_holds() {
    let tunnels = Server::start_on(
        &Postgres::server_database(),
        &[
            "--role",
            "tunnel",
            "--node-name",
            "tunnels",
            "--peer-listen",
            "127.0.0.1:0",
        ],
    );
    let pages = tunnels.start_pages_beside(&["--node-name", "pages"]);
    let operator = pages.operator();
    let postgres = Postgres::shared();
    let customer = Customer::of_database(postgres.port());
    let source = customer.enroll(&pages, "Shop");
    let stream = Stream::of(&pages, &source);
    let before = operator.test(source.id, &postgres.login());
    assert!(!before.ok, "{before:?}");
    assert_eq!(before.stages.last().expect("a stage").name, "tunnel");

    let ssh = customer.connect(&tunnels, &source);
    let evidence = || format!("{}\n{}", tunnels.log(), pages.log());
    wait::until_true("that the tunnel is up", SOON, evidence, || {
        let url = format!("{}/api/v1/enrollment/tunnel-up", pages.url);
        let told = http().post(url).bearer_auth(token_of(&source)).send();
        told.expect("an answer").status().is_success()
    });
    wait_for(&pages, &source, DataSourceState::Connected, SOON);
    stream.wait_for("up");
    // The other node was told of this one when it was started, a moment ago.
    let tested = operator.test(source.id, &postgres.login());
    assert!(tested.ok, "{tested:?}\n{}", evidence());
    assert!(tested.server_version.is_some(), "{tested:?}");
    let mut wrong = postgres.login();
    wrong.password = "not it".to_owned();
    let refused = operator.test(source.id, &wrong);
    assert_eq!(refused.stages.last().expect("a stage").name, "login");

    operator.save(source.id);
    stream.wait_for("saved");
    assert!(operator.test(source.id, &postgres.login()).ok);
    for node in [&pages, &tunnels] {
        assert_eq!(readiness(node), StatusCode::OK);
        let up = || metric(node, "holistics_tunnel_tunnels{state=\"up\"}");
        wait::until_true("its metrics", SOON, evidence, || up() == Some("1".into()));
    }
    let list = nodes(&pages);
    assert_eq!(of_name(&list, "pages")["tunnels"], 0, "{list:#}");
    assert_eq!(of_name(&list, "tunnels")["tunnels"], 1, "{list:#}");

    operator.delete_now(source.id);
    stream.wait_for("removed");
    ssh.wait(LIMIT);
    let port = tunnel_of(&source).remote_port.expect("a port");
    let is_closed = || std::net::TcpStream::connect(("127.0.0.1", port)).is_err();
    wait::until_true("its port is closed", SOON, evidence, is_closed);
    let up = || metric(&pages, "holistics_tunnel_tunnels{state=\"up\"}");
    wait::until_true("no tunnel is up", SOON, evidence, || {
        up() == Some("0".into())
    });
}

#[test]
fn a_connection_is_tested_from_a_node_that_others_cannot_reach() {
    // It has tunnels of its own, and no address for other nodes.
    let holder = Server::start_on(
        &Postgres::server_database(),
        &["--node-name", "holder", "--peer-listen", "127.0.0.1:0"],
    );
    let asked = holder.start_beside(&["--node-name", "asked", "--forward-listen", "127.0.0.2"]);
    let postgres = Postgres::shared();
    let customer = Customer::of_database(postgres.port());
    let source = customer.enroll(&asked, "Shop");
    let _ssh = customer.connect(&holder, &source);
    wait_for(&asked, &source, DataSourceState::Connected, SOON);
    let tested = asked.operator().test(source.id, &postgres.login());
    assert!(tested.ok, "{tested:?}\n{}\n{}", holder.log(), asked.log());
    assert!(!is_answered("127.0.0.2", &source), "it fronts nothing");
}

#[test]
fn who_tests_a_tunnel_of_a_node_that_cannot_be_reached_is_told_what_it_lacks() {
    let holder = Server::start_on(&Postgres::server_database(), &["--node-name", "holder"]);
    let pages = holder.start_pages_beside(&["--node-name", "pages"]);
    let postgres = Postgres::shared();
    let customer = Customer::of_database(postgres.port());
    let source = customer.enroll(&pages, "Shop");
    let _ssh = customer.connect(&holder, &source);
    wait_for(&pages, &source, DataSourceState::Connected, SOON);
    let path = format!("/data-sources/{}/test", source.id);
    let login = serde_json::json!({"database": "shop", "username": "reader", "password": "x"});
    let answer = pages.operator().call(Method::POST, &path).json(&login);
    let answer = answer.send().expect("an answer");
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let told = answer.text().expect("a problem");
    for word in ["holder", "--peer-listen"] {
        assert!(told.contains(word), "{told}");
    }
}
