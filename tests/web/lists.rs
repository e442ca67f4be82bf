//! Lists of many data sources, by the API and by pages without JavaScript.

use std::collections::{BTreeMap, BTreeSet};

use holistics_tunnel::protocol::{
    DataSource, DataSourceId, DataSourceState, DatabaseType, Problem, ProblemKind,
};
use reqwest::Method;
use reqwest::blocking::Response;
use reqwest::header::LINK;

use crate::support::lab::Lab;
use crate::support::process::Running;
use crate::support::server::{Operator, Server};
use crate::visitor::Visitor;

/// A thousand data sources, written as an older version wrote them.
const A_THOUSAND: &str = "
    INSERT INTO data_sources (display_name, database_type, host, port, created_at)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
    SELECT 'Customer ' || i, 'mysql', 'db' || i || '.example', 3306, i FROM n";

/// A server that has these rows from before its start.
pub fn server_with(statements: &'static str) -> Server {
    let mut server = Server::start();
    server.stop();
    server.database().execute(statements);
    server.start_again();
    server
}

/// A page of the API's list, and the path of the next one.
#[track_caller]
fn page(operator: &Operator, path: &str) -> (Vec<DataSource>, Option<String>) {
    let response = operator.call_beside(Method::GET, path).send();
    let response = response.expect("an answer");
    let next = response.headers().get(LINK).map(|link| {
        let link = link.to_str().expect("a text");
        let link = link.strip_prefix('<').expect("an address");
        let (address, rest) = link.split_once('>').expect("its end");
        assert_eq!(rest, "; rel=\"next\"");
        address.to_owned()
    });
    let (status, body) = (response.status(), response.text().expect("a body"));
    assert!(status.is_success(), "{path}: {status} {body}");
    (serde_json::from_str(&body).expect("data sources"), next)
}

/// The names of all data sources that are found by this.
#[track_caller]
fn names(operator: &Operator, query: &[(&str, &str)]) -> Vec<String> {
    let found = all(operator, query).into_iter();
    found.map(|source| source.display_name).collect()
}

#[track_caller]
fn all(operator: &Operator, query: &[(&str, &str)]) -> Vec<DataSource> {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    let mut next = Some(format!("/api/v1/data-sources?{query}"));
    let mut found = Vec::new();
    while let Some(path) = next {
        let (sources, following) = page(operator, &path);
        found.extend(sources);
        next = following;
    }
    found
}

#[track_caller]
fn refused(operator: &Operator, query: &str) -> Problem {
    let path = format!("/data-sources?{query}");
    let response = operator.call(Method::GET, &path).send();
    problem(response.expect("an answer"))
}

#[track_caller]
fn problem(response: Response) -> Problem {
    let status = response.status().as_u16();
    let body = response.text().expect("a body");
    let problem: Problem = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
    assert_eq!(problem.status, status);
    problem
}

#[test]
fn a_walk_through_the_api_s_pages_sees_each_data_source_once_while_others_come_and_go() {
    let server = server_with(A_THOUSAND);
    let operator = server.operator();
    let (mut seen, mut removed) = (Vec::new(), BTreeSet::new());
    let mut next = Some("/api/v1/data-sources?limit=90".to_owned());
    while let Some(path) = next {
        let (sources, following) = page(&operator, &path);
        assert!(following.is_none() || sources.len() == 90);
        seen.extend(sources.iter().map(|source| source.id));
        // The last one of this page, from which the next one is found, one before it and one after it.
        if let Some(last) = sources.last().filter(|last| last.id.0 < 990) {
            for id in [last.id.0, last.id.0 - 5, last.id.0 + 5] {
                operator.delete_now(DataSourceId(id));
                removed.insert(id);
            }
        }
        if seen.len() < 1_000 {
            operator.create("Newcomer", 3306);
        }
        next = following;
    }
    let numbers: BTreeSet<i64> = seen.iter().map(|id| id.0).collect();
    assert_eq!(numbers.len(), seen.len(), "one was seen twice");
    let staying = (1..=1_000).filter(|id| !removed.contains(id));
    let missed: Vec<i64> = staying.filter(|id| !numbers.contains(id)).collect();
    assert!(missed.is_empty(), "{missed:?} were there all the while");
    assert!(numbers.last() > Some(&1_000), "newcomers come at the end");
    assert!(seen.is_sorted(), "oldest first");
}

#[test]
fn whoever_asks_for_no_page_gets_a_hundred_and_the_way_to_the_rest() {
    let server = server_with(A_THOUSAND);
    let operator = server.operator();
    let (sources, next) = page(&operator, "/api/v1/data-sources");
    assert_eq!(sources.len(), 100);
    let (following, _) = page(&operator, &next.expect("a next page"));
    assert_eq!(following[0].id, DataSourceId(101));
    let (most, _) = page(&operator, "/api/v1/data-sources?limit=500");
    assert_eq!(most.len(), 500);
    for limit in ["0", "501", "-1", "many"] {
        let problem = refused(&operator, &format!("limit={limit}"));
        assert_eq!(problem.kind, ProblemKind::InvalidRequest, "{limit}");
    }
    let misspelt = refused(&operator, "stat=down");
    assert_eq!(misspelt.kind, ProblemKind::InvalidRequest);
}

#[test]
fn a_cursor_that_was_changed_or_belongs_elsewhere_is_refused() {
    let server = server_with(A_THOUSAND);
    let operator = server.operator();
    let visitor = Visitor::signed_in(&server);
    let (_, next) = page(&operator, "/api/v1/data-sources?limit=1");
    let next = next.expect("a next page");
    let cursor = next.rsplit("cursor=").next().expect("a cursor");
    let other_end = visitor.get("/data-sources").link_to("cursor=");
    let other_end = other_end.rsplit("cursor=").next().expect("a cursor");
    let of_audit = cursor.replace(char::is_alphanumeric, "A");
    let cut = &cursor[1..];
    let longer = format!("{cursor}A");
    for wrong in ["1", "%00", "x y", cut, &longer, &of_audit, other_end] {
        let problem = refused(&operator, &format!("cursor={wrong}"));
        assert_eq!(problem.kind, ProblemKind::InvalidCursor, "{wrong}");
        assert_eq!(problem.status, 400);
    }
    for list in ["/data-sources", "/audit"] {
        let page = visitor.get(&format!("{list}?cursor={longer}"));
        assert_eq!(page.status, 400, "{list}");
        page.expect(&["Begin again without a cursor"]);
    }
}

#[test]
fn a_search_knows_every_script_and_takes_signs_for_themselves() {
    // Some as an older version wrote them, some through the API.
    let server = server_with(
        "INSERT INTO data_sources (display_name, database_type, host, port, created_at) VALUES
             ('Käse KÖLN', 'mysql', 'db.example', 3306, 1), ('ΟΔΟΣ 7', 'mysql', 'db.example', 3306, 1)",
    );
    let operator = server.operator();
    let others = [
        "100% Sales",
        "a_b",
        r"back\slash",
        "O'Neil \"quoted\" --",
        "straße",
    ];
    for name in others {
        operator.create_for(name, "fd00::7", 5432);
    }
    let renamed = operator.create_for("before", "Warehouse.Example", 5432);
    let changed = operator
        .call(Method::PATCH, &format!("/data-sources/{}", renamed.id))
        .json(&serde_json::json!({ "display_name": "ÉTÉ" }))
        .send();
    assert!(changed.expect("an answer").status().is_success());
    for (search, found) in [
        ("köln", "Käse KÖLN"),
        ("ÄSE KÖ", "Käse KÖLN"),
        ("οδος", "ΟΔΟΣ 7"),
        ("STRASSE", "straße"),
        ("été", "ÉTÉ"),
        ("warehouse.EX", "ÉTÉ"),
        ("%", "100% Sales"),
        ("_", "a_b"),
        (r"\", r"back\slash"),
        ("'", "O'Neil \"quoted\" --"),
        ("\" --", "O'Neil \"quoted\" --"),
        ("  o'neil ", "O'Neil \"quoted\" --"),
    ] {
        assert_eq!(names(&operator, &[("search", search)]), [found], "{search}");
    }
    for search in ["before", "a%b", "%%", "nobody", "';"] {
        assert!(
            names(&operator, &[("search", search)]).is_empty(),
            "{search}"
        );
    }
    assert_eq!(names(&operator, &[("search", " ")]).len(), 8);
    assert_eq!(
        names(&operator, &[("search", "FD00::")]).len(),
        others.len()
    );
    let longest = "x".repeat(201);
    assert!(names(&operator, &[("search", "\u{200b}")]).is_empty());
    for wrong in [longest.as_str(), "%00", "a%0Ab"] {
        let problem = refused(&operator, &format!("search={wrong}"));
        assert_eq!(problem.kind, ProblemKind::InvalidRequest, "{wrong}");
    }
}

/// Data sources as far as each can have come, of a lab that has one whose tunnel is up.
fn in_every_state(lab: &Lab) -> Running {
    lab.active_data_source("Up");
    lab.server.database().execute(
        "INSERT INTO keys (id, public_key, created_at) VALUES (99, 'ssh-ed25519 none', 1);
         INSERT INTO data_sources (id, display_name, database_type, host, port, created_at, saved_at, removing_at, removed_at)
         VALUES (901, 'Draft', 'other', 'h', 1, 1, NULL, NULL, NULL), (902, 'Direct draft', 'other', 'h', 1, 1, NULL, NULL, NULL),
             (903, 'Enrolled', 'other', 'h', 1, 1, NULL, NULL, NULL), (904, 'Saved', 'other', 'h', 1, 1, 1, NULL, NULL),
             (905, 'Direct saved', 'other', 'h', 1, 1, 1, NULL, NULL), (906, 'Down', 'other', 'h', 1, 1, 1, NULL, NULL),
             (907, 'Removing draft', 'other', 'h', 1, 1, NULL, 1, NULL), (908, 'Removing', 'other', 'h', 1, 1, 1, 1, NULL),
             (909, 'Removed', 'other', 'h', 1, 1, 1, 1, 1), (910, 'Not enrolled, saved', 'other', 'h', 1, 1, 1, NULL, NULL);
         INSERT INTO tunnels (id, data_source_id, key_id, remote_port, enrolled_with, enrolled_at, service_installed_at, removed_at)
         VALUES (901, 901, NULL, NULL, NULL, NULL, NULL, NULL), (903, 903, 99, 3, x'00', 1, NULL, NULL),
             (904, 904, 99, 4, x'00', 1, NULL, NULL), (906, 906, 99, 6, x'00', 1, 1, NULL),
             (908, 908, 99, 8, x'00', 1, 1, NULL), (909, 909, NULL, 9, x'00', 1, 1, 1),
             (910, 910, NULL, NULL, NULL, NULL, NULL, NULL);",
    );
    let source = lab.data_source("Connected");
    lab.setup_that_waits(&source)
}

#[test]
fn each_state_lists_those_that_show_it_and_all_states_list_them_all() {
    let lab = Lab::new();
    let _waiting = in_every_state(&lab);
    let operator = &lab.operator;
    let mut by_state = BTreeMap::<&str, Vec<String>>::new();
    for source in all(operator, &[]) {
        let names = by_state.entry(source.state.into_str()).or_default();
        names.push(source.display_name);
    }
    assert_eq!(
        by_state.len(),
        DataSourceState::LISTED.len(),
        "{by_state:?}"
    );
    for state in DataSourceState::LISTED.map(|state| state.into_str()) {
        assert_eq!(
            names(operator, &[("state", state)]),
            by_state[state],
            "{state}"
        );
        let both = [("state", state), ("database_type", "other")];
        for source in all(operator, &both) {
            assert_eq!(source.state.into_str(), state);
            assert_eq!(source.database_type, DatabaseType::Other);
        }
    }
    let removed = refused(operator, "state=removed");
    assert_eq!(removed.kind, ProblemKind::InvalidRequest);
    let visitor = Visitor::signed_in(&lab.server);
    let down = visitor.get("/data-sources?state=down&search=&database_type=");
    down.expect(&["1 data source matches", "Down"]);
    assert!(!down.body.contains("Enrolled"), "{}", down.text());
    lab.bastion.service("stop").expect_code(0);
    let visible = "2 data sources match";
    visitor.wait_for(
        "/data-sources?state=down",
        visible,
        crate::support::lab::SERVICE_LIMIT,
    );
    assert_eq!(names(operator, &[("state", "down")]), ["Up", "Down"]);
}

#[test]
fn the_list_is_searched_and_read_page_by_page_without_javascript() {
    let server = server_with(A_THOUSAND);
    let visitor = Visitor::signed_in(&server);
    let first = visitor.get("/data-sources");
    first.expect(&[
        "1,000 data sources, newest first",
        "Customer 1000",
        "Customer 951",
    ]);
    assert!(!first.body.contains("Customer 950<"), "more than a page");
    assert!(!first.body.contains(">Newer<"), "nothing is newer");
    let second = visitor.get(&first.link_to("cursor="));
    second.expect(&["Customer 950", "Customer 901", "Newer", "Older"]);
    let newer = second.link_of("newer");
    visitor
        .get(&newer)
        .expect(&["Customer 1000", "Customer 951"]);
    let mut last = second;
    for _ in 0..18 {
        last = visitor.get(&last.link_of("older"));
    }
    last.expect(&["Customer 50", "Customer 1"]);
    assert!(!last.body.contains(">Older<"), "nothing is older");

    let found = visitor.get("/data-sources?search=customer+99&state=&database_type=mysql");
    found.expect(&[
        "11 data sources match",
        "Customer 990",
        "Customer 99",
        "Clear the search",
    ]);
    assert!(
        found.body.contains("value=\"customer 99\""),
        "what was typed is lost"
    );
    assert!(found.body.contains("<option value=\"mysql\" selected>"));
    let many = visitor.get("/data-sources?search=customer");
    many.expect(&["1,000 data sources match"]);
    let next = many.link_of("older");
    assert!(
        next.contains("search=customer&"),
        "the search is lost: {next}"
    );
    visitor.get(&next).expect(&["Customer 950"]);

    let hostile = "/data-sources?search=%22%3E%3Cscript%3E";
    let none = visitor.get(hostile);
    none.expect(&["Nothing matches", "Clear the search"]);
    assert!(!none.body.contains("\"><script>"), "{}", none.body);
    visitor
        .get(&none.link_of("clear"))
        .expect(&["1,000 data sources"]);
    visitor
        .get("/data-sources?state=no-such-state")
        .expect(&["1,000 data sources"]);
}

#[test]
fn more_matches_than_are_counted_are_told_as_more() {
    let server = server_with(A_THOUSAND);
    let visitor = Visitor::signed_in(&server);
    server.operator().create("Customer 1001", 3306);
    let page = visitor.get("/data-sources?search=customer");
    page.expect(&["More than 1,000 data sources match"]);
    visitor.get("/data-sources").expect(&["1,001 data sources"]);
}

#[test]
fn the_audit_log_is_read_to_its_oldest_entry() {
    let server = server_with(
        "INSERT INTO audit_log (at, actor, action, subject)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 450)
         SELECT unixepoch() * 1000, 'ann', 'deed ' || i || ';', 'data source 1' FROM n",
    );
    let visitor = Visitor::signed_in(&server);
    let mut page = visitor.get("/audit");
    let mut deeds = BTreeSet::new();
    loop {
        for part in page.body.split("deed ").skip(1) {
            let number = part.split(';').next().expect("a number").to_owned();
            assert!(deeds.insert(number), "one stands on two pages");
        }
        if !page.body.contains(">Older<") {
            break;
        }
        page = visitor.get(&page.link_of("older"));
    }
    assert_eq!(deeds.len(), 450);
    page.expect(&["Newer"]);
}

#[test]
fn a_data_source_s_events_are_read_to_the_oldest() {
    let mut server = Server::start();
    let source = server.operator().create("Shop", 3306);
    server.stop();
    server.database().execute(
        "INSERT INTO events (data_source_id, at, kind, actor)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
         SELECT 1, i, 'up', 'of turn ' || i || ';' FROM n",
    );
    server.start_again();
    let visitor = Visitor::signed_in(&server);
    let own = visitor.get(&format!("/data-sources/{}", source.id));
    let mut page = visitor.get(&own.link_to(&format!("/data-sources/{}/events", source.id)));
    let mut turns = BTreeSet::new();
    loop {
        let parts = page.body.split("of turn ").skip(1);
        turns.extend(parts.map(|part| part.split(';').next().expect("a number").to_owned()));
        if !page.body.contains(">Older<") {
            break;
        }
        page = visitor.get(&page.link_of("older"));
    }
    assert_eq!(turns.len(), 250);
    page.expect(&["Created", "Shop"]);
    assert_eq!(visitor.get("/data-sources/4711/events").status, 404);
}

#[test]
fn among_a_hundred_thousand_data_sources_a_page_stays_a_page() {
    let server = server_with(
        "INSERT INTO data_sources (display_name, database_type, host, port, created_at, saved_at)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
         SELECT 'Customer ' || i, 'mysql', 'db' || i || '.example', 3306, i, 1 FROM n;
         INSERT INTO keys SELECT id, 'ssh-ed25519 ' || id, 1 FROM data_sources WHERE id <= 60000;
         INSERT INTO tunnels (data_source_id, key_id, remote_port, enrolled_with, enrolled_at, service_installed_at)
         SELECT id, id, id, x'00', 1, 1 FROM data_sources WHERE id <= 60000",
    );
    let operator = server.operator();
    let visitor = Visitor::signed_in(&server);
    let before = server.memory();
    let deep = page(&operator, "/api/v1/data-sources?limit=500").1;
    let largest = 500 * 1_000;
    for query in [
        "limit=500",
        deep.expect("a next page")
            .split_once('?')
            .expect("a query")
            .1,
        "search=customer+99999",
        "search=nobody",
        "state=down",
        "state=active",
        "state=removing",
        "database_type=other",
    ] {
        let api = operator
            .call(Method::GET, &format!("/data-sources?{query}"))
            .send();
        let api = api.expect("an answer").text().expect("a body");
        assert!(api.len() < largest, "{query}: {} bytes", api.len());
    }
    for path in [
        "/data-sources",
        "/data-sources?state=down",
        "/data-sources?search=nobody",
    ] {
        let page = visitor.get(path);
        assert_eq!(page.status, 200);
        assert!(
            page.body.len() < 100_000,
            "{path}: {} bytes",
            page.body.len()
        );
    }
    visitor
        .get("/data-sources")
        .expect(&["100,000 data sources"]);
    let more = server.memory().saturating_sub(before);
    assert!(more < 32 * 1024, "it took {more} KiB more");
}
