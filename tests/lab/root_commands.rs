//! Root's commands that are cut short: they are over before anything goes on.

use std::time::Duration;

use holistics_tunnel::protocol::DataSource;

use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::hosts::terminal::Terminal;
use crate::support::process::Finished;
use crate::{FAILED, INTERRUPTED};

/// Before sudo's own choice on its path. By its time of sleep, a process of it is known.
const SLOW_INSTALL: &str = "/usr/local/bin/install";
const SLEEP: &str = "sleep 3421";
/// Who says that it is over while it is not has ended long before.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A setup at the moment at which root's first `install` has begun and does not end.
struct Hanging {
    lab: HostLab,
    source: DataSource,
    setup: Terminal,
    before: Disk,
}

impl Hanging {
    /// With this in front of the sleep, in the shell.
    fn begin(preparation: &str, sleep: &str) -> Self {
        let lab = HostLab::boot(Image::DebianReady);
        let script = format!(
            "#!/bin/sh\n[ \"$(id -u)\" != 0 ] || {{ {preparation}\n{sleep}\n}}\nexec /usr/bin/install \"$@\"\n"
        );
        lab.host.write(SLOW_INSTALL, script);
        lab.host
            .run("root", &format!("chmod 755 {SLOW_INSTALL}"))
            .expect_code(0);
        let source = lab.data_source("Shop");
        let setup = lab.setup_at_terminal("ada", &source, "--yes");
        lab.wait_until_connected(&source, setup.program());
        let before = Disk::of(&lab.host);
        lab.operator.save(source.id);
        setup
            .program()
            .wait_until("root's command", SETUP_LIMIT, || is_asleep(&lab.host));
        Hanging {
            lab,
            source,
            setup,
            before,
        }
    }

    /// Waits for setup's end. Whatever it started is over, and the system's files are as before.
    #[track_caller]
    fn ends(self, code: i32) -> Finished {
        let finished = self.setup.wait(END_LIMIT).expect_code(code);
        assert!(!is_asleep(&self.lab.host), "{finished}");
        let home = "/home/ada";
        let after = Disk::of(&self.lab.host);
        self.before
            .assert_same(&after, |path| path.starts_with(home));

        // The same command goes on from here.
        std::fs::remove_file(self.lab.host.path(SLOW_INSTALL)).expect("it is there");
        let setup = self.lab.start_setup("ada", &self.source, "");
        setup.wait(SETUP_LIMIT).expect_code(0);
        self.lab.wait_until_rows_come(&self.source, END_LIMIT);
        finished
    }
}

fn is_asleep(host: &Host) -> bool {
    host.run("root", &format!("pgrep --full --exact '{SLEEP}'"))
        .code
        == 0
}

fn send_term(host: &Host) {
    host.run("root", "pkill -TERM --exact holistics-tunn")
        .expect_code(0);
}

#[test]
fn ctrl_c_ends_a_command_of_root_before_the_step_is_undone() {
    let mut hanging = Hanging::begin("", SLEEP);
    hanging.setup.press_ctrl_c();
    hanging.ends(INTERRUPTED);
}

#[test]
fn sigterm_ends_a_command_of_root_that_does_not_want_to_end() {
    // A child that ignores it, and one that outlives its parent.
    let hanging = Hanging::begin("trap '' TERM", &format!("{SLEEP} & {SLEEP}"));
    send_term(&hanging.lab.host);
    hanging.ends(INTERRUPTED);
}

#[test]
fn a_command_of_root_that_takes_too_long_is_ended_before_the_step_is_undone() {
    let hanging = Hanging::begin("", SLEEP);
    hanging.ends(FAILED).expect_words(&["install", "30 s"]);
}

#[test]
fn a_command_of_root_that_root_may_not_end_is_waited_for() {
    const SLOW: &str = "sleep 20; touch /etc/late; sleep 2; rm /etc/late";
    let lab_s_sudoers = "ada ALL=(ALL) NOPASSWD: ALL, !/usr/bin/env *kill *\n";
    let hanging = Hanging::begin(&format!("{SLEEP} & pid=$!; {SLOW}; kill $pid"), "");
    hanging
        .lab
        .host
        .write("/etc/sudoers.d/zz-lab", lab_s_sudoers);
    send_term(&hanging.lab.host);
    hanging.lab.host.run("root", "sleep 1").expect_code(0);
    std::fs::remove_file(hanging.lab.host.path("/etc/sudoers.d/zz-lab")).expect("it is there");
    hanging.ends(INTERRUPTED);
}
