//! Rows go on through all that happens to a server. How long the longest wait for one was, is told.

use std::time::Duration;

use holistics_tunnel::protocol::DataSource;
use reqwest::Method;
use rustix::process::Signal;

use super::reader::Reader;
use crate::support::figures;
use crate::support::hosts::certificate::{self, Certified};
use crate::support::lab::{Lab, token_of, tunnel_of};
use crate::support::process;
use crate::support::server::Server;
use crate::support::sql::Client;
use crate::support::unread_log;
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(120);

/// One that the bastion finds without help.
const NAME: &str = "localhost";

#[test]
fn rows_go_on_through_all_that_happens_to_the_server() {
    let folders = [Workspace::new(), Workspace::new()];
    let [https, renewed] = [0, 1].map(|n| certificate::for_name(NAME, folders[n].path()));
    let (pipe, _never_read) = unread_log::pipe(&folders[0]);
    let mut lab = Lab::with(Server::start_beset(NAME, &https, &pipe));
    let source = set_up(&lab, &https);
    let port = tunnel_of(&source).remote_port.expect("it is enrolled");
    let reader = Reader::start(port, lab.postgres.login());
    let mut before = lab.login_through(&source).expect("a login");
    told("nothing that happens", &reader, &mut before);

    wait::until_true("lines of the log are lost", LIMIT, String::new, || {
        unread_log::lost_lines(&lab.operator) > 0
    });
    told("a log that nobody reads", &reader, &mut before);

    let disk = lab.server.disk.as_ref().expect("its own disk");
    disk.fill();
    wait::until_true("nothing can be kept", LIMIT, String::new, || {
        !is_ready(&lab)
    });
    told("a full disk", &reader, &mut before);
    disk.free();
    assert!(is_ready(&lab));
    told("room on it again", &reader, &mut before);

    let file = folders[0].path().join("backup.tar");
    let mut backup = lab.server.command("backup");
    process::run(backup.arg(&file), folders[0].path(), "backup").expect_code(0);
    told("a backup", &reader, &mut before);

    for (new, old) in [
        (&renewed.certificate, &https.certificate),
        (&renewed.key, &https.key),
    ] {
        std::fs::rename(new, old).expect("a renewed file");
    }
    lab.server.signal(Signal::HUP);
    wait::until_true("the renewed certificate", LIMIT, String::new, || {
        certificate::is_shown(&lab.server.url, NAME, &renewed)
    });
    told("a renewed certificate", &reader, &mut before);

    // An upgrade is this one with another program. Connections of before end with the former process.
    lab.server.stop().expect_code(0);
    lab.server.start_again();
    let gap = reader.longest_gap();
    figures::say(&format!(
        "longest wait for a row, through an upgrade: {gap:.1?}"
    ));
}

fn set_up(lab: &Lab, https: &Certified) -> DataSource {
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup.arg("--ca-cert").arg(&https.authority);
    let setup = lab.bastion.start(&mut setup);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.operator.data_source(source.id)
}

/// Says what it did to rows; those come, also through the connection of before.
#[track_caller]
fn told(what: &str, reader: &Reader, before: &mut Client) {
    let gap = reader.longest_gap();
    figures::say(&format!(
        "longest wait for a row, through {what}: {gap:.1?}"
    ));
    let row = before.number("SELECT amount FROM orders WHERE id = 1");
    assert!(row.is_ok(), "the connection of before: {row:?}");
}

fn is_ready(lab: &Lab) -> bool {
    let call = lab.operator.call_beside(Method::GET, "/readyz").send();
    call.expect("an answer").status().is_success()
}
