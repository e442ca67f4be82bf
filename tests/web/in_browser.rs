//! The journey in Chromium, as a person goes through it, with a look at every page.

use reqwest::Method;
use serde_json::json;

use crate::browser::{Browser, SOON};
use crate::database::Databases;
use crate::runs_the_command;
use crate::support::bastion::SETUP_LIMIT;
use crate::support::lab::{Lab, SERVICE_LIMIT};
use crate::support::process::Running;
use crate::support::server::Server;
use crate::support::wait;
use crate::visitor::login_link;

#[test]
fn the_whole_journey_to_a_postgresql_in_a_browser() {
    let lab = Lab::new();
    let browser = Browser::start("postgresql");
    let databases = Databases::postgresql();
    signs_in(&browser, &lab);
    is_led_by_the_form(&browser);
    creates_a_data_source(&browser, &databases);
    let setup = sees_the_tunnel_come_up(&browser, &lab);
    tests_and_saves(&browser, &databases);
    setup.wait(SETUP_LIMIT).expect_code(0);
    browser.wait_for("connected now", SERVICE_LIMIT);
    browser.wait_until_gone("Saved, service being set up", SERVICE_LIMIT);
    browser.look("08-up");
    browser.go(&format!("{}/data-sources", lab.server.url));
    browser.look("09-list");
    sees_it_go_down_and_up(&browser, &lab);
    edits_the_port(&browser, &lab, &databases);
    tests_with_the_password_typed_again(&browser, &databases);
    deletes_it(&browser, &lab);
    looks_at_the_rest(&browser, &lab);
    looks_at_long_values(&browser, &lab);
}

#[test]
fn the_whole_journey_to_a_mariadb_in_a_browser() {
    let lab = Lab::new();
    let browser = Browser::start("mariadb");
    let databases = Databases::mariadb();
    browser.go(&login_link(&lab.server));
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    browser.click("nav a");
    browser.wait_for("No data source yet", SOON);
    browser.click("main a.button");
    creates_a_data_source(&browser, &databases);
    let setup = sees_the_tunnel_come_up(&browser, &lab);
    tests_and_saves(&browser, &databases);
    setup.wait(SETUP_LIMIT).expect_code(0);
    browser.wait_for("connected now", SERVICE_LIMIT);
    browser.wait_until_gone("Saved, service being set up", SERVICE_LIMIT);
    edits_the_port(&browser, &lab, &databases);
    tests_with_the_password_typed_again(&browser, &databases);
    deletes_it(&browser, &lab);
}

#[test]
fn a_direct_connection_in_a_browser() {
    let server = Server::start_with(10, &["--allow-direct-loopback"]);
    let browser = Browser::start("direct");
    let databases = Databases::postgresql();
    browser.go(&login_link(&server));
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    browser.go(&format!("{}/data-sources/new", server.url));
    browser.click("label[for=direct]");
    browser.wait_for("Create data source", SOON);
    assert!(!browser.text().contains("Generate script"));
    browser.look("01-new-direct");
    browser.fill("#display_name", "Warehouse");
    browser.fill("#host", "127.0.0.1");
    browser.fill("#port", &databases.port.to_string());
    browser.click("main form button");
    browser.wait_for("Not saved yet", SOON);
    browser.look("02-draft");
    shows_times_where_the_reader_is(&browser);
    tests_and_saves(&browser, &databases);
    browser.wait_for("A password is saved", SOON);
    browser.look("08-saved");
    // The saved password is enough now.
    browser.click("button[data-busy]");
    browser.wait_for("The connection works", SOON);
    browser.go(&format!("{}/data-sources", server.url));
    browser.wait_for("direct connection", SOON);
    browser.look("09-list");
    browser.click("a.row");
    browser.click("main a[href$='/delete']");
    browser.look("10-delete");
    browser.click("button[value=now]");
    browser.wait_for("No data source yet", SOON);
}

#[test]
fn a_button_without_a_name_and_a_field_without_a_label_would_be_found() {
    let server = Server::start();
    let browser = Browser::start("inaccessible");
    browser.go(&format!("{}/sign-in", server.url));
    browser.wait_for("Sign in", SOON);
    assert_eq!(browser.inaccessible(), json!([]));
    browser.run("document.querySelector('main button').textContent = ''");
    browser.run("document.querySelector('label[for=name]').remove()");
    let found = browser.inaccessible().to_string();
    for rule in ["button-name: ", "label: "] {
        assert!(found.contains(rule), "no {rule}in {found}");
    }
}

fn shows_times_where_the_reader_is(browser: &Browser) {
    let created = "return document.querySelector('.facts time').textContent";
    browser.travel_to("Asia/Tokyo");
    let tokyo = browser.run(created);
    browser.travel_to("Pacific/Honolulu");
    let honolulu = browser.run(created);
    assert!(tokyo.to_string().contains("GMT+9"), "{tokyo}");
    assert!(honolulu.to_string().contains("HST"), "{honolulu}");
}

fn signs_in(browser: &Browser, lab: &Lab) {
    browser.go(&lab.server.url);
    browser.wait_for("Sign in", SOON);
    browser.look("01-sign-in");
    browser.go(&format!("{}/login/none", lab.server.url));
    browser.look("01-link-that-is-over");
    browser.go(&login_link(&lab.server));
    browser.look("02-link");
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    browser.look("02-account");
    browser.fill("#password", "correct horse battery");
    browser.fill("#again", "correct horse battery");
    browser.click("main button");
    browser.wait_for("The password is set", SOON);
    browser.click("nav a");
    browser.wait_for("No data source yet", SOON);
    browser.look("03-no-data-source");
}

fn is_led_by_the_form(browser: &Browser) {
    browser.click("main a.button");
    let usual = || browser.run("return document.getElementById('port').placeholder");
    choose(browser, "mariadb");
    assert_eq!(usual(), "3306");
    choose(browser, "postgresql");
    assert_eq!(usual(), "5432");
    let chosen = "return document.querySelector('[name=connection]:checked').value";
    assert_eq!(browser.run(chosen), "reverse_tunnel");
    browser.look("04-new");
    browser.fill("#display_name", "Sales, Europe");
    browser.fill("#host", "-oProxyCommand=id");
    browser.click("main form button");
    browser.wait_for("Host must be", SOON);
    browser.look("04-new-refused");
}

/// Chooses a database type on the form.
fn choose(browser: &Browser, kind: &str) {
    browser.run(&format!(
        "const type = document.getElementById('database_type'); type.value = '{kind}';
         type.dispatchEvent(new Event('change'))"
    ));
}

fn creates_a_data_source(browser: &Browser, databases: &Databases) {
    choose(browser, databases.kind);
    browser.fill("#display_name", "Sales, Europe");
    browser.fill("#host", "127.0.0.1");
    browser.fill("#port", &databases.port.to_string());
    browser.click("main form button");
    browser.wait_for("Waiting for the bastion", SOON);
    browser.look("05-command");
    browser.click("[data-copy=setup-command]");
    let button = "return document.querySelector('[data-copy=setup-command]').textContent";
    wait::until_true("the copy button to answer", SOON, String::new, || {
        browser.run(button) != "Copy"
    });
}

/// Runs the command that the page shows, and never reloads the page.
fn sees_the_tunnel_come_up(browser: &Browser, lab: &Lab) -> Running {
    browser.run("window.neverReloaded = true");
    let command = browser.run("return document.getElementById('setup-command').textContent");
    let setup = runs_the_command(lab, command.as_str().expect("a command"));
    browser.wait_for("Tunnel up, not saved", SETUP_LIMIT);
    assert_eq!(browser.run("return window.neverReloaded"), true);
    browser.look("06-tunnel-up");
    setup
}

fn tests_and_saves(browser: &Browser, databases: &Databases) {
    let login = &databases.login;
    browser.fill("#database", &login.database);
    browser.fill("#username", &login.username);
    browser.fill("#password", "not the password");
    browser.click("button[data-busy]");
    browser.wait_for("The connection does not work", SOON);
    browser.wait_for("Check user name and password", SOON);
    browser.look("07-test-failed");
    let typed = browser.run("return document.getElementById('password').value");
    assert_eq!(
        typed, "not the password",
        "what was typed is kept in the browser"
    );
    browser.fill("#password", &login.password);
    browser.click("button[data-busy]");
    browser.wait_for("The connection works", SOON);
    browser.wait_for(databases.maker, SOON);
    browser.look("07-test-passed");
    browser.click("button[data-whole]");
    browser.wait_for("Saved", SOON);
}

/// In the list, and then on its own page.
fn sees_it_go_down_and_up(browser: &Browser, lab: &Lab) {
    browser.run("window.neverReloaded = true");
    lab.bastion.service("stop").expect_code(0);
    browser.wait_for("Down", SERVICE_LIMIT);
    browser.wait_for("last seen", SOON);
    assert_eq!(browser.run("return window.neverReloaded"), true);
    browser.click("a.row");
    browser.wait_for("The tunnel is down", SOON);
    browser.look("10-down");
    browser.run("window.neverReloaded = true");
    lab.bastion.service("start").expect_code(0);
    browser.wait_until_gone("The tunnel is down", SERVICE_LIMIT);
    browser.wait_for("connected now", SOON);
    assert_eq!(browser.run("return window.neverReloaded"), true);
}

fn edits_the_port(browser: &Browser, lab: &Lab, databases: &Databases) {
    browser.click("main a[href$='/edit']");
    browser.look("11-edit");
    browser.fill("#port", &databases.other_port.to_string());
    browser.click("main form button");
    browser.wait_for("One command to run", SOON);
    browser.look("12-update-command");
    let command = browser.run("return document.getElementById('update-command').textContent");
    lab.bastion
        .type_line(&format!("{} --yes", command.as_str().expect("a command")))
        .expect_code(0);
    browser.wait_until_gone("One command to run", SERVICE_LIMIT);
}

/// The saved password was for the port before.
fn tests_with_the_password_typed_again(browser: &Browser, databases: &Databases) {
    browser.wait_for("The saved password is for another host or port", SOON);
    let kept = browser.run("return document.getElementById('username').value");
    assert_eq!(kept, json!(databases.login.username));
    browser.click("button[data-busy]");
    browser.wait_for(
        "Host or port have changed since the password was saved",
        SOON,
    );
    browser.look("12-password-needed");
    browser.fill("#password", &databases.login.password);
    browser.click("button[data-busy]");
    browser.wait_for("The connection works", SOON);
    browser.click("button[data-whole]");
    browser.wait_for("A password is saved", SOON);
}

fn deletes_it(browser: &Browser, lab: &Lab) {
    browser.click("main a[href$='/delete']");
    browser.look("13-delete");
    browser.click("button[value=command]");
    browser.wait_for("Being removed", SOON);
    browser.look("14-removing");
    let command = browser.run("return document.getElementById('removal-command').textContent");
    lab.bastion
        .type_line(command.as_str().expect("a command"))
        .expect_code(0);
    browser.wait_for("Its key is refused", SOON);
    browser.look("15-removed");
}

fn looks_at_the_rest(browser: &Browser, lab: &Lab) {
    let url = &lab.server.url;
    browser.go(&format!("{url}/api-tokens"));
    browser.fill("#name", "nightly-sync");
    browser.click("main form button");
    browser.wait_for("it is not shown again", SOON);
    browser.look("16-api-tokens");
    browser.go(&format!("{url}/operators"));
    browser.wait_for("admin (you)", SOON);
    browser.look("17-operators");
    browser.go(&format!("{url}/audit"));
    browser.wait_for("API token made", SOON);
    browser.look("17-audit");
    browser.go(&format!("{url}/data-sources/4711"));
    browser.look("18-not-found");
}

/// The longest values that are taken fit on a phone.
fn looks_at_long_values(browser: &Browser, lab: &Lab) {
    let host = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
    let source = lab.operator.create_for(&"W".repeat(200), &host, 65_535);
    let page = format!("{}/data-sources", lab.server.url);
    browser.go(&page);
    browser.look("19-long-list");
    for part in ["", "/edit", "/delete"] {
        browser.go(&format!("{page}/{}{part}", source.id));
        browser.look(&format!("19-long{}", part.replace('/', "-")));
    }
}

#[test]
fn eight_tabs_over_http1_load_and_all_see_what_changes() {
    let server = Server::start();
    let operator = server.operator();
    let source = operator.create("Shop", 5432);
    let browser = Browser::start("tabs");
    browser.go(&login_link(&server));
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    let list = format!("{}/data-sources", server.url);
    let pages = [list.clone(), format!("{list}/{}", source.id)];
    let tabs: Vec<_> = (0..8)
        .map(|number| {
            let tab = browser.open_tab(&pages[number % 2]);
            browser.wait_for("Shop", SOON);
            tab
        })
        .collect();
    let renamed = operator.call(Method::PATCH, &format!("/data-sources/{}", source.id));
    let renamed = renamed.json(&json!({ "display_name": "Warehouse" })).send();
    assert!(renamed.expect("an answer").status().is_success());
    for tab in &tabs {
        browser.look_at(tab);
        browser.wait_for("Warehouse", SOON);
    }
    let metrics = operator.call_beside(Method::GET, "/metrics").send();
    let metrics = metrics.expect("an answer").text().expect("a text");
    assert!(
        metrics.contains("holistics_tunnel_live_streams 1\n"),
        "{metrics}"
    );
}
