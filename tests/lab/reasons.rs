//! A tunnel that its service manager cannot start: the service manager knows why, and is asked.

use std::time::{Duration, Instant};

use crate::FAILED;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::lab::SERVICE_LIMIT;

/// Less than setup waits for a tunnel that was started.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_unit_that_dies_before_its_program_runs_is_told_with_systemd_s_own_reason() {
    const DROP_IN: &str = "/etc/systemd/system/h_autossh@.service.d/admin.conf";
    let lab = HostLab::boot(Image::DebianReady);
    let folder = format!("mkdir {}", DROP_IN.trim_end_matches("/admin.conf"));
    lab.host.run("root", &folder).expect_code(0);
    // As in a container that may not make mounts, nothing of the unit can be set up.
    lab.host
        .write(DROP_IN, "[Service]\nInaccessiblePaths=/nowhere/at/all\n");
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.operator.save(source.id);
    let saved = Instant::now();
    setup.wait(SETUP_LIMIT).expect_code(FAILED).expect_words(&[
        "systemd could not start it",
        "226",
        "step NAMESPACE",
    ]);
    assert!(saved.elapsed() < SOON, "{:?}", saved.elapsed());

    let mend = format!("rm -r {}", DROP_IN.trim_end_matches("/admin.conf"));
    lab.host.run("root", &mend).expect_code(0);
    lab.run_setup("ada", &source, "").expect_code(0);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
}
