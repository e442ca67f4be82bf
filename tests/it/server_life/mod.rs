//! The server as the person sees it who runs it: its log, its disk and its certificates fail, and what it is
//! for goes on.

mod backup;
mod cluster;
mod deaths;
mod draining;
mod farewell;
mod half_done;
mod host_keys;
mod keys;
mod migrate;
mod nodes;
mod older_backup;
mod postgres;
mod regions;
mod roles;
mod service_manager;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::support::hosts::certificate::{self, Certified};
use crate::support::lab::Lab;
use crate::support::server::Server;
use crate::support::unread_log;
use crate::support::wait;
use crate::support::workspace::Workspace;
use holistics_tunnel::protocol::DataSource;
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(120);

// ---------------------------------------------------------------------------------------------
// The log
// ---------------------------------------------------------------------------------------------

#[test]
fn a_log_whose_reader_is_gone_costs_nobody_anything() {
    let folder = Workspace::new();
    let (pipe, reader) = unread_log::pipe(&folder);
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
    let (pipe, _reader) = unread_log::pipe(&folder);
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
        unread_log::lost_lines(&lab.operator) > 0
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

// ---------------------------------------------------------------------------------------------
// The certificate
// ---------------------------------------------------------------------------------------------

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_never() {
    let folders = [(); 3].map(|()| Workspace::new());
    let [first, second, third] = &folders;
    let [first, second, third] =
        [first, second, third].map(|folder| certificate::for_name(NAME, folder.path()));
    let server = Server::start_called(NAME, Some(&first), &[]);
    let mut ssh = TcpStream::connect(&server.ssh).expect("the SSH port");
    let shows = |of: &Certified| certificate::is_shown(&server.url, NAME, of);
    assert!(shows(&first));

    // By rename, as certbot and Kubernetes do.
    for (new, old) in [
        (&second.certificate, &first.certificate),
        (&second.key, &first.key),
    ] {
        std::fs::rename(new, old).expect("a renewed file");
    }
    wait::until_true(
        "the renewed certificate",
        LIMIT,
        || server.log(),
        || shows(&second),
    );
    assert!(!shows(&first));

    std::fs::write(&first.certificate, "-----BEGIN CERTIFICATE-----").expect("a broken file");
    let is_told = || server.log().contains("cannot use the certificate");
    wait::until_true("the broken one is told", LIMIT, || server.log(), is_told);
    assert!(shows(&second), "the former one is used");

    // The key of one with the certificate of another is as broken, at any moment between two writes.
    std::fs::copy(&third.certificate, &first.certificate).expect("a renewed file");
    server.signal(Signal::HUP);
    let times = || server.log().matches("cannot use the certificate").count();
    wait::until_true(
        "this one is told, too",
        LIMIT,
        || server.log(),
        || times() >= 2,
    );
    assert!(shows(&second));
    std::fs::copy(&third.key, &first.key).expect("a renewed file");
    server.signal(Signal::HUP);
    wait::until_true(
        "the third certificate",
        LIMIT,
        || server.log(),
        || shows(&third),
    );

    let mut greeting = [0; 8];
    ssh.read_exact(&mut greeting)
        .expect("the connection of before");
    assert_eq!(&greeting, b"SSH-2.0-");
}

#[test]
fn a_hangup_does_not_end_a_server_without_a_certificate() {
    let mut server = Server::start();
    server.signal(Signal::HUP);
    server.operator().create("Shop", 5432);
    server.stop().expect_code(0);
}

#[test]
fn a_server_that_is_one_of_several_says_where_and_lets_no_stranger_in() {
    let mut server = Server::start_with(10, &["--peer-listen", "127.0.0.1:0"]);
    let log = server.log();
    let address = log.lines().find_map(|line| line.strip_prefix("peers    "));
    let mut stranger = TcpStream::connect(address.expect("it says where")).unwrap();
    stranger
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A word of TLS at most, and the end.
    let ended = stranger.read_to_end(&mut answer);
    assert!(
        ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "{answer:?}"
    );
    assert!(answer.len() < 16, "{answer:?}");

    let folder = server.data_dir().join("peer-link");
    let certificate = std::fs::read(folder.join("certificate.der")).unwrap();
    let key = std::fs::metadata(folder.join("key.der")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    server.stop().expect_code(0);
    server.start_again();
    let now = std::fs::read(folder.join("certificate.der")).unwrap();
    assert!(now == certificate, "the other nodes know it by this one");
    server.stop().expect_code(0);
}

const NAME: &str = "vendor.example";
