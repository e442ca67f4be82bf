//! What is remembered of what was done.

use super::run;
use crate::support::server::Server;
use crate::support::workspace::Workspace;
use crate::visitor::Visitor;

#[test]
fn what_is_done_at_the_command_line_stands_in_the_audit_log() {
    let server = Server::start_on_sqlite();
    let folder = Workspace::new();
    let backup = folder.path().join("backup.tar");
    let backup = backup.to_str().expect("text");
    for command in [
        &["token", "create", "deploy", "--scope", "read"][..],
        &["token", "revoke", "deploy"],
        &["login-link", "--name", "bob"],
        &["operator", "disable", "bob"],
        &["operator", "enable", "bob"],
        &["operator", "remove", "bob"],
        &["host-key", "promote"],
        &["backup", backup],
    ] {
        run(&server, command).expect_code(0);
    }
    let log = Visitor::signed_in(&server).get("/audit?by=command_line");
    log.expect(&[
        "server's command line",
        "API token made",
        "deploy (read, expires",
        "API token revoked",
        "operator made",
        "sign-in link made",
        "operator disabled",
        "operator enabled",
        "operator removed",
        "host key promoted",
        "backup made",
        backup,
    ]);
    assert!(
        !log.body.contains("<span>signed in</span>"),
        "an operator's: {}",
        log.text()
    );
}

#[test]
fn sign_ins_that_failed_stand_in_the_audit_log_without_what_was_typed() {
    let server = Server::start();
    let admin = Visitor::signed_in(&server);
    let stranger = Visitor::new(&server);
    let form = stranger.get("/sign-in").form("/sign-in");
    for name in ["admin", "a-password-in-the-wrong-field"] {
        let refused = stranger.submit(&form, &[("name", name), ("password", "wrong")]);
        assert_eq!(refused.status, 401);
    }
    let log = admin.get("/audit?by=stranger");
    log.expect(&[
        "sign-in refused",
        "somebody at 127.0.0.1",
        "admin",
        "an unknown name",
    ]);
    assert!(!log.body.contains("wrong-field"), "{}", log.text());
}
