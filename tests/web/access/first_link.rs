//! The link that the first start makes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::LIMIT;
use crate::support::pty::{Input, Pty};
use crate::support::server::Server;
use crate::support::workspace::Workspace;
use crate::visitor::{Visitor, login_link_of};

#[test]
fn the_first_sign_in_link_is_in_a_file_of_the_servers_user_until_it_is_used() {
    let server = Server::start();
    let file = server.data_dir().join("sign-in-link");
    let log = server.log();
    assert!(!log.contains("/login/"), "the link is in the log:\n{log}");
    assert!(!log.contains("hto_"), "a token is in the log:\n{log}");
    assert!(log.contains(file.to_str().expect("text")), "{log}");
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let link = fs::read_to_string(&file).expect("the link");
    let visitor = Visitor::new(&server);
    let page = visitor.get(link.trim());
    page.expect(&["signs you in once"]);
    assert!(file.exists(), "looking does not use it up");
    visitor
        .submit(&page.form("/login/"), &[])
        .expect(&["Set a password"]);
    assert!(!file.exists(), "the file of a used link");
}

#[test]
fn a_newer_link_takes_the_first_ones_file_away() {
    let server = Server::start();
    let file = server.data_dir().join("sign-in-link");
    assert!(file.exists());
    login_link_of(&server, "admin");
    assert!(!file.exists());
}

#[test]
fn at_a_terminal_the_first_sign_in_link_is_shown_and_lies_in_no_file() {
    let folder = Workspace::new();
    let data = folder.path().join("data");
    let server = Server::start();
    let mut serve = server.any_command("serve");
    serve.arg("--data-dir").arg(&data).args([
        "--listen",
        "127.0.0.1:0",
        "--ssh-listen",
        "127.0.0.1:0",
    ]);
    let terminal = Pty::start(&mut serve, 200, Input::Terminal);
    terminal.wait_for("ready", LIMIT);
    let seen = terminal.screen();
    assert!(seen.contains("/login/htl_"), "{seen}");
    assert!(!data.join("sign-in-link").exists());
}
