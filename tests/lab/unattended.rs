//! Setup and removal that no person has started: as a machine's first commands are.

use holistics_tunnel::protocol::DataSourceState;

use crate::setup::{generated_command, removal_command};
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::lab::SERVICE_LIMIT;
use crate::support::process::Running;

#[test]
fn a_unit_of_root_s_without_home_or_terminal_sets_up_and_removes() {
    let lab = HostLab::boot(Image::DebianReady);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let setup = start_unit(&lab.host, &generated_command(&source));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    lab.host
        .run("root", "test -e /root/.holistics/receipt.json")
        .expect_code(0);

    let removal = start_unit(&lab.host, &removal_command(&lab, &source));
    removal.wait(SETUP_LIMIT).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
}

/// A unit gives neither a terminal nor HOME to what it runs as root.
fn start_unit(host: &Host, line: &str) -> Running {
    let script = shell_words::quote(line);
    let line = format!("exec systemd-run --quiet --wait --pipe sh -c {script} </dev/null");
    host.start("root", &line)
}
