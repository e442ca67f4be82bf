//! Several servers in Chromium, by the keyboard: nodes, a drain, regions, and a tunnel that moves to another one.

use reqwest::Method;
use serde_json::{Value, json};
use thirtyfour::Key;

use crate::browser::{Browser, SOON};
use crate::support::ports;
use crate::support::postgres::Postgres;
use crate::support::server::Server;
use crate::support::wait;
use crate::visitor::login_link;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

#[test]
fn nodes_regions_a_drain_and_a_move_by_keyboard() {
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "one"]);
    let browser = Browser::start("regions");
    browser.go(&login_link(&server));
    browser.enter("main button");
    browser.wait_for("Set a password", SOON);
    browser.enter("nav a[href$='/nodes']");
    browser.wait_for("one (answers you)", SOON);
    browser.look("01-nodes");

    let ssh_port = ports::free_port().to_string();
    adds_a_region(&browser, &ssh_port);
    let ssh = format!("127.0.0.1:{ssh_port}");
    let _eu = server.start_beside_at(&ssh, &["--node-name", "eu-1", "--region", "eu"]);
    browser.go(&format!("{}/nodes", server.url));
    browser.wait_for("eu-1", SOON);
    drains_a_node_and_takes_it_back(&browser, &server);
    moves_a_tunnel(&browser, &server);
    moves_a_tunnel_by_hand(&browser, &server);
}

fn adds_a_region(browser: &Browser, ssh_port: &str) {
    browser.type_into("#name", "eu");
    browser.type_into("#ssh_host", "127.0.0.1");
    browser.type_into("#ssh_port", ssh_port);
    browser.type_into("#ports", "many");
    browser.press(Key::Enter);
    browser.wait_for("Add a region", SOON);
    browser.tab_to(".notice.bad ~ form #name");
    browser.look("02-region-refused");
    // The Tab key selects what is in a field, so it is typed over.
    browser.type_into("#ports", "30000-30009");
    browser.press(Key::Enter);
    browser.wait_for("30000-30009", SOON);
    browser.look("03-regions");
}

fn drains_a_node_and_takes_it_back(browser: &Browser, server: &Server) {
    browser.enter("button[aria-label='Drain eu-1']");
    browser.wait_for("Do not drain", SOON);
    // Until it has heard of it, the page says that it was asked.
    assert_ne!(state_of_first(browser), "up");
    sees_in_the_end(browser, server, "draining");
    browser.look("04-draining");
    browser.enter("button[aria-label='Do not drain eu-1']");
    browser.wait_until_gone("Do not drain", SOON);
    sees_in_the_end(browser, server, "up");
}

/// The page does not live: it is opened again and again.
fn sees_in_the_end(browser: &Browser, server: &Server, state: &str) {
    let what = format!("eu-1 to be {state}");
    wait::until_true(
        &what,
        SOON,
        || browser.text(),
        || {
            browser.go(&format!("{}/nodes", server.url));
            state_of_first(browser) == state
        },
    );
}

/// Of eu-1, which comes before one.
fn state_of_first(browser: &Browser) -> Value {
    browser.run("return document.querySelector('.rows .pill').textContent")
}

fn moves_a_tunnel(browser: &Browser, server: &Server) {
    browser.go(&format!("{}/data-sources/new", server.url));
    browser.look("05-new");
    let source = server.operator().create("Shop", 5432);
    server.operator().enroll_nobody(&source);
    browser.go(&format!("{}/data-sources/{}/edit", server.url, source.id));
    browser.look("06-edit");
    browser.type_into("#region", "eu");
    browser.enter("main form button");
    browser.wait_for("to move to eu", SOON);
    browser.look("07-to-be-moved");
}

fn moves_a_tunnel_by_hand(browser: &Browser, server: &Server) {
    let operator = server.operator();
    let source = operator.create("Warehouse", 5432);
    let path = format!("/data-sources/{}", source.id);
    let register = operator.call(Method::PUT, &format!("{path}/public-key"));
    let registered = register.json(&json!({ "public_key": KEY })).send();
    assert!(registered.expect("an answer").status().is_success());
    operator.change_region(source.id, "eu");
    browser.go(&format!("{}{path}", server.url));
    browser.wait_for("It is moved", SOON);
    browser.look("08-to-be-moved-by-hand");
}
