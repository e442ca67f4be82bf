//! The browser's half of the journey: by forms alone, and in Chromium.

#![cfg(all(feature = "bastion", feature = "server"))]

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod security;
mod visitor;

use std::time::Duration;

use support::bastion::SETUP_LIMIT;
use support::lab::{Lab, SERVICE_LIMIT};
use support::postgres::Postgres;
use support::process::Running;
use visitor::{Page, Visitor};

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

    tests_the_connection(&visitor, &lab, &source);
    let page = visitor.get(&source);
    visitor.submit(&page.form("/save"), &[]);
    setup.wait(SETUP_LIMIT).expect_code(0);
    let page = visitor.wait_for(&source, "class=\"pill good\">Up", SERVICE_LIMIT);
    page.expect(&["connected now", "The service runs the tunnel"]);

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
    let prefix = lab.bastion.prefix();
    let line = format!(
        "{command} -s -- --yes --init sysv --prefix {}",
        prefix.display()
    );
    let mut shell = lab.bastion.any_program("sh");
    lab.bastion.start(shell.args(["-c", &line]))
}

fn tests_the_connection(visitor: &Visitor, lab: &Lab, source: &str) {
    let login = lab.postgres.login();
    let form = visitor.get(source).form("/test");
    let fields = |password| {
        [
            ("database", login.database.clone()),
            ("username", login.username.clone()),
            ("password", password),
            ("tls", "prefer".to_owned()),
        ]
    };
    let test = |password: String| -> Page {
        let fields = fields(password);
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        visitor.submit(&form, &fields)
    };
    let wrong = test("a wrong passphrase".to_owned());
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
    test(login.password.clone()).expect(&["The connection works", "Login", "Query", "PostgreSQL"]);
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
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("holistics-tunnel"));
    lab.bastion
        .run(lab.bastion.program(words).arg("--yes"))
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
    let mut shell = lab.bastion.any_program("sh");
    lab.bastion.run(shell.args(["-c", &command])).expect_code(0);
    visitor.wait_for(source, "Its key is refused", Duration::from_secs(10));
    visitor.get("/data-sources").expect(&["No data source yet"]);
}
