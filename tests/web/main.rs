//! The browser's half of the journey: by forms alone, and in Chromium.

#![cfg(all(feature = "bastion", feature = "server"))]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod browser;
mod by_hand;
mod by_hand_in_browser;
mod by_keyboard;
mod database;
mod history;
mod in_browser;
mod limits;
mod lists;
mod lists_in_browser;
mod machine;
mod passwords;
mod proxies;
mod regions;
mod regions_in_browser;
mod security;
mod visitor;

use std::time::Duration;

use support::bastion::SETUP_LIMIT;
use support::lab::{Lab, SERVICE_LIMIT};
use support::postgres::Postgres;
use support::process::Running;
use support::server::Server;
use support::sql::Login;
use visitor::Visitor;

#[test]
fn the_whole_journey_works_without_javascript() {
    let lab = Lab::new();
    let visitor = signs_in_by_link_and_password(&lab);

    let source = creates_a_data_source(&visitor, &lab);
    let page = visitor.get(&source);
    let setup = runs_the_command(&lab, &page.element("setup-command"));
    setup.wait_until("the tunnel", SETUP_LIMIT, || {
        visitor.get(&source).body.contains("Tunnel up, not saved")
    });

    let login = lab.postgres.login();
    tests_the_connection(&visitor, &login, &source);
    saves_with_the_login(&visitor, &login, &source);
    setup.wait(SETUP_LIMIT).expect_code(0);
    let page = visitor.wait_for(&source, "class=\"pill good\">Up", SERVICE_LIMIT);
    page.expect(&["connected now", "The service runs the tunnel"]);
    tests_with_the_saved_password(&visitor, &login, &source);

    edits_the_port(&visitor, &lab, &source);
    deletes_it(&visitor, &lab, &source);
    visitor.get("/audit").expect(&[
        "created",
        "saved",
        "changed",
        "removal asked for",
        "removed",
        "admin",
        "bastion",
    ]);
}

fn signs_in_by_link_and_password(lab: &Lab) -> Visitor {
    let visitor = Visitor::signed_in(&lab.server);
    let account = visitor.get("/account");
    let password = "correct horse battery";
    let form = account.form("/account");
    visitor
        .submit(&form, &[("password", "short"), ("again", "short")])
        .expect(&["at least 12 characters"]);
    visitor
        .submit(&form, &[("password", password), ("again", password)])
        .expect(&["The password is set"]);
    visitor.submit(&account.form("/sign-out"), &[]);
    let page = visitor.get("/data-sources");
    assert_eq!(page.status, 303, "signed out");
    let page = visitor.get("/sign-in");
    let wrong = visitor.submit(
        &page.form("/sign-in"),
        &[("name", "admin"), ("password", "correct horse batter")],
    );
    assert_eq!(wrong.status, 401);
    wrong.expect(&["Name or password is wrong"]);
    visitor
        .submit(
            &wrong.form("/sign-in"),
            &[("name", "admin"), ("password", password)],
        )
        .expect(&["No data source yet"]);
    visitor
}

/// Returns the path of its page.
fn creates_a_data_source(visitor: &Visitor, lab: &Lab) -> String {
    let form = visitor.get("/data-sources/new").form("/data-sources");
    let port = lab.postgres.port().to_string();
    let mut fields = [
        ("display_name", "Sales \"2026\""),
        ("database_type", "postgresql"),
        ("host", "no such host"),
        ("port", port.as_str()),
    ];
    let refused = visitor.submit(&form, &fields);
    assert_eq!(refused.status, 422);
    refused.expect(&["Host must be a DNS name or an IP address"]);
    for typed in ["Sales &#34;2026&#34;", "no such host", &port] {
        let kept = format!("value=\"{typed}\"");
        assert!(refused.body.contains(&kept), "{kept} was lost");
    }
    fields[2].1 = "127.0.0.1";
    let page = visitor.submit(&form, &fields);
    page.expect(&["Sales \"2026\"", "Waiting for the bastion", "Works until"]);
    page.path
}

/// The command from the page, with the flags of a bastion that lives in a folder.
pub fn runs_the_command(lab: &Lab, command: &str) -> Running {
    let line = format!("{command} -s -- --yes {}", lab.bastion.setup_options());
    let mut shell = lab.bastion.any_program("sh");
    lab.bastion.start(shell.args(["-c", &line]))
}

fn tests_the_connection(visitor: &Visitor, login: &Login, source: &str) {
    let form = visitor.get(source).form("/test");
    let wrong = visitor.submit(&form, &fields(login, "a wrong passphrase"));
    wrong.expect(&[
        "The connection does not work",
        "Check user name and password",
    ]);
    assert!(
        !wrong.body.contains("a wrong passphrase"),
        "the password is on the page"
    );
    let kept = format!("value=\"{}\"", login.username);
    assert!(wrong.body.contains(&kept), "the user name was lost");
    visitor
        .submit(&form, &fields(login, &login.password))
        .expect(&["The connection works", "Login", "Query", "PostgreSQL"]);
}

fn fields<'a>(login: &'a Login, password: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("database", &login.database),
        ("username", &login.username),
        ("password", password),
        ("tls", "prefer"),
    ]
}

/// From then on, the password need not be typed.
fn saves_with_the_login(visitor: &Visitor, login: &Login, source: &str) {
    let form = visitor.get(source).form("/save");
    let page = visitor.submit(&form, &fields(login, &login.password));
    page.expect(&[
        "A password is saved; leave it empty to keep it",
        "Login saved",
    ]);
    assert!(
        !page.body.contains(&login.password),
        "the password is on the page"
    );
    let kept = format!("value=\"{}\"", login.username);
    assert!(page.body.contains(&kept), "the saved user is not shown");
}

fn tests_with_the_saved_password(visitor: &Visitor, login: &Login, source: &str) {
    let page = visitor.get(source);
    visitor
        .submit(&page.form("/test"), &fields(login, ""))
        .expect(&["The connection works"]);
    let mut another_user = fields(login, "");
    another_user[1].1 = "postgres";
    let refused = visitor.submit(&page.form("/test"), &another_user);
    assert_eq!(refused.status, 409);
    refused.expect(&["The password is saved for another user"]);
}

#[test]
fn a_direct_connection_works_without_javascript() {
    let server = Server::start_with(10, &["--allow-direct-loopback"]);
    let visitor = Visitor::signed_in(&server);
    let postgres = Postgres::shared();
    let login = postgres.login();
    let new = visitor.get("/data-sources/new");
    let port = postgres.port().to_string();
    let mut typed = [
        ("display_name", "Warehouse"),
        ("database_type", "postgresql"),
        ("connection", "direct"),
        ("host", "no such host"),
        ("port", &port),
    ];
    let refused = visitor.submit(&new.form("/data-sources"), &typed);
    assert_eq!(refused.status, 422);
    let direct = refused
        .body
        .split("id=\"direct\"")
        .nth(1)
        .expect("the choice");
    let tag = direct.split('>').next().expect("its tag");
    assert!(tag.contains(" checked"), "the choice was lost: {tag}");
    typed[3].1 = "127.0.0.1";
    let page = visitor.submit(&refused.form("/data-sources"), &typed);
    page.expect(&["Not saved yet", "direct, from this server"]);
    for absent in ["setup-command", "h_autossh", "Last seen"] {
        assert!(
            !page.body.contains(absent),
            "{absent} on a direct connection"
        );
    }
    tests_the_connection(&visitor, &login, &page.path);
    saves_with_the_login(&visitor, &login, &page.path);
    tests_with_the_saved_password(&visitor, &login, &page.path);
    visitor
        .get("/data-sources")
        .expect(&["Saved", "direct connection"]);

    let edit = visitor.get(&format!("{}/edit", page.path));
    edit.expect(&["This is a direct connection", "has to be entered again"]);
    let elsewhere = [
        ("display_name", "Warehouse"),
        ("host", "db.example"),
        ("port", "5432"),
    ];
    visitor
        .submit(&edit.form("/edit"), &elsewhere)
        .expect(&["The saved password is for another host or port"]);
    let forgotten = visitor.submit(&visitor.get(&page.path).form("/forget-login"), &[]);
    forgotten.expect(&["Saving keeps it encrypted", "Saved login erased"]);

    let delete = visitor.get(&format!("{}/delete", page.path));
    delete.expect(&["It is a direct connection, so nothing has to be removed"]);
    visitor
        .submit(&delete.form("/delete"), &[("how", "now")])
        .expect(&["No data source yet"]);
    visitor.get("/audit").expect(&[
        "created",
        "connection tested: it does not work",
        "connection tested: it works",
        "login saved",
        "saved login erased",
        "removed",
    ]);
}

#[test]
fn the_page_of_api_tokens_leads_to_the_description_of_all_calls() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    let page = visitor.get("/api-tokens");
    let link = page.body.split("href=\"").find_map(|rest| {
        let (link, text) = rest.split_once("\">")?;
        text.starts_with("All calls").then_some(link)
    });
    let document = visitor.get(link.expect("a link to all calls"));
    assert_eq!(document.status, 200);
    let starts = document.body.starts_with("{\"openapi\":\"3.1");
    assert!(starts, "{}", document.body);
}

fn edits_the_port(visitor: &Visitor, lab: &Lab, source: &str) {
    let other = Postgres::start();
    let port = other.port().to_string();
    let form = visitor.get(&format!("{source}/edit")).form("/edit");
    let fields = [("display_name", "Sales"), ("host", "127.0.0.1")];
    let refused = visitor.submit(&form, &[fields[0], fields[1], ("port", "70000")]);
    assert_eq!(refused.status, 422);
    let page = visitor.submit(&form, &[fields[0], fields[1], ("port", &port)]);
    let command = page.element("update-command");
    lab.bastion
        .type_line(&format!("{command} --yes"))
        .expect_code(0);
    let page = visitor.get(source);
    assert!(
        !page.body.contains("update-command"),
        "it is still asked for"
    );
}

fn deletes_it(visitor: &Visitor, lab: &Lab, source: &str) {
    let page = visitor.get(&format!("{source}/delete"));
    let page = visitor.submit(&page.form("/delete"), &[("how", "command")]);
    page.expect(&["Being removed", "It removes this tunnel alone"]);
    let command = page.element("removal-command");
    lab.bastion.type_line(&command).expect_code(0);
    visitor.wait_for(source, "Its key is refused", Duration::from_secs(10));
    visitor.get("/data-sources").expect(&["No data source yet"]);
}
