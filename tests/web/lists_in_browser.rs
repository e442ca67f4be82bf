//! The list of many data sources in Chromium: by keyboard, on a phone, and while things happen.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;
use thirtyfour::Key;

use crate::browser::{Browser, SOON};
use crate::lists::server_with;
use crate::support::server::{Operator, Server};
use crate::visitor::{login_link, login_link_of};

const SOME: &str = "
    INSERT INTO data_sources (display_name, database_type, host, port, created_at, saved_at)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)
    SELECT 'Customer ' || i, CASE WHEN i % 3 THEN 'mysql' ELSE 'postgresql' END,
        'db' || i || '.shop.example', 3306, i, CASE WHEN i % 7 THEN 1 END FROM n";

fn signed_in(server: &Server, name: &str) -> Browser {
    let browser = Browser::start(name);
    browser.go(&login_link(server));
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    browser
}

fn rename(operator: &Operator, id: u32, name: &str) {
    let call = operator.call(Method::PATCH, &format!("/data-sources/{id}"));
    let renamed = call.json(&json!({ "display_name": name })).send();
    assert!(renamed.expect("an answer").status().is_success());
}

#[test]
fn the_list_is_searched_and_turned_by_keyboard_on_a_phone() {
    let server = server_with(SOME);
    let browser = signed_in(&server, "list");
    browser.be_a_phone();
    browser.go(&format!("{}/data-sources", server.url));
    browser.wait_for("120 data sources, newest first", SOON);
    browser.tab_to("#older");
    browser.press(Key::Enter);
    browser.wait_for("Customer 70", SOON);
    browser.tab_to("#newer");
    browser.press(Key::Enter);
    browser.wait_for("Customer 120", SOON);
    browser.tab_to("#search");
    browser.press("DB11");
    browser.press(Key::Enter);
    browser.wait_for("11 data sources match", SOON);
    let typed = browser.run("return document.getElementById('search').value");
    assert_eq!(typed, "DB11");
    browser.look("01-found");
    browser.tab_to("#state");
    browser.press("Dow");
    browser.press(Key::Enter);
    browser.tab_to(".filters button");
    browser.press(Key::Enter);
    browser.wait_for("Nothing matches", SOON);
    browser.look("02-nothing");
    browser.tab_to("#clear");
    browser.press(Key::Enter);
    browser.wait_for("120 data sources", SOON);
    browser.look("03-first-page");
    browser.go(&format!("{}/audit", server.url));
    browser.look("04-audit");
    browser.go(&format!("{}/data-sources/1/events", server.url));
    browser.look("05-events");
    login_link_of(&server, "bea");
    browser.go(&format!("{}/operators", server.url));
    browser.wait_for("bea", SOON);
    browser.look("06-operators");
}

#[test]
fn what_happens_shows_on_the_page_that_is_looked_at_and_leaves_the_keyboard_where_it_is() {
    let server = server_with(SOME);
    let operator = server.operator();
    let browser = signed_in(&server, "list-live");
    browser.go(&format!(
        "{}/data-sources?search=customer&state=saved",
        server.url
    ));
    browser.wait_for("data sources match", SOON);
    browser.tab_to("#older");
    browser.press(Key::Enter);
    browser.wait_for("Customer 60", SOON);
    browser.run("window.neverReloaded = true");
    browser.tab_to("#source-60");
    rename(&operator, 60, "Customer sixty");
    browser.wait_for("Customer sixty", SOON);
    assert_eq!(browser.run("return window.neverReloaded"), true);
    let has_it = browser.run("return document.activeElement.id");
    assert_eq!(has_it, "source-60", "the keyboard is elsewhere");
    let text = browser.text();
    assert!(
        text.contains("Newer") && text.contains("Customer 59"),
        "{text}"
    );
    assert!(!text.contains("Customer 120"), "another page: {text}");
    // It leaves the search.
    rename(&operator, 60, "Elsewhere");
    browser.wait_until_gone("Customer sixty", SOON);
    assert!(!browser.text().contains("Elsewhere"));
}

#[test]
fn a_storm_of_news_from_elsewhere_makes_a_list_ask_seldom() {
    let server = server_with(SOME);
    let operator = server.operator();
    let browser = signed_in(&server, "list-storm");
    browser.go(&format!("{}/data-sources", server.url));
    browser.wait_for("120 data sources", SOON);
    let asked = || {
        let fetches = browser.run(
            "return performance.getEntriesByType('resource').filter(entry => entry.initiatorType == 'fetch').length",
        );
        fetches.as_u64().expect("a number")
    };
    let (before, began) = (asked(), Instant::now());
    for round in 0..200 {
        rename(&operator, 1 + round % 50, &format!("Storm {round}"));
    }
    // The last one is on this page: when it shows, what came before has come, too.
    rename(&operator, 120, "The end");
    browser.wait_for("The end", SOON);
    let seconds = began.elapsed().as_secs();
    let more = asked() - before;
    // One for what the stream's beginning may have missed, one at the end, and one for every five seconds.
    assert!(more <= 3 + seconds / 5, "{more} times in {seconds} s");
}
