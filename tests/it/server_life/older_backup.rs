//! What an older backup knows nothing of goes to nobody else.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, TunnelId};
use reqwest::{Method, StatusCode};

use crate::server_life::backup::{backup, restore, restore_into};
use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{Lab, tunnel_of};
use crate::support::ports;
use crate::support::process;
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60);
const FAILED: i32 = 1;

#[test]
fn nothing_that_was_given_after_the_backup_goes_to_somebody_else() {
    let (mut lab, file) = lab_with_older_backup();
    let second = lab.later.take().expect("a later tunnel");
    lab.lab.server.stop().expect_code(0);
    let told = restore(&lab.lab.server, &file, &["--replace"]).expect_code(0);
    assert!(told.stdout.contains("given to nobody else"), "{told}");
    lab.lab.server.start_again();

    let third = lab.lab.active_data_source("Third");
    assert_eq!(tunnel_of(&third).id.0, second.tunnel.0 + 1);
    assert_ne!(tunnel_of(&third).remote_port, Some(second.port));
    assert!(third.id.0 > second.source.id.0);
    lab.assert_is_kept_out(&second);
}

#[test]
fn where_the_machine_is_lost_nobody_gets_what_somebody_may_have_been_given() {
    let (mut lab, file) = lab_with_older_backup();
    let second = lab.later.take().expect("a later tunnel");
    let mut numbers = vec![second.tunnel.0];
    // However often the same backup is restored.
    for _ in 0..2 {
        lab.lab.server.stop().expect_code(0);
        fs::remove_dir_all(lab.lab.server.data_dir()).expect("the disk is lost");
        restore(&lab.lab.server, &file, &[]).expect_code(0);
        lab.lab.server.start_again();
        let source = lab.lab.data_source("Third");
        numbers.push(tunnel_of(&source).id.0);
        // Numbers of one second are one after another.
        std::thread::sleep(Duration::from_millis(1100));

        let setup = lab.lab.start_setup(&source).wait(SETUP_LIMIT);
        assert_ne!(setup.code, 0);
        setup.expect_words(&["port"]);
        lab.assert_is_kept_out(&second);
    }
    let all = numbers.clone();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, all, "no number is given twice");

    // Until the ports have rested.
    lab.lab.server.stop().expect_code(0);
    let range = lab.lab.server.ports_flag();
    lab.lab.server.start_again_with(&["--port-rest", "1ms"]);
    let third = lab.lab.active_data_source("Fourth");
    let highest: u16 = range
        .rsplit('-')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a range");
    assert_eq!(
        tunnel_of(&third).remote_port,
        Some(highest),
        "the one that was least likely given"
    );
    lab.assert_is_kept_out(&second);
}

#[test]
fn ports_that_nobody_had_are_given_at_once_after_a_restore() {
    let (mut lab, file) = lab_with_older_backup();
    let second = lab.later.take().expect("a later tunnel");
    lab.lab.server.kill();
    fs::remove_dir_all(lab.lab.server.data_dir()).expect("the disk is lost");
    let unused = format!("{}-{}", second.port + 3, second.port + 5);
    restore(&lab.lab.server, &file, &["--unused-ports", &unused]).expect_code(0);
    lab.lab.server.start_again();
    let third = lab.lab.active_data_source("Third");
    assert_eq!(tunnel_of(&third).remote_port, Some(second.port + 3));
    lab.assert_is_kept_out(&second);
}

#[test]
fn an_older_copy_of_the_database_is_refused_with_a_way_to_use_it() {
    let mut server = Server::start_on_sqlite();
    server.operator().create("First", 5432);
    server.stop().expect_code(0);
    let folder = Workspace::new();
    let database = server.data_dir().join("control-plane.sqlite");
    let copy = folder.path().join("copy.sqlite");
    fs::copy(&database, &copy).expect("a copy");
    server.start_again();
    let second = server.operator().create("Second", 5432);
    server.stop().expect_code(0);

    fs::copy(&copy, &database).expect("the older copy");
    let mut refused = server.command("serve");
    refused.args(["--listen", "127.0.0.1:0", "--ssh-listen", "127.0.0.1:0"]);
    process::run(&mut refused, folder.path(), "refused")
        .expect_code(FAILED)
        .expect_words(&["is older than", "backup", "restore"]);
    let file = folder.path().join("backup.tar");
    backup(&server, &file).expect_code(0);
    // Nor is it asked what was given since.
    restore_into(&server, &file, &server.data_dir(), &["--replace"])
        .expect_code(0)
        .expect_words(&["not known which", "older than the server that last ran"]);
    server.start_again();
    let third = server.operator().create("Third", 5432);
    assert!(third.id.0 > second.id.0 + 1, "{third:?}");
}

#[test]
fn who_was_signed_in_revoked_disabled_or_removed_does_not_come_back() {
    let mut server = Server::start_on_sqlite();
    let folder = Workspace::new();
    let run = |server: &Server, arguments: &[&str]| {
        let mut command = server.command(arguments[0]);
        command.args(&arguments[1..]);
        process::run(&mut command, folder.path(), "command").expect_code(0)
    };
    let link = run(&server, &["login-link"]).stdout;
    run(&server, &["token", "create", "leaked"]);
    for name in ["dismissed", "suspended"] {
        run(&server, &["login-link", "--name", name]);
    }
    let file = folder.path().join("backup.tar");
    backup(&server, &file).expect_code(0);
    run(&server, &["token", "revoke", "leaked"]);
    run(&server, &["operator", "remove", "dismissed"]);
    run(&server, &["operator", "disable", "suspended"]);
    server.stop().expect_code(0);
    restore(&server, &file, &["--replace"]).expect_code(0);
    server.start_again();

    let tokens = run(&server, &["token", "list"]).stdout;
    let leaked = tokens.lines().find(|line| line.starts_with("leaked"));
    assert!(
        leaked.is_some_and(|line| line.contains("revoked")),
        "{tokens}"
    );
    let operators = run(&server, &["operator", "list", "--json"]).json();
    let operators = operators.as_array().expect("a list");
    let of = |name: &str| operators.iter().find(|operator| operator["name"] == name);
    assert!(of("dismissed").is_none(), "{operators:?}");
    assert!(of("suspended").is_some_and(|operator| operator["enabled"] == false));
    assert!(of("admin").is_some_and(|operator| operator["enabled"] == true));
    let path = link.trim().trim_start_matches(&server.url);
    let page = server.operator().call_beside(Method::GET, path).send();
    assert_eq!(page.expect("a page").status(), StatusCode::GONE);
}

/// A tunnel of before the backup, and one of after it.
struct Older {
    lab: Lab,
    later: Option<Later>,
}

struct Later {
    source: DataSource,
    tunnel: TunnelId,
    port: u16,
    bastion: Bastion,
}

fn lab_with_older_backup() -> (Older, PathBuf) {
    let mut lab = Lab::new();
    lab.active_data_source("First");
    let file = lab.server.data_dir().with_file_name("backup.tar");
    backup(&lab.server, &file).expect_code(0);
    // On a bastion of its own.
    let first = std::mem::replace(&mut lab.bastion, Bastion::new());
    let source = lab.active_data_source("Second");
    let bastion = std::mem::replace(&mut lab.bastion, first);
    let tunnel = tunnel_of(&source);
    let later = Later {
        tunnel: tunnel.id,
        port: tunnel.remote_port.expect("it is enrolled"),
        source,
        bastion,
    };
    (
        Older {
            lab,
            later: Some(later),
        },
        file,
    )
}

impl Older {
    /// Its bastion comes back again and again, and gets nowhere; and nobody answers at its port, or
    /// somebody who had it all along.
    fn assert_is_kept_out(&self, later: &Later) {
        wait::until_true(
            "it is refused",
            LIMIT,
            || self.lab.server.log(),
            || self.lab.server.log().contains("the key is not enrolled"),
        );
        assert!(!ports::is_open(later.port));
        let status = later.bastion.run(&mut later.bastion.program(["status"]));
        assert_ne!(status.code, 0, "{status}");
    }
}
