//! Regions on the pages: chosen where there are several, shown, added, and moved to; and a node that is sent to drain there.

use std::time::Duration;

use crate::support::postgres::Postgres;
use crate::support::server::Server;
use crate::support::wait;
use crate::visitor::{Page, Visitor};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_region_is_chosen_where_there_is_more_than_one() {
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "one"]);
    let visitor = Visitor::signed_in(&server);
    let has_choice = |path: &str| visitor.get(path).body.contains("name=\"region\"");
    assert!(!has_choice("/data-sources/new"));

    let nodes = visitor.get("/nodes");
    nodes.expect(&["Regions", "default", "as its servers are started"]);
    let add = nodes.form("/nodes/regions");
    let wrong = visitor.submit(
        &add,
        &[
            ("name", "e u"),
            ("ssh_host", "eu.example"),
            ("ssh_port", ""),
            ("ports", ""),
        ],
    );
    assert_eq!(wrong.status, 422);
    wrong.expect(&["is not a name"]);
    assert_has(&wrong, "value=\"eu.example\"");
    let fields = [
        ("name", "eu"),
        ("ssh_host", "eu.example"),
        ("ssh_port", ""),
        ("ports", "30000-30009"),
    ];
    let added = visitor.submit(&add, &fields);
    added.expect(&["eu.example:50022", "30000-30009"]);
    visitor.submit(&add, &fields).expect(&["there already"]);

    let new = visitor.get("/data-sources/new");
    assert_has(&new, "name=\"region\"");
    assert_has(&new, "<option value=\"default\" selected");
    assert_has(&new, "<option value=\"eu\"");
    let form = new.form("/data-sources");
    let typed = |region| {
        [
            ("display_name", "Shop"),
            ("database_type", "postgresql"),
            ("connection", "reverse_tunnel"),
            ("host", "db.internal"),
            ("port", "5432"),
            ("region", region),
        ]
    };
    let refused = visitor.submit(&form, &typed("mars"));
    assert_eq!(refused.status, 422);
    refused.expect(&["mars", "default", "eu"]);
    let made = visitor.submit(&form, &typed("eu"));
    assert_eq!(made.element("region"), "eu");

    // Nobody has enrolled yet: it is simply elsewhere.
    let path = made.path.clone();
    let edit = visitor.get(&format!("{path}/edit"));
    assert_has(&edit, "<option value=\"eu\" selected");
    let fields = [
        ("display_name", "Shop"),
        ("host", "db.internal"),
        ("port", "5432"),
        ("region", "default"),
    ];
    let moved = visitor.submit(&edit.form("/edit"), &fields);
    assert_eq!(moved.element("region"), "default");

    // Once somebody has, it can move only to where a tunnel server is.
    let source = server.operator().create("Billing", 5432);
    server.operator().enroll_nobody(&source);
    let path = format!("/data-sources/{}", source.id);
    let form = visitor.get(&format!("{path}/edit")).form("/edit");
    let fields = [
        ("display_name", "Billing"),
        ("host", "127.0.0.1"),
        ("port", "5432"),
        ("region", "eu"),
    ];
    let refused = visitor.submit(&form, &fields);
    assert_eq!(refused.status, 422);
    refused.expect(&["No tunnel server of the region", "--region eu"]);
}

#[test]
fn a_node_is_sent_to_drain_on_the_page_and_back() {
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "one"]);
    let visitor = Visitor::signed_in(&server);
    let wait_for = |state: &str| {
        let nodes = || visitor.get("/nodes").text();
        wait::until_true("its state", LIMIT, nodes, || nodes().contains(state));
    };
    let named = [("name", "one")];
    let drain = visitor.get("/nodes").form("/nodes/drain");
    visitor.submit(&drain, &named).expect(&["Do not drain"]);
    wait_for("draining\npages");
    let go_on = visitor.get("/nodes").form("/nodes/go-on");
    visitor.submit(&go_on, &named).expect(&["Drain"]);
    wait_for("up\npages");
    let unknown = visitor.submit(&drain, &[("name", "nobody")]);
    assert_eq!(unknown.status, 404);
    let log = visitor.get("/audit");
    log.expect(&["node asked to drain", "node asked not to drain any more"]);
}

#[track_caller]
fn assert_has(page: &Page, html: &str) {
    assert!(page.body.contains(html), "{html} is not in {}", page.body);
}
