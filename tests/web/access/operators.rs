//! Who gets in, and who may not any more.

use std::sync::Barrier;

use reqwest::Method;

use super::{find, listed, make_token, press, read_to_the_end, run, set_password, with_token};
use crate::support::server::Server;
use crate::visitor::{Page, Visitor, login_link_of};

#[test]
fn whoever_is_disabled_or_removed_is_out_at_once_in_browsers_streams_and_programs() {
    let server = Server::start();
    let admin = Visitor::signed_in(&server);
    let bob = Visitor::signed_in_as(&server, "bob");
    let token = make_token(&bob, &[("name", "bobs")]);
    let events = "/api/v1/data-sources/events";
    let streams = [
        bob.with_cookies(bob.request(Method::GET, events)),
        with_token(&server, events, &token),
    ];
    let link = login_link_of(&server, "bob");

    press(&admin, "/operators/disable", "bob").expect(&["disabled", "Enable"]);
    for stream in streams {
        read_to_the_end(stream);
    }
    assert_eq!(bob.get("/data-sources").status, 303, "his browser");
    assert_eq!(
        with_token(&server, "/api/v1/data-sources", &token).status(),
        401
    );
    assert_eq!(Visitor::new(&server).get(&link).status, 410, "his link");
    run(&server, &["login-link", "--name", "bob"])
        .expect_code(1)
        .expect_words(&["bob is disabled", "operator enable bob"]);

    press(&admin, "/operators/enable", "bob");
    assert_eq!(
        bob.get("/data-sources").status,
        303,
        "he has to sign in again"
    );
    let works = with_token(&server, events, &token);
    assert_eq!(works.status(), 200, "his token works again");

    let page = press(&admin, "/operators/remove", "bob");
    assert!(!page.body.contains("bob"), "{}", page.text());
    read_to_the_end(works);
    assert_eq!(
        with_token(&server, "/api/v1/data-sources", &token).status(),
        401
    );
    admin.get("/api-tokens").expect(&["bobs", "revoked"]);
    admin.get("/audit").expect(&[
        "operator disabled",
        "operator enabled",
        "operator removed",
        "bob",
    ]);
    // The name is free, and whoever gets it has nothing of the former one.
    let another = Visitor::signed_in_as(&server, "bob");
    another.get("/operators").expect(&["bob (you)"]);
    assert_eq!(
        with_token(&server, "/api/v1/data-sources", &token).status(),
        401
    );
}

#[test]
fn a_disabled_operator_is_told_so_only_with_the_right_password() {
    let server = Server::start();
    let bob = Visitor::signed_in_as(&server, "bob");
    set_password(&bob);
    run(&server, &["operator", "disable", "bob"]).expect_code(0);
    let visitor = Visitor::new(&server);
    let form = visitor.get("/sign-in").form("/sign-in");
    let sign_in =
        |password: &str| visitor.submit(&form, &[("name", "bob"), ("password", password)]);
    let wrong = sign_in("wrong horse battery");
    assert_eq!(wrong.status, 401);
    assert!(!wrong.body.contains("disabled"), "{}", wrong.text());
    let right = sign_in("correct horse battery");
    assert_eq!(right.status, 403);
    right.expect(&["This account is disabled"]);
    assert_eq!(visitor.get("/data-sources").status, 303);
    run(&server, &["operator", "enable", "bob"]).expect_code(0);
    assert_eq!(sign_in("correct horse battery").status, 200);
}

#[test]
fn a_session_that_ends_takes_its_streams_along() {
    let server = Server::start();
    let here = Visitor::signed_in(&server);
    let there = Visitor::signed_in(&server);
    let events = |visitor: &Visitor| {
        visitor.with_cookies(visitor.request(Method::GET, "/api/v1/data-sources/events"))
    };
    let stream = events(&there);
    set_password(&here);
    read_to_the_end(stream);
    let stream = events(&here);
    let form = here.get("/account").form("/sign-out");
    here.submit(&form, &[]);
    read_to_the_end(stream);
}

#[test]
fn nobody_disables_or_removes_himself_by_page() {
    let server = Server::start();
    let admin = Visitor::signed_in(&server);
    Visitor::signed_in_as(&server, "bob");
    for action in ["/operators/disable", "/operators/remove"] {
        let refused = press(&admin, action, "admin");
        assert_eq!(refused.status, 409, "{action}");
        refused.expect(&["cannot disable or remove your own account"]);
    }
    admin.get("/operators").expect(&["admin (you)", "bob"]);
    let unknown = press(&admin, "/operators/remove", "nobody");
    assert_eq!(unknown.status, 404);
    unknown.expect(&["no operator named nobody"]);
}

#[test]
fn the_last_operator_with_a_password_stays_until_there_is_another() {
    let server = Server::start();
    let admin = Visitor::signed_in(&server);
    set_password(&admin);
    let bob = Visitor::signed_in_as(&server, "bob");
    for action in ["/operators/disable", "/operators/remove"] {
        let refused = press(&bob, action, "admin");
        assert_eq!(refused.status, 409, "{action}");
        refused.expect(&[
            "last operator with a password",
            "set a password of your own",
        ]);
    }
    assert_eq!(admin.get("/data-sources").status, 200);
    set_password(&bob);
    let page = press(&bob, "/operators/remove", "admin");
    assert!(!page.body.contains("admin"), "{}", page.text());
    assert_eq!(admin.get("/data-sources").status, 303);
}

#[test]
fn of_two_operators_who_remove_each_other_at_once_one_stays() {
    let server = Server::start();
    for round in 0..5 {
        let names = [format!("ann{round}"), format!("bob{round}")];
        let visitors = names
            .each_ref()
            .map(|name| Visitor::signed_in_as(&server, name));
        let [ann, bob] = visitors;
        let start = Barrier::new(2);
        let remove = |visitor: Visitor, name: &str| {
            let form = visitor.get("/operators").form("/operators/remove");
            start.wait();
            visitor.post(&form, &[("name", name)], &[])
        };
        let [one, other] = std::thread::scope(|scope| {
            let ann = scope.spawn(|| remove(ann, &names[1]));
            let bob = scope.spawn(|| remove(bob, &names[0]));
            [ann, bob].map(|thread| thread.join().expect("an answer"))
        });
        let left: Vec<_> = names
            .iter()
            .filter(|name| {
                listed(&server, "operator")
                    .iter()
                    .any(|o| o["name"] == **name)
            })
            .collect();
        assert_eq!(left.len(), 1, "{left:?} are left");
        let went_through = |page: &Page| {
            page.headers
                .get("location")
                .is_some_and(|to| to == "/operators")
        };
        let [through, refused] = if went_through(&one) {
            [one, other]
        } else {
            [other, one]
        };
        assert!(went_through(&through), "{}", through.text());
        // His own account was gone before he got to the gate, or behind it.
        match refused.status {
            303 => assert!(
                refused.headers["location"]
                    .to_str()
                    .unwrap()
                    .contains("/sign-in")
            ),
            403 => drop(refused.expect(&["Your own account was disabled or removed"])),
            status => panic!("{status}: {}", refused.text()),
        }
    }
}

#[test]
fn operators_are_listed_and_changed_at_the_command_line_while_the_server_runs() {
    let server = Server::start();
    let admin = Visitor::signed_in(&server);
    set_password(&admin);
    run(&server, &["login-link", "--name", "bob"]).expect_code(0);
    let operators = listed(&server, "operator");
    let (admins, bobs) = (find(&operators, "admin"), find(&operators, "bob"));
    assert_eq!(admins["has_password"], true);
    assert!(admins["last_signed_in_at"].is_string(), "{admins}");
    assert_eq!(bobs["has_password"], false);
    assert!(bobs["last_signed_in_at"].is_null(), "{bobs}");

    let stream = admin.with_cookies(admin.request(Method::GET, "/api/v1/data-sources/events"));
    run(&server, &["operator", "disable", "admin"])
        .expect_code(0)
        .expect_words(&["admin is disabled"]);
    assert_eq!(admin.get("/data-sources").status, 303);
    read_to_the_end(stream);
    assert_eq!(
        find(&listed(&server, "operator"), "admin")["enabled"],
        false
    );
    run(&server, &["operator", "disable", "bob"])
        .expect_code(0)
        .expect_words(&["No operator can sign in", "login-link"]);
    run(&server, &["operator", "enable", "admin"]).expect_code(0);
    run(&server, &["operator", "remove", "bob"]).expect_code(0);
    run(&server, &["operator", "remove", "bob"])
        .expect_code(1)
        .expect_words(&["no operator named bob"]);
    let list = run(&server, &["operator", "list"]).expect_code(0).stdout;
    assert!(list.contains("admin") && !list.contains("bob"), "{list}");
}
