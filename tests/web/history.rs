//! How a tunnel did on its last days: on its page, in the list, and in the API.

use std::time::{Duration, Instant, SystemTime};

use holistics_tunnel::protocol::{DataSource, DataSourceId, DataSourceState};
use reqwest::Method;
use serde_json::{Value, json};

use crate::browser::{Browser, SOON};
use crate::support::lab::{Lab, SERVICE_LIMIT, tunnel_of};
use crate::support::server::{Operator, Server};
use crate::support::wait;
use crate::visitor::{Page, Visitor, login_link};

const DAY: u64 = 86_400;

fn history(operator: &Operator, source: DataSourceId) -> Value {
    let path = format!("/data-sources/{source}/history");
    let answer = operator.call(Method::GET, &path).send();
    let answer = answer.expect("the server answers");
    assert_eq!(answer.status(), 200);
    answer.json().expect("JSON")
}

/// The same as the API and the page have it, of one moment.
fn both(server: &Server, visitor: &Visitor, source: DataSourceId) -> (Value, Page) {
    let operator = server.operator();
    loop {
        let before = history(&operator, source);
        let page = visitor.get(&format!("/data-sources/{source}"));
        if history(&operator, source) == before {
            return (before, page);
        }
    }
}

fn execute(server: &Server, sql: &str) {
    server.database().execute(sql);
}

fn number(of: &Value, field: &str) -> i64 {
    let number = of[field].as_i64();
    number.unwrap_or_else(|| panic!("{field} in {of}"))
}

/// A share as people read it.
fn percent(share: &Value) -> String {
    match share.as_f64() {
        Some(1.0) => "100 %".to_owned(),
        Some(share) => format!("{:.2} %", share * 100.0),
        None => "not known".to_owned(),
    }
}

fn today() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("after 1970").as_secs() / DAY
}

/// The drawings of a page, each as a document of its own.
fn drawings(page: &Page) -> Vec<String> {
    let parts = page.body.split("<svg ").skip(1);
    parts
        .map(|part| {
            let inner = part.split("</svg>").next().expect("its end");
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {inner}</svg>")
        })
        .collect()
}

#[test]
fn what_a_tunnel_did_stands_on_its_page_as_in_the_api_and_a_stopped_server_is_no_outage() {
    let mut lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let mut client = lab.login_through(&source).expect("a login");
    client.number("SELECT count(*) FROM orders").expect("rows");
    // So long it is up for certain, and then down.
    std::thread::sleep(Duration::from_millis(1_100));
    drop(client);
    lab.bastion.service("stop").expect_code(0);
    let down = DataSourceState::Down;
    lab.operator.wait_for_state(source.id, down, SERVICE_LIMIT);
    std::thread::sleep(Duration::from_millis(1_100));
    lab.bastion.service("start").expect_code(0);
    let active = DataSourceState::Active;
    lab.operator
        .wait_for_state(source.id, active, SERVICE_LIMIT);
    lab.server.stop().expect_code(0);

    // Nobody knows what the tunnel did meanwhile.
    std::thread::sleep(Duration::from_secs(3));
    let started = Instant::now();
    lab.server.start_again();
    lab.operator = lab.server.operator();
    let before = history(&lab.operator, source.id)["total"].clone();
    assert!(number(&before, "up_seconds") >= 1, "{before}");
    let was_down = number(&before, "known_seconds") - number(&before, "up_seconds");
    assert!(was_down >= 1, "{before}");
    assert!(number(&before, "connections") >= 1, "{before}");
    for direction in ["bytes_from_bastion", "bytes_to_bastion"] {
        assert!(number(&before, direction) > 100, "{before}");
    }
    lab.operator
        .wait_for_state(source.id, active, SERVICE_LIMIT);
    lab.server.stop().expect_code(0);
    let ran = i64::try_from(started.elapsed().as_secs()).expect("seconds") + 1;
    lab.server.start_again();
    let visitor = Visitor::signed_in(&lab.server);
    let (shown, page) = both(&lab.server, &visitor, source.id);
    let more = number(&shown["total"], "known_seconds") - number(&before, "known_seconds");
    assert!((0..=ran).contains(&more), "{more} s more in {ran} s");
    assert!(!shown["days"][29]["down"][0].is_null(), "{shown}");
    assert_agree(&shown, &page);
    visitor
        .get("/data-sources")
        .expect(&[&percent(&shown["total"]["up_share"])]);

    lab.operator = lab.server.operator();
    lab.operator.delete_now(source.id);
    let page = visitor.get(&format!("/data-sources/{}", source.id));
    assert!(!page.body.contains("The last 30 days"), "it is removed");
}

#[test]
fn a_killed_server_has_kept_what_it_had_shown_and_the_time_of_its_absence_is_not_known() {
    let mut lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let known = |lab: &Lab| number(&history(&lab.operator, source.id)["total"], "known_seconds");
    let evidence = || format!("{} s are known", known(&lab));
    wait::until_true("a minute is written", SOON * 3, evidence, || {
        known(&lab) > 0
    });
    let shown = known(&lab);
    lab.server.kill();
    std::thread::sleep(Duration::from_secs(3));
    let started = Instant::now();
    lab.server.start_again();
    lab.operator = lab.server.operator();
    lab.server.stop().expect_code(0);
    lab.server.start_again();
    let found = known(&lab);
    let ran = i64::try_from(started.elapsed().as_secs()).expect("seconds") + 1;
    assert!(
        (shown..=shown + ran).contains(&found),
        "{found} s after {shown} s"
    );
}

/// The same figures, in the table and in what the bar says to who cannot see it.
#[track_caller]
fn assert_agree(shown: &Value, page: &Page) {
    let share = percent(&shown["total"]["up_share"]);
    let title = page.element("bar-title");
    assert!(title.contains(&format!("Up for {share}")), "{title}");
    page.expect(&["The last 30 days", "kept for 35 days", &share]);
    let days = shown["days"].as_array().expect("days");
    assert_eq!(days.len(), 30);
    let text = page.text();
    let words = page.element("bar-words");
    for day in days {
        let date = day["date"].as_str().expect("a date");
        let row = text.rsplit_once(&format!("{date}\n")).expect("its row").1;
        let mut cells = row.lines();
        let up = cells.next().expect("a cell");
        if day["up_share"].is_null() {
            assert!(["not yet", "not known"].contains(&up), "{date}: {up}");
        } else {
            assert_eq!(up, percent(&day["up_share"]), "{date}");
        }
        let is_said = words.contains(&format!("{date}: down for"));
        let is_down = !day["down"].as_array().expect("times").is_empty();
        assert_eq!(is_said, is_down, "{date}: {words}");
    }
    let connections = page.element("connections-words").replace(',', "");
    let in_all = format!("{} in all", number(&shown["total"], "connections"));
    assert!(connections.starts_with(&in_all), "{connections}");
}

#[test]
fn a_direct_connection_has_no_history_and_a_tunnel_that_waits_an_empty_one() {
    let server = Server::start();
    let new = json!({ "display_name": "Warehouse", "database_type": "postgresql",
        "connection": "direct", "host": "db.example", "port": 5432 });
    let operator = server.operator();
    let created = operator
        .call(Method::POST, "/data-sources")
        .json(&new)
        .send();
    let created: Value = created.and_then(|answer| answer.json()).expect("JSON");
    let path = format!("/data-sources/{}/history", created["id"]);
    let answer = operator.call(Method::GET, &path).send().expect("an answer");
    assert_eq!(answer.status(), 409);
    let missing = operator
        .call(Method::GET, "/data-sources/99/history")
        .send();
    assert_eq!(missing.expect("an answer").status(), 404);
    let waiting = operator.create("Shop", 5432);
    let shown = history(&operator, waiting.id);
    assert_eq!(shown["total"]["known_seconds"], 0);
    assert_eq!(shown["total"]["up_share"], Value::Null);
    let visitor = Visitor::signed_in(&server);
    for id in [created["id"].to_string(), waiting.id.to_string()] {
        let page = visitor.get(&format!("/data-sources/{id}"));
        assert!(!page.body.contains("The last 30 days"), "there is none yet");
    }
}

/// A server with data sources that have long histories: of each, forty days ago to yesterday are known, up to
/// the fifth and the sixth day ago, when the server did not run; of the last one, only the last three days are.
fn with_long_histories(server: &mut Server, sources: usize) -> Vec<DataSource> {
    let operator = server.operator();
    let sources: Vec<_> = (1..=sources)
        .map(|number| operator.create(&format!("Shop {number}"), 5432))
        .collect();
    server.stop().expect_code(0);
    let today = today();
    let mut sql = "UPDATE tunnels SET last_seen_at = 1;".to_owned();
    for (at, source) in sources.iter().enumerate() {
        let longest = if at + 1 == sources.len() { 3 } else { 40 };
        let days = (1..=longest).filter(|ago| ![5, 6].contains(ago));
        for ago in days {
            sql += &day_of(source, today - ago, ago);
        }
    }
    execute(server, &sql);
    server.start_again();
    sources
}

/// A day that was up but for half an hour on the third day ago, for one slot in each hour on the eighth, and
/// for all of the tenth.
fn day_of(source: &DataSource, day: u64, ago: u64) -> String {
    let down: Vec<usize> = match ago {
        3 => (24..30).collect(),
        8 => (0..288).step_by(12).collect(),
        10 => (0..288).collect(),
        _ => Vec::new(),
    };
    let bits = |slots: &dyn Fn(usize) -> bool| -> String {
        let byte = |at: usize| {
            (0..8)
                .filter(move |bit| slots(at * 8 + bit))
                .map(|bit| 1_u8 << bit)
        };
        (0..36)
            .map(|at| format!("{:02x}", byte(at).sum::<u8>()))
            .collect()
    };
    format!(
        "INSERT INTO tunnel_days VALUES ({day}, {}, 86400000, {}, {}, {}, 1000, x'{}', x'{}');",
        tunnel_of(source).id,
        86_400_000 - down.len() * 300_000,
        ago * 7 % 11 * 120,
        ago * 31 % 17 * 40_000_000,
        bits(&|slot| !down.contains(&slot)),
        bits(&|slot| down.contains(&slot)),
    )
}

#[test]
fn a_month_is_shown_as_it_was_and_what_nobody_knows_is_not_called_down() {
    let mut server = Server::start();
    let sources = with_long_histories(&mut server, 2);
    let visitor = Visitor::signed_in(&server);
    let (shown, page) = both(&server, &visitor, sources[0].id);
    assert_agree(&shown, &page);
    let ago = |ago: usize| &shown["days"][29 - ago];
    assert_eq!(number(ago(3), "up_seconds"), 84_600);
    let half_hour = &ago(3)["down"];
    assert_eq!(half_hour.as_array().map(Vec::len), Some(1), "{half_hour}");
    assert!(
        half_hour[0]["from"]
            .as_str()
            .is_some_and(|at| at.ends_with("T02:00:00Z"))
    );
    assert!(
        half_hour[0]["until"]
            .as_str()
            .is_some_and(|at| at.ends_with("T02:30:00Z"))
    );
    page.expect(&["02:00–02:30", "30 min", "and 21 more", "1 d", "not known"]);
    for away in [5, 6] {
        assert_eq!(number(ago(away), "known_seconds"), 0);
        assert_eq!(ago(away)["down"], json!([]), "nobody knows");
    }
    assert_eq!(ago(10)["up_share"], 0.0);
    assert_eq!(ago(12)["up_share"], 1.0);
    for class in ["is-up", "is-down", "is-unknown"] {
        assert!(page.body.contains(class), "{class}");
    }
    assert!(page.body.len() < 60_000, "{} bytes", page.body.len());

    let (shown, page) = both(&server, &visitor, sources[1].id);
    assert_agree(&shown, &page);
    page.expect(&["not yet", "before the first connection"]);
    // All but today and the three days of which something is known.
    assert_eq!(page.text().matches("\nnot yet\n").count(), 26);
}

#[test]
fn the_list_reads_the_histories_of_all_its_rows_at_once() {
    let mut server = Server::start_talkative();
    with_long_histories(&mut server, 25);
    let visitor = Visitor::signed_in(&server);
    let reads = || {
        server
            .log()
            .matches("FROM tunnel_days WHERE day IN")
            .count()
    };
    let before = reads();
    let page = visitor.get("/data-sources");
    assert_eq!(page.body.matches("class=\"row-bar\"").count(), 25);
    assert_eq!(reads() - before, 1);
    page.expect(&["Up for 9"]);
}

#[test]
fn the_drawings_are_good_svg_and_can_be_seen_in_light_and_dark() {
    let mut server = Server::start();
    let sources = with_long_histories(&mut server, 6);
    let visitor = Visitor::signed_in(&server);
    let browser = Browser::start("history");
    browser.go(&login_link(&server));
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    let pages = [
        ("01-month", format!("/data-sources/{}", sources[0].id)),
        ("02-young", format!("/data-sources/{}", sources[5].id)),
        ("03-list", "/data-sources".to_owned()),
    ];
    for (name, path) in pages {
        let drawings = drawings(&visitor.get(&path));
        assert!(drawings.len() >= 3, "{path}");
        for drawing in drawings {
            let found = browser.run(&format!(
                "const read = new DOMParser().parseFromString({}, 'image/svg+xml');
                 return read.querySelector('parsererror')?.textContent ?? read.documentElement.localName",
                json!(drawing)
            ));
            assert_eq!(found, "svg", "{drawing}");
        }
        browser.go(&format!("{}{path}", server.url));
        browser.wait_for("Shop", SOON);
        browser.run("document.querySelector('#day-figures')?.setAttribute('open', '')");
        browser.look(name);
    }
}
