//! Machines and users that the script sends away: before anything is made or downloaded, and with what to
//! do about it.

use std::process::Command;

use crate::bootstrap::vendor::Vendor;
use crate::bootstrap::{FAILED, USAGE, content, shell, url_of};
use crate::support::bastion::Bastion;
use crate::support::server::Server;

/// Runs a new script on this bastion, which has to refuse and to leave it as it was.
#[track_caller]
fn is_refused(bastion: &Bastion, change: impl FnOnce(&mut Command), code: i32, words: &[&str]) {
    let vendor = Vendor::new();
    let script = vendor.script(bastion);
    // Nothing may be fetched any more.
    vendor.offered.clear();
    let before = bastion.snapshot();
    let mut command = shell(bastion, &format!("sh -s <{}", script.display()));
    change(&mut command);
    let finished = bastion
        .run(&mut command)
        .expect_code(code)
        .expect_words(words);
    assert!(!finished.output().contains("download"), "{finished}");
    before.assert_same(&bastion.snapshot());
}

#[test]
fn a_machine_for_which_there_is_no_program_is_told_what_there_is() {
    for machine in [
        "Linux armv7l",
        "Linux i686",
        "FreeBSD amd64",
        "Darwin arm64",
    ] {
        let bastion = Bastion::without(&["uname"]);
        let (system, processor) = machine.split_once(' ').expect("two words");
        bastion.put_program(
            "uname",
            &format!("case $1 in -s) echo {system} ;; -m) echo {processor} ;; esac"),
        );
        let named = format!("{system}-{processor}");
        let own = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        is_refused(&bastion, |_| {}, FAILED, &["no program", &named, &own]);
    }
}

#[test]
fn a_system_whose_c_library_the_program_cannot_use_is_told_so() {
    let cases = [
        ("LONG_BIT) echo 32", "32-bit"),
        ("GNU_LIBC_VERSION) echo glibc 2.5", "glibc 2.5"),
        ("GNU_LIBC_VERSION) echo glibc 2.12", "2.17 or newer"),
        ("GNU_LIBC_VERSION) echo glibc 2.16.90", "2.17 or newer"),
    ];
    for (says, word) in cases {
        let bastion = Bastion::without(&["getconf"]);
        bastion.put_program(
            "getconf",
            &format!("case $1 in {says} ;; *) exit 1 ;; esac"),
        );
        is_refused(&bastion, |_| {}, FAILED, &[word]);
    }
}

#[test]
fn a_system_with_a_newer_c_library_or_one_that_does_not_tell_is_tried() {
    let vendor = Vendor::new();
    for says in [
        "echo glibc 2.17",
        "echo glibc 2.100",
        "echo glibc 3.0",
        "exit 1",
    ] {
        let bastion = Bastion::without(&["getconf"]);
        bastion.put_program("getconf", says);
        let line = format!("curl -fsSL {} | sh", url_of(&vendor.data_source()));
        bastion.run(&mut shell(&bastion, &line)).expect_code(0);
    }
}

#[test]
fn a_system_with_musl_alone_is_told_so() {
    let vendor = Vendor::new();
    let bastion = Bastion::without(&["getconf"]);
    bastion.put_program("getconf", "exit 1");
    let script = vendor.script(&bastion);
    // No test puts a loader into this machine's /lib.
    let lib = bastion.temporary();
    std::fs::write(lib.join("ld-musl-x86_64.so.1"), "").expect("a file");
    let moved = content(&script).replace("/lib/ld-musl-", &format!("{}/ld-musl-", lib.display()));
    std::fs::write(&script, moved).expect("the script");
    let before = bastion.snapshot();
    bastion
        .run(&mut shell(
            &bastion,
            &format!("sh -s <{}", script.display()),
        ))
        .expect_code(FAILED)
        .expect_words(&["musl", "Alpine", "glibc"]);
    before.assert_same(&bastion.snapshot());
}

#[test]
fn sudo_in_front_is_refused_before_anything_lies_in_root_s_home() {
    let bastion = Bastion::without(&["id"]);
    bastion.put_program("id", "echo 0");
    let by_sudo = |command: &mut Command| {
        command.env("SUDO_USER", "ada");
    };
    is_refused(&bastion, by_sudo, USAGE, &["as ada", "without sudo"]);
}

#[test]
fn a_user_without_a_home_that_can_be_written_is_told_so() {
    let bastion = Bastion::without(&["getent"]);
    bastion.put_program("getent", "echo 'daemon:x:1:1:::'");
    let without_home = |command: &mut Command| {
        command.env_remove("HOME");
    };
    is_refused(
        &bastion,
        without_home,
        FAILED,
        &["HOME is not set", "no home folder"],
    );
    let in_proc = |command: &mut Command| {
        command.env("HOME", "/proc/nowhere");
    };
    is_refused(
        &bastion,
        in_proc,
        FAILED,
        &["cannot make /proc/nowhere/.holistics", "writable"],
    );
}

#[test]
fn a_certificate_that_cannot_be_read_is_named_at_once() {
    let bastion = Bastion::new();
    let with_variable = |command: &mut Command| {
        command.env("HOLISTICS_TUNNEL_CA_CERT", "/nowhere.pem");
    };
    is_refused(
        &bastion,
        with_variable,
        FAILED,
        &["/nowhere.pem", "--ca-cert"],
    );
}

#[test]
fn a_server_that_is_reached_by_plain_http_over_a_network_gives_no_program() {
    let vendor = Vendor::with(|arguments| Server::start_called("vendor.example", None, arguments));
    let bastion = Bastion::new();
    let before = bastion.snapshot();
    let source = vendor.data_source();
    let port = vendor.server.url.rsplit(':').next().expect("a port");
    let fetch = format!("curl -fsSL --connect-to ::127.0.0.1:{port}");
    let left = vendor.data_source();
    vendor.operator.enroll_nobody(&left);
    let removal = vendor.operator.delete(left.id);
    for url in [url_of(&source), crate::bootstrap::url_in(&removal.command)] {
        bastion
            .run(&mut shell(&bastion, &format!("{fetch} {url} | sh")))
            .expect_code(FAILED)
            .expect_words(&["plain http", "https", "--tls-cert"]);
    }
    before.assert_same(&bastion.snapshot());
}
