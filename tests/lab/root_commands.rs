//! Root's commands that are cut short: they are over before anything goes on.

use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::process::{Finished, Running};
use crate::{FAILED, INTERRUPTED, USAGE};

/// Stands before the real one on sudo's own path.
const SLOW_INSTALL: &str = "/usr/local/bin/install";
/// What the slow one does; by its time it is told from other sleeps.
const SLEEP: &str = "sleep 3421";
/// More than what ends by itself, and less than what is ended by the end of the test.
const END_LIMIT: Duration = Duration::from_secs(90);
/// sudo's rules that come last.
const RULES: &str = "/etc/sudoers.d/zz-lab";
const PASSWORD: &str = "open sesame";

/// A host on which root's `install` does not end, and a setup that will run it.
struct SlowHost {
    lab: HostLab,
    source: DataSource,
}

impl SlowHost {
    /// `install` does this before its work, in the shell.
    fn boot(before_its_work: &str) -> Self {
        let lab = HostLab::boot(Image::DebianReady);
        let script = format!(
            "#!/bin/sh\n\
             if [ \"$(id -u)\" = 0 ]; then\n{before_its_work}\nfi\n\
             exec /usr/bin/install \"$@\"\n"
        );
        lab.host.write(SLOW_INSTALL, script);
        let allow = format!("chmod 755 {SLOW_INSTALL}");
        lab.host.run("root", &allow).expect_code(0);
        let source = lab.data_source("Shop");
        SlowHost { lab, source }
    }

    /// Brings setup to root's `install`; returns the disk as it was before.
    fn reach(&self, setup: &Running, sleep: &str) -> Disk {
        self.lab.wait_until_connected(&self.source, setup);
        let disk = Disk::of(&self.lab.host);
        self.lab.operator.save(self.source.id);
        setup.wait_until("root's command", SETUP_LIMIT, || self.is_asleep(sleep));
        disk
    }

    fn is_asleep(&self, sleep: &str) -> bool {
        let search = format!("pgrep --full --exact '{sleep}'");
        self.lab.host.run("root", &search).code == 0
    }

    /// As systemd or an impatient administrator does. The system cuts the name of a program short.
    fn send_term(&self) {
        self.lab
            .host
            .run("root", "pkill -TERM --exact holistics-tunne")
            .expect_code(0);
    }

    /// What setup started is over, and the system's files are as before.
    #[track_caller]
    fn assert_over(&self, before: &Disk, sleep: &str, finished: &Finished) {
        assert!(!self.is_asleep(sleep), "it runs on after\n{finished}");
        let after = Disk::of(&self.lab.host);
        before.assert_same(&after, |path| path.starts_with("/home/"));
    }

    /// The same, and ada's same command goes on from here.
    #[track_caller]
    fn assert_undone(&self, before: &Disk, sleep: &str, finished: &Finished) {
        self.assert_over(before, sleep, finished);
        std::fs::remove_file(self.lab.host.path(SLOW_INSTALL)).expect("it is there");
        let setup = self.lab.start_setup("ada", &self.source, "");
        setup.wait(SETUP_LIMIT).expect_code(0);
        self.lab.wait_until_rows_come(&self.source, END_LIMIT);
    }
}

#[test]
fn ctrl_c_ends_a_command_of_root_that_does_not_want_to_end() {
    // sudo gives it a terminal, and so a session, of its own.
    let host = SlowHost::boot(&format!("trap '' INT TERM HUP; {SLEEP}"));
    let mut setup = host.lab.setup_at_terminal("ada", &host.source, "--yes");
    let before = host.reach(setup.program(), SLEEP);
    setup.press_ctrl_c();
    let finished = setup.wait(END_LIMIT).expect_code(INTERRUPTED);
    host.assert_undone(&before, SLEEP, &finished);
}

#[test]
fn sigterm_ends_a_command_of_root_with_all_that_it_has_started() {
    // Among it is one without a parent.
    let host = SlowHost::boot(&format!("({SLEEP} &)\n{SLEEP} & {SLEEP}"));
    let setup = host.lab.start_setup("ada", &host.source, "");
    let before = host.reach(&setup, SLEEP);
    host.send_term();
    let finished = setup.wait(END_LIMIT).expect_code(INTERRUPTED);
    host.assert_undone(&before, SLEEP, &finished);
}

#[test]
fn a_command_of_root_that_takes_too_long_is_ended_before_its_step_is_undone() {
    let host = SlowHost::boot(SLEEP);
    let setup = host.lab.start_setup("ada", &host.source, "");
    let before = host.reach(&setup, SLEEP);
    let finished = setup
        .wait(END_LIMIT)
        .expect_code(FAILED)
        .expect_words(&["did not end within 30 s"]);
    host.assert_undone(&before, SLEEP, &finished);
}

#[test]
fn a_command_of_root_that_may_not_be_ended_is_waited_for() {
    const SLEEP: &str = "sleep 26.5";
    let host = SlowHost::boot(&format!("trap '' TERM; {SLEEP}"));
    let setup = host.lab.start_setup("ada", &host.source, "");
    let before = host.reach(&setup, SLEEP);
    host.lab
        .host
        .write(RULES, "ada ALL=(ALL) NOPASSWD: ALL, !/usr/bin/kill\n");
    host.send_term();
    let begun = Instant::now();
    let finished = setup.wait(END_LIMIT).expect_code(INTERRUPTED);
    assert!(begun.elapsed() > Duration::from_secs(20), "{finished}");
    std::fs::remove_file(host.lab.host.path(RULES)).expect("it is there");
    host.assert_undone(&before, SLEEP, &finished);
}

#[test]
fn ctrl_c_after_sudo_has_forgotten_the_password_asks_for_it_to_end_the_command() {
    let host = SlowHost::boot(SLEEP);
    // In minutes.
    let forgetful = "Defaults:carol timestamp_timeout=0.1\n";
    host.lab.host.write(RULES, forgetful);
    let mut setup = host.lab.setup_at_terminal("carol", &host.source, "--yes");
    let asks = |what: &str| format!("{what} requires root. Password of carol");
    let limit = SETUP_LIMIT;
    let at_first = asks("Installing packages and the service");
    setup.program().wait_for_output(&at_first, limit);
    setup.enter(PASSWORD);
    host.lab.wait_until_connected(&host.source, setup.program());
    let before = Disk::of(&host.lab.host);
    host.lab.host.run("root", "sleep 7").expect_code(0);
    host.lab.operator.save(host.source.id);
    setup.program().wait_for_output(&asks("Going on"), limit);
    setup.enter(PASSWORD);
    setup
        .program()
        .wait_until("root's command", limit, || host.is_asleep(SLEEP));
    host.lab.host.run("root", "sleep 7").expect_code(0);
    setup.press_ctrl_c();
    let to_end = asks("Ending the command");
    setup.program().wait_for_output(&to_end, limit);
    setup.enter(PASSWORD);
    let finished = setup.wait(END_LIMIT).expect_code(INTERRUPTED);
    host.assert_over(&before, SLEEP, &finished);
}

#[test]
fn a_sudo_that_forgets_the_password_at_once_is_refused_before_anything_is_done() {
    let lab = HostLab::boot(Image::DebianReady);
    let forgetful = "Defaults:carol timestamp_timeout=0\n";
    lab.host.write(RULES, forgetful);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let mut setup = lab.setup_at_terminal("carol", &source, "--yes");
    let screen = setup.program();
    screen.wait_for_output("Password of carol", SETUP_LIMIT);
    setup.enter(PASSWORD);
    setup
        .wait(END_LIMIT)
        .expect_code(USAGE)
        .expect_words(&["remember carol's password", "timestamp_timeout"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}
