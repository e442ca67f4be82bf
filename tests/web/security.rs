//! What a stranger, another site and an unlucky value meet.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use crate::support::server::Server;
use crate::visitor::{Form, Page, Visitor, login_link};

/// Creates a data source and returns the path of its page.
fn create(visitor: &Visitor, name: &str) -> Page {
    let form = visitor.get("/data-sources/new").form("/data-sources");
    let fields = [
        ("display_name", name),
        ("database_type", "postgresql"),
        ("host", "db.internal"),
        ("port", ""),
    ];
    let page = visitor.submit(&form, &fields);
    assert_eq!(page.status, 200, "{}", page.text());
    page
}

/// Every page and form that somebody who is signed in can get to.
fn everything(visitor: &Visitor) -> (BTreeSet<String>, Vec<Form>) {
    let mut pages = BTreeSet::new();
    let mut forms: Vec<Form> = Vec::new();
    let mut ahead = vec!["/".to_owned(), "/data-sources".to_owned()];
    while let Some(path) = ahead.pop() {
        if !pages.insert(path.clone()) {
            continue;
        }
        let page = visitor.get(&path);
        // What programs read is no page.
        let links = page.links().into_iter();
        ahead.extend(links.filter(|link| !link.starts_with("/api/v1/")));
        for form in page.forms() {
            if forms.iter().all(|known| known.action != form.action) {
                forms.push(form);
            }
        }
    }
    (pages, forms)
}

#[test]
fn a_stranger_reaches_no_page_and_no_form() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    create(&visitor, "Sales");
    let (pages, forms) = everything(&visitor);
    let actions: Vec<_> = forms.iter().map(|form| form.action.as_str()).collect();
    for path in [
        "/data-sources/1/edit",
        "/data-sources/1/delete",
        "/api-tokens",
        "/operators",
        "/audit",
        "/account",
    ] {
        assert!(pages.contains(path), "{path} is not linked: {pages:?}");
    }
    for action in [
        "/data-sources",
        "/data-sources/1/command",
        "/api-tokens",
        "/api-tokens/revoke",
        "/sign-out",
    ] {
        assert!(
            actions.contains(&action),
            "{action} is no form: {actions:?}"
        );
    }
    let stranger = Visitor::new(&server);
    for path in pages.iter().filter(|path| !path.starts_with("/assets/")) {
        let page = stranger.get(path);
        assert_eq!(page.status, 303, "{path}");
        let to = page.headers["location"].to_str().unwrap();
        assert!(to.starts_with("/sign-in"), "{path} leads to {to}");
        assert!(!page.body.contains("Sales"), "{path}");
    }
    let token = stranger.get("/sign-in").form("/sign-in").token();
    for form in &forms {
        for form in [form.with_token(Some(&token)), form.clone()] {
            let page = stranger.post(&form, &[("how", "now"), ("name", "operator")], &[]);
            assert!(
                matches!(page.status, 303 | 403),
                "{}: {}",
                form.action,
                page.status
            );
            assert!(!page.body.contains("Sales"), "{}", form.action);
        }
    }
    let events = stranger
        .with_cookies(stranger.request(reqwest::Method::GET, "/api/v1/data-sources/1/events"));
    assert_eq!(events.status(), 401);
    visitor.get("/data-sources").expect(&["Sales"]);
}

#[test]
fn a_form_from_another_site_changes_nothing() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    create(&visitor, "Sales");
    let form = visitor.get("/data-sources/1/edit").form("/edit");
    let fields = [
        ("display_name", "Stolen"),
        ("host", "evil.example"),
        ("port", "1"),
    ];
    let another = Visitor::signed_in(&server)
        .get("/account")
        .form("/account")
        .token();
    for wrong in [None, Some(""), Some("AAAA"), Some(another.as_str())] {
        let page = visitor.post(&form.with_token(wrong), &fields, &[]);
        assert_eq!(page.status, 403, "with the token {wrong:?}");
        page.expect(&["nothing was changed"]);
    }
    for origin in ["https://evil.example", "null"] {
        let page = visitor.post(&form, &fields, &[("origin", origin)]);
        assert_eq!(page.status, 403, "from {origin}");
    }
    visitor
        .get("/data-sources/1")
        .expect(&["Sales", "db.internal:5432"]);
    let page = visitor.post(&form, &fields, &[("origin", &visitor.url)]);
    assert_eq!(page.status, 303, "the page's own form");
    visitor.get("/data-sources/1").expect(&["Stolen"]);
}

#[test]
fn the_sessions_cookie_opens_the_api_and_changes_need_the_form_token() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    create(&visitor, "Sales");
    let list = visitor.with_cookies(visitor.request(reqwest::Method::GET, "/api/v1/data-sources"));
    assert_eq!(list.status(), 200);
    assert!(list.text().unwrap().contains("Sales"));
    let delete = || visitor.request(reqwest::Method::DELETE, "/api/v1/data-sources/1?force=true");
    assert_eq!(visitor.with_cookies(delete()).status(), 403);
    let token = visitor.get("/account").form("/account").token();
    let elsewhere = delete()
        .header("x-csrf-token", &token)
        .header("origin", "https://evil.example");
    assert_eq!(visitor.with_cookies(elsewhere).status(), 403);
    let ours = delete().header("x-csrf-token", &token);
    assert_eq!(visitor.with_cookies(ours).status(), 204);
}

#[test]
fn every_page_forbids_what_it_does_not_need() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    create(&visitor, "Sales");
    let (mut pages, _) = everything(&visitor);
    pages.extend([
        "/sign-in".to_owned(),
        "/login/htl_none".to_owned(),
        "/data-sources/99".to_owned(),
    ]);
    for path in &pages {
        let page = visitor.get(path);
        let header = |name: &str| {
            let value = page.headers.get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        let cache = header("cache-control");
        if path.starts_with("/assets/") {
            assert!(cache.contains("immutable"), "{path}: {cache}");
        } else {
            assert_eq!(cache, "no-store", "{path}");
        }
        for inline in ["<style", " style=", " onclick=", "<script>"] {
            assert!(
                path.starts_with("/assets/") || !page.body.contains(inline),
                "{path}: {inline}"
            );
        }
    }
    let cookies = visitor.cookies.borrow();
    assert!(cookies.contains_key("holistics-tunnel"), "{cookies:?}");
}

#[test]
fn the_cookie_is_out_of_scripts_reach_and_bound_to_https_where_that_is_served() {
    let server = Server::start_with(10, &["--public-url", "https://tunnel.example.com"]);
    let visitor = Visitor::new(&server);
    let link = login_link(&server);
    let path = link
        .strip_prefix("https://tunnel.example.com")
        .expect("the public URL");
    // The proxy in front would speak https; here the server itself is asked.
    let web = server.log();
    let web = web
        .lines()
        .find_map(|line| line.strip_prefix("web "))
        .expect("its address")
        .trim();
    let page = visitor.get(&format!("{web}{path}"));
    let cookie = page.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    for part in ["; Path=/;", "; HttpOnly;", "; SameSite=Lax", "; Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(page.headers.contains_key("strict-transport-security"));
}

#[test]
fn markup_in_a_name_is_shown_and_not_run() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    let name = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> &amp;";
    let page = create(&visitor, name);
    let (pages, _) = everything(&visitor);
    for path in pages.iter().filter(|path| !path.starts_with("/assets/")) {
        let body = visitor.get(path).body;
        assert!(!body.contains("<script>alert"), "{path}:\n{body}");
        assert!(!body.contains("<img src=x"), "{path}:\n{body}");
    }
    page.expect(&[name]);
    visitor.get("/data-sources").expect(&[name]);
}

#[test]
fn guessing_a_password_is_stopped_and_the_link_still_works() {
    let server = Server::start();
    let visitor = Visitor::new(&server);
    let form = visitor.get("/sign-in").form("/sign-in");
    let guess = || {
        visitor.post(
            &form,
            &[("name", "admin"), ("password", "a guess of many")],
            &[],
        )
    };
    for number in 1..=10 {
        assert_eq!(guess().status, 401, "guess {number}");
    }
    let refused = guess();
    assert_eq!(refused.status, 429);
    assert!(refused.headers.contains_key("retry-after"));
    refused.expect(&["Too many attempts"]);
    Visitor::signed_in(&server)
        .get("/data-sources")
        .expect(&["No data source yet"]);
}

#[test]
fn a_link_signs_in_once() {
    let server = Server::start();
    let link = &login_link(&server);
    let visitor = Visitor::new(&server);
    // Looking does not use it up.
    for _ in 0..2 {
        visitor.get(link).expect(&["signs you in once"]);
    }
    let form = visitor.get(link).form("/login/");
    visitor.submit(&form, &[]).expect(&["Set a password"]);
    let late = Visitor::new(&server);
    let page = late.get(link);
    assert_eq!(page.status, 410);
    page.expect(&["does not work any more", "login-link"]);
    let token = late.get("/sign-in").form("/sign-in").token();
    assert_eq!(
        late.post(&form.with_token(Some(&token)), &[], &[]).status,
        410
    );
}

#[test]
fn a_session_ends_when_it_is_not_used_and_at_its_latest() {
    let server = Server::start_with(10, &["--session-idle", "3s", "--session-lifetime", "6s"]);
    let used = Visitor::signed_in(&server);
    let idle = Visitor::signed_in(&server);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(used.get("/data-sources").status, 200, "it is in use");
    }
    assert_eq!(idle.get("/data-sources").status, 303, "it was idle");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(used.get("/data-sources").status, 303, "its time is over");
}

#[test]
fn an_api_token_is_shown_once_and_works_until_it_is_revoked() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    let page = visitor.get("/api-tokens");
    let made = visitor.submit(&page.form("/api-tokens"), &[("name", "ci")]);
    let token = made.element("token");
    assert!(token.starts_with("hto_"), "{token}");
    let call = || {
        let program = Visitor::new(&server);
        let request = program.request(reqwest::Method::GET, "/api/v1/data-sources");
        program.with_cookies(request.bearer_auth(&token)).status()
    };
    assert_eq!(call(), 200);
    let page = visitor.get("/api-tokens");
    assert!(!page.body.contains(&token), "it is shown again");
    let again = visitor.submit(&page.form("/api-tokens"), &[("name", "ci")]);
    assert_eq!(again.status, 422);
    visitor
        .submit(&page.form("/revoke"), &[("name", "ci")])
        .expect(&["revoked"]);
    assert_eq!(call(), 401);
    let audit = visitor.get("/audit");
    audit.expect(&[
        "API token made",
        "API token revoked",
        "signed in",
        "by link",
    ]);
    assert!(!audit.body.contains(&token), "a secret is in the audit log");
}

#[test]
fn a_setup_command_is_shown_again_until_it_expires_and_is_then_replaced() {
    let server = Server::start_with(10, &["--enrollment-ttl", "2s"]);
    let visitor = Visitor::signed_in(&server);
    let page = create(&visitor, "Sales");
    let command = page.element("setup-command");
    assert_eq!(visitor.get(&page.path).element("setup-command"), command);
    let page = visitor.wait_for(&page.path, "command expired", Duration::from_secs(10));
    assert!(
        !page.body.contains("setup-command"),
        "an expired command is shown"
    );
    let page = visitor.submit(&page.form("/command"), &[]);
    assert_ne!(page.element("setup-command"), command);
}

#[test]
fn every_change_arrives_as_an_event_and_a_reader_that_was_cut_off_gets_what_it_missed() {
    let server = Server::start();
    let visitor = Visitor::signed_in(&server);
    create(&visitor, "Sales");
    let listen = |last: Option<&str>| {
        let mut request = visitor.request(reqwest::Method::GET, "/api/v1/data-sources/1/events");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = visitor.with_cookies(request);
        assert_eq!(response.status(), 200);
        BufReader::new(response)
            .lines()
            .map(|line| line.expect("a line of the stream"))
    };
    let mut lines = listen(None);
    let mut next = |what: &str| {
        lines
            .find(|line| line.contains(what))
            .expect("the stream goes on")
    };
    next("\"display_name\":\"Sales\"");
    let form = visitor.get("/data-sources/1/edit").form("/edit");
    visitor.submit(
        &form,
        &[("display_name", "Billing"), ("host", "db"), ("port", "1")],
    );
    next("event: event");
    let changed = next("id: ");
    next("event: state");
    next("\"display_name\":\"Billing\"");
    visitor.submit(
        &form,
        &[("display_name", "Shop"), ("host", "db"), ("port", "1")],
    );
    let mut missed = listen(changed.strip_prefix("id: "));
    let event = missed
        .find(|line| line.starts_with("data: "))
        .expect("an event");
    assert!(event.contains("\"kind\":\"changed\""), "{event}");
}
