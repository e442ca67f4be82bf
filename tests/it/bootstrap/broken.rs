//! Downloads that go wrong: nothing is installed, and nothing half-made stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::bootstrap::vendor::Vendor;
use crate::bootstrap::{FAILED, SHELLS, content, program_of, run, shell, stalling_line, url_of};
use crate::support::bastion::Bastion;
use crate::support::process::{self, Running};
use crate::support::pty::{Input, Pty};
use crate::support::snapshot::Snapshot;
use crate::support::wait;

/// How long a download may take until its first bytes are there.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);
/// How long a script may take to end that was told to; nothing of it waits for the download's end.
const END_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_program_that_is_not_the_one_the_script_names_is_not_installed() {
    let vendor = Vendor::new();
    for shell in SHELLS {
        let bastion = Bastion::new();
        let before = bastion.snapshot();
        vendor.offered.put(b"#!/bin/sh\nexit\n");
        let script = vendor.script(&bastion);
        vendor
            .offered
            .put(b"#!/bin/sh\necho evil >\"$HOME/evil\"\n");
        run(&bastion, &format!("{shell} -s <{}", script.display()))
            .expect_code(FAILED)
            .expect_words(&["damaged", "SHA-256", "Run the same command again"]);
        before.assert_same(&bastion.snapshot());
    }
}

#[test]
fn a_damaged_download_leaves_the_former_program_as_it_was() {
    let vendor = Vendor::new();
    let bastion = Bastion::new();
    let line = format!("curl -fsSL {} | sh", url_of(&vendor.data_source()));
    run(&bastion, &line).expect_code(0);
    let before = bastion.snapshot();
    vendor.offered.put(b"#!/bin/sh\nexit\n");
    let script = vendor.script(&bastion);
    vendor.offered.put(b"#!/bin/sh\nexit 7\n");
    run(&bastion, &format!("sh -s <{}", script.display())).expect_code(FAILED);
    before.assert_same(&bastion.snapshot());
}

#[test]
fn a_signal_ends_the_download_at_once_and_nothing_stays() {
    let vendor = Vendor::with_a_large_program();
    let signals = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];
    for shell in SHELLS {
        for (signal, code) in signals {
            let bastion = Bastion::new();
            let (before, download) = stalled_download(&vendor, &bastion, shell);
            download.signal(signal);
            download.wait(END_LIMIT).expect_code(code);
            before.assert_same(&bastion.snapshot());
            wait::until_true("the end of curl", END_LIMIT, String::new, || {
                process::naming(&bastion.home()).is_empty()
            });
        }
    }
}

#[test]
fn ctrl_c_ends_the_download_and_nothing_stays() {
    let vendor = Vendor::with_a_large_program();
    let bastion = Bastion::new();
    let before = bastion.snapshot();
    let script = script_that_stalls(&vendor, &bastion);
    let line = format!("cat {} | sh", script.display());
    let mut command = shell(&bastion, &line);
    let mut screen = Pty::start(command.env("TERM", "xterm"), 80, Input::Terminal);
    // A person sees that it goes on.
    wait_until_it_has_begun(&bastion, || screen.screen());
    screen.wait_for("downloading the program", BEGIN_LIMIT);
    screen.wait_for("%", BEGIN_LIMIT);
    screen.press("\x03");
    assert_eq!(screen.wait(END_LIMIT), 130);
    before.assert_same(&bastion.snapshot());
}

#[test]
fn a_server_that_goes_away_during_the_download_leaves_nothing_on_the_bastion() {
    let mut vendor = Vendor::with_a_large_program();
    let bastion = Bastion::new();
    let (before, download) = stalled_download(&vendor, &bastion, "sh");
    vendor.server.kill();
    download
        .wait(BEGIN_LIMIT)
        .expect_code(FAILED)
        .expect_words(&["cannot download", "run the same command again"]);
    before.assert_same(&bastion.snapshot());
}

#[test]
fn a_download_that_is_killed_leaves_nothing() {
    let vendor = Vendor::with_a_large_program();
    for shell in SHELLS {
        let bastion = Bastion::new();
        let (before, download) = stalled_download(&vendor, &bastion, shell);
        let curl = bastion.processes("curl");
        assert_eq!(curl.len(), 1, "{curl:?}");
        process::signal(&curl[0], Signal::KILL);
        download
            .wait(END_LIMIT)
            .expect_code(FAILED)
            .expect_words(&["cannot download"]);
        before.assert_same(&bastion.snapshot());
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_half_made_stays() {
    let vendor = Vendor::with_a_large_program();
    for fetcher in ["curl", "wget"] {
        let bastion = Bastion::without(&[if fetcher == "curl" { "wget" } else { "curl" }]);
        let script = vendor.script(&bastion);
        run(&bastion, &on_a_disk_of_its_own("size=1m", &script))
            .expect_code(FAILED)
            .expect_words(&["cannot be written", "full", "left: ."]);
    }
}

#[test]
fn a_home_from_which_nothing_can_be_run_is_named() {
    let vendor = Vendor::new();
    let bastion = Bastion::new();
    let script = vendor.script(&bastion);
    run(&bastion, &on_a_disk_of_its_own("noexec", &script))
        .expect_code(FAILED)
        .expect_words(&["noexec", "left: ."]);
}

/// A script whose download begins and does not end.
fn script_that_stalls(vendor: &Vendor, bastion: &Bastion) -> PathBuf {
    let script = vendor.script(bastion);
    let (server, line) = (&vendor.server.url, stalling_line::to(&vendor.server.url));
    std::fs::write(&script, content(&script).replace(server, &line)).expect("the script");
    script
}

/// A download in the background of which the first bytes are there, with what the disk held before.
fn stalled_download(vendor: &Vendor, bastion: &Bastion, with_shell: &str) -> (Snapshot, Running) {
    let script = script_that_stalls(vendor, bastion);
    let before = bastion.snapshot();
    let line = format!("exec {with_shell} -s <{}", script.display());
    let download = bastion.start(&mut shell(bastion, &line));
    wait_until_it_has_begun(bastion, || download.output());
    (before, download)
}

#[track_caller]
fn wait_until_it_has_begun(bastion: &Bastion, evidence: impl Fn() -> String) {
    let bin = program_of(bastion);
    let bin = bin.parent().expect("a folder");
    wait::until_true("the download", BEGIN_LIMIT, evidence, || {
        let files = bin.read_dir().into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        sizes.sum::<u64>() > 0
    });
}

/// The line that runs a script with the home on a file system of its own, mounted with these options in
/// a namespace that nobody else sees, and shows what is left there.
fn on_a_disk_of_its_own(options: &str, script: &Path) -> String {
    format!(
        "unshare --user --map-root-user --mount sh -c '
            mount -t tmpfs -o {options} none \"$HOME\" && cd \"$HOME\" || exit 99
            sh -s <{}
            status=$?
            echo left: $(find .)
            exit $status'",
        script.display()
    )
}
