//! The whole journey by the keyboard alone: from the first sign-in to the removal.

use serde_json::json;
use thirtyfour::Key;

use crate::browser::{Browser, SOON};
use crate::database::Databases;
use crate::runs_the_command;
use crate::support::bastion::SETUP_LIMIT;
use crate::support::lab::{Lab, SERVICE_LIMIT};
use crate::support::wait;
use crate::visitor::login_link;

#[test]
fn the_whole_journey_by_keyboard_alone() {
    let lab = Lab::new();
    let databases = Databases::postgresql();
    let browser = Browser::start("keyboard");
    browser.go(&login_link(&lab.server));
    signs_in(&browser);
    creates_a_data_source(&browser, &databases);
    browser.enter("[data-copy=setup-command]");
    let command = shown(&browser, "setup-command");
    let setup = runs_the_command(&lab, &command);
    browser.wait_for("Tunnel up, not saved", SETUP_LIMIT);
    tests_and_saves(&browser, &databases);
    setup.wait(SETUP_LIMIT).expect_code(0);
    browser.wait_for("connected now", SERVICE_LIMIT);
    browser.wait_until_gone("Saved, service being set up", SERVICE_LIMIT);
    edits_the_port(&browser, &lab, &databases);
    deletes_it(&browser, &lab);
    revokes_a_token(&browser);
}

fn signs_in(browser: &Browser) {
    const PASSWORD: &str = "correct horse battery";
    browser.enter("main button");
    browser.wait_for("Set a password", SOON);
    browser.type_into("#password", PASSWORD);
    browser.type_into("#again", PASSWORD);
    browser.enter("main form button");
    browser.wait_for("The password is set", SOON);
    browser.enter("header form button");
    browser.wait_for("Sign in", SOON);
    browser.type_into("#name", "admin");
    browser.type_into("#password", PASSWORD);
    browser.press(Key::Enter);
    browser.wait_for("No data source yet", SOON);
}

fn creates_a_data_source(browser: &Browser, databases: &Databases) {
    browser.enter("main a.button");
    browser.wait_for("New data source", SOON);
    let focused = browser.run("return document.activeElement.id");
    assert_eq!(focused, "display_name", "it can be typed at once");
    browser.press("Shop");
    browser.type_into("#database_type", "Post");
    browser.type_into("#host", "127.0.0.1");
    browser.type_into("#port", &databases.port.to_string());
    browser.enter("main form button");
    browser.wait_for("Waiting for the bastion", SOON);
}

fn tests_and_saves(browser: &Browser, databases: &Databases) {
    let login = &databases.login;
    browser.type_into("#database", &login.database);
    browser.type_into("#username", &login.username);
    browser.type_into("#password", &login.password);
    browser.enter("button[data-busy]");
    browser.wait_for("The connection works", SOON);
    browser.enter("button[data-whole]");
    browser.wait_for("A password is saved", SOON);
}

fn edits_the_port(browser: &Browser, lab: &Lab, databases: &Databases) {
    browser.enter("main a[href$='/edit']");
    browser.wait_for("Save the changes", SOON);
    // The Tab key selects what is in a field, so it is typed over.
    browser.type_into("#port", &databases.other_port.to_string());
    browser.press(Key::Enter);
    browser.wait_for("One command to run", SOON);
    let command = shown(browser, "update-command");
    lab.bastion
        .type_line(&format!("{command} --yes"))
        .expect_code(0);
    browser.wait_until_gone("One command to run", SERVICE_LIMIT);
}

fn deletes_it(browser: &Browser, lab: &Lab) {
    browser.enter("main a[href$='/delete']");
    browser.wait_for("Get the removal command", SOON);
    browser.enter("button[value=command]");
    browser.wait_for("Being removed", SOON);
    let command = shown(browser, "removal-command");
    lab.bastion.type_line(&command).expect_code(0);
    browser.wait_for("Its key is refused", SOON);
}

fn revokes_a_token(browser: &Browser) {
    browser.enter("nav a[href$='/api-tokens']");
    browser.wait_for("API tokens", SOON);
    browser.type_into("#name", "nightly-sync");
    browser.press(Key::Enter);
    browser.wait_for("it is not shown again", SOON);
    const REVOKE: &str = "[aria-label='Revoke nightly-sync']";
    browser.enter(REVOKE);
    let is_gone = format!("return document.querySelector({}) === null", json!(REVOKE));
    wait::until_true(
        "the token to be revoked",
        SOON,
        || browser.text(),
        || browser.run(&is_gone) == true,
    );
    assert!(browser.text().contains("nightly-sync"), "it stays listed");
}

/// A command that the page shows.
fn shown(browser: &Browser, id: &str) -> String {
    let text = format!("return document.getElementById('{id}').textContent");
    let text = browser.run(&text);
    text.as_str().expect("a command").to_owned()
}
