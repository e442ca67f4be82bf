//! Nobody reaches what is not theirs: every call of the description and every page, with everything
//! that is not meant for it.

use std::collections::{BTreeMap, BTreeSet};

use holistics_tunnel::server::http::api::openapi;
use holistics_tunnel::server::http::web;
use reqwest::Method;
use serde_json::Value;

use crate::openapi::credentials::{Credential, bad_ones, forged, tokens};
use crate::openapi::world::{SECRET_NAME, World};

/// The calls that need no credential. Whoever adds one has thought about what it gives away.
const OPEN_CALLS: [&str; 6] = [
    "GET /api/v1/openapi.json",
    "GET /download/{target}/holistics-tunnel",
    "GET /healthz",
    "GET /i/{token}",
    "GET /r/{token}",
    "GET /readyz",
];

/// The pages for people who are not signed in, with the same thought.
const OPEN_PAGES: [&str; 3] = ["/sign-in", "/login/{token}", "/assets/{file}"];

/// A call of the description.
struct Call {
    method: Method,
    path: String,
    /// Each of these sets of schemes opens it, with the scopes that are needed of each.
    security: Vec<BTreeMap<String, BTreeSet<String>>>,
    body: Value,
}

impl Call {
    /// Whether this credential is meant for it.
    fn is_for(&self, credential: &Credential) -> bool {
        let Some(scheme) = credential.scheme else {
            return false;
        };
        let names_another = !credential.is_own && self.path.contains("{id}");
        let opens = |schemes: &BTreeMap<String, BTreeSet<String>>| {
            let scopes = schemes.get(scheme).filter(|_| schemes.len() == 1);
            scopes.is_some_and(|needed| {
                needed
                    .iter()
                    .all(|scope| credential.scopes.contains(&scope.as_str()))
            })
        };
        !names_another && self.security.iter().any(opens)
    }
}

fn calls() -> Vec<Call> {
    let paths = openapi::document()["paths"].as_object();
    let mut calls = Vec::new();
    for (path, item) in paths.expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let security = operation["security"].as_array().expect("a security");
            let names = |choice: &Value| serde_json::from_value(choice.clone()).expect("schemes");
            let body = operation.pointer("/requestBody/content/application~1json/example");
            calls.push(Call {
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                security: security.iter().map(names).collect(),
                body: body.cloned().unwrap_or_default(),
            });
        }
    }
    calls
}

#[test]
fn no_call_answers_to_a_credential_that_is_not_meant_for_it() {
    let world = World::new();
    let (bad, tokens, forged) = (bad_ones(&world), tokens(&world), forged(&world));
    let before = world.kept();
    let mut refused = 0;
    for call in calls().iter().filter(|call| !call.security.is_empty()) {
        for credential in bad.iter().chain(&tokens).chain(&forged) {
            if !call.is_for(credential) {
                expect_refusal(&world, call, credential);
                refused += 1;
            }
        }
    }
    assert!(refused > 200, "only {refused} requests were made");
    assert_eq!(world.kept(), before, "something was changed");
}

fn expect_refusal(world: &World, call: &Call, credential: &Credential) {
    let request = world
        .stranger
        .request(call.method.clone(), &world.path(&call.path));
    let request = if call.body.is_null() {
        request
    } else {
        request.json(&call.body)
    };
    let response = credential.on(request).send().expect("the server answers");
    let what = format!("{} {} with {}", call.method, call.path, credential.name);
    let status = response.status().as_u16();
    let media_type = response.headers().get("content-type").cloned();
    let body = response.text().expect("a body");
    assert!(matches!(status, 401 | 403), "{what}: {status} {body}");
    assert_eq!(
        media_type.expect("a content type"),
        "application/problem+json",
        "{what}"
    );
    assert!(!body.contains(SECRET_NAME), "{what}: {body}");
}

#[test]
fn a_token_that_may_read_reads_everything_and_is_told_what_it_lacks_for_the_rest() {
    let world = World::new();
    let before = world.kept();
    let (mut read, mut refused) = (0, 0);
    for call in calls() {
        // Streams do not end by themselves; they are opened, and that is enough.
        let Some(needed) = call
            .security
            .iter()
            .find_map(|schemes| schemes.get("operator_token"))
        else {
            continue;
        };
        let request = world
            .stranger
            .request(call.method.clone(), &world.path(&call.path));
        let request = request.json(&call.body).bearer_auth(&world.read_token);
        let response = request.send().expect("the server answers");
        let what = format!("{} {}", call.method, call.path);
        let status = response.status().as_u16();
        if needed.contains("operate") {
            refused += 1;
            let body = response.text().expect("a body");
            assert_eq!(status, 403, "{what}: {body}");
            assert!(body.contains("the scope `operate`"), "{what}: {body}");
        } else {
            read += 1;
            assert_eq!(status, 200, "{what}");
        }
    }
    assert!(
        read >= 5 && refused >= 5,
        "{read} were answered, {refused} refused"
    );
    assert_eq!(world.kept(), before, "something was changed");
}

#[test]
fn whoever_shows_a_token_that_was_good_is_told_why_it_is_not() {
    let world = World::new();
    let told = |token: &str| {
        let request = world
            .stranger
            .request(Method::GET, "/api/v1/data-sources")
            .bearer_auth(token);
        let response = request.send().expect("the server answers");
        assert_eq!(response.status(), 401);
        response.text().expect("a body")
    };
    assert!(told(&world.expired_token).contains("has expired"));
    assert!(told(&world.token_of_disabled).contains("is disabled"));
    assert!(told(&world.token_of_removed).contains("revoked"));
    let guessed = told("hto_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert!(!guessed.contains("expired"), "{guessed}");
}

#[test]
fn the_calls_that_need_no_credential_are_the_known_ones_and_give_nothing_away() {
    let open: BTreeSet<_> = calls()
        .iter()
        .filter(|call| call.security.is_empty())
        .map(|call| format!("{} {}", call.method, call.path))
        .collect();
    assert_eq!(open, OPEN_CALLS.map(str::to_owned).into());
    let world = World::new();
    let before = world.kept();
    for call in calls().iter().filter(|call| call.security.is_empty()) {
        for credential in tokens(&world).iter().chain(&bad_ones(&world)) {
            let request = world
                .stranger
                .request(call.method.clone(), &world.path(&call.path));
            let response = credential.on(request).send().expect("the server answers");
            let what = format!("{} with {}", call.path, credential.name);
            let body = response.bytes().expect("a body");
            let shown = String::from_utf8_lossy(&body);
            assert!(!shown.contains(SECRET_NAME), "{what}: {shown}");
        }
    }
    assert_eq!(world.kept(), before, "something was changed");
}

#[test]
fn a_script_comes_for_its_own_kind_of_token_alone() {
    let world = World::new();
    let script = |kind: &str, token: &str| world.stranger.get(&format!("/{kind}/{token}")).body;
    let own = &world.own;
    let refusals = [
        script("i", &own.tunnel_token),
        script("i", &world.removal_token),
        script("i", &world.operator_token),
        script("i", &world.revoked_token),
        script("r", &own.enrollment_token),
        script("r", &own.tunnel_token),
        script("r", &world.operator_token),
        script("r", "..%2f..%2fetc%2fpasswd"),
    ];
    for script in refusals {
        assert!(script.contains("not known here"), "{script}");
        assert!(!script.contains("curl"), "{script}");
    }
    for (kind, token) in [("i", &own.enrollment_token), ("r", &world.removal_token)] {
        let script = script(kind, token);
        assert!(script.contains(token.as_str()), "{kind}: {script}");
    }
}

#[test]
fn no_page_and_no_form_answers_to_somebody_who_is_not_signed_in() {
    let world = World::new();
    let [signed_in, _] = web::paths();
    let before = world.kept();
    let tokens = tokens(&world);
    let strangers: Vec<_> = bad_ones(&world).into_iter().chain(tokens).collect();
    for template in signed_in {
        for method in methods(&world, template) {
            for credential in &strangers {
                let page = send(&world, &method, template, credential, &[]);
                let what = format!("{method} {template} with {}", credential.name);
                match method {
                    Method::GET => page.expect_sign_in(&what),
                    _ => page.expect_no_entry(&what),
                }
            }
        }
    }
    assert_eq!(world.kept(), before, "something was changed");
}

#[test]
fn no_form_is_taken_that_the_sessions_own_page_has_not_sent() {
    let world = World::new();
    let before = world.kept();
    let own = world.signed_in.get("/account").form("/account").token();
    let others = world
        .other_signed_in
        .get("/account")
        .form("/account")
        .token();
    let mut forms = 0;
    for template in web::paths().into_iter().flatten() {
        for method in methods(&world, template) {
            if method == Method::GET {
                continue;
            }
            forms += 1;
            for credential in forged(&world) {
                let what = format!("{method} {template} with {}", credential.name);
                let fields: &[_] = match credential.name {
                    // Forms carry the token as a field.
                    name if name.ends_with("site") || name.ends_with("nowhere") => {
                        &[("csrf", own.as_str())]
                    }
                    name if name.contains("another session") => &[("csrf", others.as_str())],
                    _ => &[],
                };
                let page = send(&world, &method, template, &credential, fields);
                assert_eq!(page.status, 403, "{what}: {}", page.body);
            }
        }
    }
    assert!(forms >= 10, "only {forms} forms were found");
    assert_eq!(world.kept(), before, "something was changed");
}

#[test]
fn the_pages_that_are_open_are_the_known_ones() {
    let [_, open] = web::paths();
    assert_eq!(open, OPEN_PAGES);
}

/// The methods of a page, as the server itself names them.
fn methods(world: &World, template: &str) -> Vec<Method> {
    let request = world
        .signed_in
        .request(Method::OPTIONS, &world.path(template));
    let response = world.signed_in.with_cookies(request);
    let allowed = response.headers().get("allow");
    let allowed = allowed.unwrap_or_else(|| panic!("{template}: {}", response.status()));
    let allowed = allowed.to_str().expect("text").split(',');
    let methods = allowed.map(|method| method.trim().parse().expect("a method"));
    methods.filter(|method| *method != Method::HEAD).collect()
}

struct Answer {
    status: u16,
    leads_to: String,
    body: String,
}

impl Answer {
    fn expect_sign_in(&self, what: &str) {
        assert_eq!(self.status, 303, "{what}: {}", self.body);
        assert!(
            self.leads_to.starts_with("/sign-in"),
            "{what} leads to {}",
            self.leads_to
        );
        assert!(!self.body.contains(SECRET_NAME), "{what}: {}", self.body);
    }

    fn expect_no_entry(&self, what: &str) {
        match self.status {
            403 => assert!(!self.body.contains(SECRET_NAME), "{what}: {}", self.body),
            _ => self.expect_sign_in(what),
        }
    }
}

fn send(
    world: &World,
    method: &Method,
    template: &str,
    credential: &Credential,
    fields: &[(&str, &str)],
) -> Answer {
    let mut request = world
        .stranger
        .request(method.clone(), &world.path(template));
    if *method == Method::POST {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([
            ("how", "now"),
            ("name", "walker"),
            ("display_name", "Stolen"),
        ]);
        form.extend_pairs([("host", "evil.example"), ("port", "1")]);
        form.extend_pairs(fields);
        request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish());
    }
    let response = credential.on(request).send().expect("the server answers");
    let location = response.headers().get("location");
    Answer {
        status: response.status().as_u16(),
        leads_to: location
            .map_or("", |l| l.to_str().expect("text"))
            .to_owned(),
        body: response.text().expect("a body"),
    }
}
