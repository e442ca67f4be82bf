//! API tokens: what each may do, and until when.

use super::{LIMIT, find, listed, make_token, read_to_the_end, run, with_token};
use crate::support::server::Server;
use crate::support::wait;
use crate::visitor::Visitor;

#[test]
fn a_token_shows_who_made_it_what_it_may_do_until_when_and_its_last_use() {
    let server = Server::start();
    let admin = Visitor::signed_in(&server);
    let token = make_token(
        &admin,
        &[("name", "ci"), ("scope", "read"), ("expires", "never")],
    );
    run(&server, &["token", "create", "deploy"]).expect_code(0);
    let tokens = listed(&server, "token");
    let (ci, deploy) = (find(&tokens, "ci"), find(&tokens, "deploy"));
    assert_eq!([&ci["scope"], &ci["made_by"]], ["read", "admin"]);
    assert!(ci["expires_at"].is_null() && ci["last_used_at"].is_null());
    assert_eq!(deploy["scope"], "operate");
    assert_eq!(deploy["made_by"], "server's command line");
    let at = |name: &str| -> jiff::Timestamp {
        deploy[name].as_str().expect("a time").parse().expect("it")
    };
    let lasts = at("expires_at").duration_since(at("created_at"));
    assert!((lasts.as_secs() - 90 * 86_400).abs() <= 1, "{lasts}");
    admin.get("/api-tokens").expect(&[
        "never used",
        "never expires",
        "by admin",
        "by server's command line",
    ]);

    assert_eq!(
        with_token(&server, "/api/v1/data-sources", &token).status(),
        200
    );
    assert!(find(&listed(&server, "token"), "ci")["last_used_at"].is_string());
    admin.get("/api-tokens").expect(&["last used"]);
    let list = run(&server, &["token", "list"]).expect_code(0);
    list.expect_words(&["ci", "read", "never expires", "last used", "by admin"]);
}

#[test]
fn a_token_that_has_expired_says_so_and_its_name_is_free() {
    let server = Server::start();
    let admin = Visitor::signed_in(&server);
    let token = server.api_token(&["brief", "--expires", "1s"]);
    let is_over = || with_token(&server, "/api/v1/data-sources", &token).status() == 401;
    wait::until_true("it to expire", LIMIT, String::new, is_over);
    let told = with_token(&server, "/api/v1/data-sources", &token).text();
    assert!(told.expect("a body").contains("has expired"));
    assert_eq!(find(&listed(&server, "token"), "brief")["state"], "expired");
    admin.get("/api-tokens").expect(&["expired"]);
    server.api_token(&["brief"]);
    run(&server, &["token", "create", "brief"])
        .expect_code(1)
        .expect_words(&["named brief already"]);
    for wrong in ["0d", "soon", "-1d"] {
        let expires = format!("--expires={wrong}");
        run(&server, &["token", "create", "other", &expires])
            .expect_code(2)
            .expect_words(&["90d"]);
    }
}

#[test]
fn a_stream_ends_when_its_token_expires() {
    let server = Server::start();
    let token = server.api_token(&["brief", "--expires", "3s"]);
    read_to_the_end(with_token(&server, "/api/v1/data-sources/events", &token));
}
