//! The server as the person sees it who runs it: its log, its disk and its certificates fail, and what it is
//! for goes on.

mod support;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holistics_tunnel::protocol::DataSource;
use reqwest::Method;
use support::lab::Lab;
use support::server::Server;
use support::wait;
use support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(120);

// ---------------------------------------------------------------------------------------------
// The log
// ---------------------------------------------------------------------------------------------

#[test]
fn a_log_whose_reader_is_gone_costs_nobody_anything() {
    let folder = Workspace::new();
    let (pipe, reader) = pipe(&folder);
    let mut lab = Lab::with(Server::start_logging_to(&pipe));
    drop(reader);
    works_and_ends_when_asked(&mut lab);
}

#[test]
fn a_log_on_a_full_disk_costs_nobody_anything() {
    let mut lab = Lab::with(Server::start_logging_to(Path::new("/dev/full")));
    works_and_ends_when_asked(&mut lab);
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let folder = Workspace::new();
    let (pipe, _reader) = pipe(&folder);
    let mut lab = Lab::with(Server::start_logging_to(&pipe));
    // The pipe is full, and so is what may wait for it.
    works_and_ends_when_asked(&mut lab);
}

/// The whole journey, until lines of the log are lost, and on from there.
#[track_caller]
fn works_and_ends_when_asked(lab: &mut Lab) {
    let first = lab.active_data_source("Shop");
    wait::until_true("lines are lost", LIMIT, String::new, || {
        assert_rows_come(lab, &first);
        lost_lines(lab) > 0
    });
    let second = lab.active_data_source("Billing");
    for source in [&first, &second] {
        assert_rows_come(lab, source);
    }
    lab.server.stop().expect_code(0);
}

#[track_caller]
fn assert_rows_come(lab: &Lab, source: &DataSource) {
    let mut client = lab.login_through(source).expect("a login");
    let orders = client.number("SELECT count(*) FROM orders");
    assert!(orders.is_ok_and(|orders| orders > 0));
}

/// A pipe in place of a file, and its end for reading.
fn pipe(folder: &Workspace) -> (PathBuf, File) {
    let path = folder.path().join("log");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    // Also for writing: to open one end alone waits for the other.
    let reader = OpenOptions::new().read(true).write(true).open(&path);
    (path, reader.expect("the pipe"))
}

fn lost_lines(lab: &Lab) -> u64 {
    let answer = lab.operator.call_beside(Method::GET, "/metrics").send();
    let text = answer.and_then(reqwest::blocking::Response::text);
    let text = text.expect("the metrics");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("holistics_tunnel_log_lines_lost_total "));
    let line = line.unwrap_or_else(|| panic!("not counted in:\n{text}"));
    line.parse().expect("a number")
}
