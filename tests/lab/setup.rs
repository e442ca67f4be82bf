//! Setups and removals brought to their ends.

use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::ROLLED_BACK;
use crate::support::bastion::KEY_TYPE;
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{AUTHORITY, HostLab};
use crate::support::lab::SERVICE_LIMIT;
use crate::support::process::{Finished, Running};

/// How long a tunnel may take to come back.
pub const RETURN_LIMIT: Duration = Duration::from_secs(120);

/// The whole of setup by ada, to a query through the service's tunnel.
#[track_caller]
pub fn setup_works(lab: &HostLab, arguments: &str) -> DataSource {
    setup_works_and_says(lab, arguments).0
}

/// The same, with what it said.
#[track_caller]
pub fn setup_works_and_says(lab: &HostLab, arguments: &str) -> (DataSource, Finished) {
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, arguments);
    lab.wait_until_connected(&source, &setup);
    let finished = lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    (source, finished)
}

/// Setup by ada that rolls back: the disk and the data source are as before.
#[track_caller]
pub fn setup_fails_without_a_trace(lab: &HostLab) -> Finished {
    setup_fails(lab, "", |_| false)
}

#[track_caller]
pub fn setup_fails(lab: &HostLab, arguments: &str, may_change: fn(&str) -> bool) -> Finished {
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let finished = lab
        .run_setup("ada", &source, arguments)
        .expect_code(ROLLED_BACK);
    disk.assert_same(&Disk::of(&lab.host), may_change);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
    finished
}

/// The command that the server generated, as ada types it, with the lab's own authority.
pub fn run_generated_command(lab: &HostLab, source: &DataSource) -> Running {
    lab.host.start("ada", &generated_command(source))
}

/// The command that the server generated, with the lab's own authority.
pub fn generated_command(source: &DataSource) -> String {
    let generated = &source.enrollment.as_ref().expect("a command").command;
    format!(
        "export CURL_CA_BUNDLE={AUTHORITY}; \
         {generated} -s -- --yes --key-type {KEY_TYPE}"
    )
}

/// The removal, from the browser's "Delete" to the end of its command.
pub fn remove(lab: &HostLab, source: &DataSource) -> Finished {
    lab.host.run("ada", &removal_command(lab, source))
}

/// The command after the browser's "Delete", with the lab's own authority.
pub fn removal_command(lab: &HostLab, source: &DataSource) -> String {
    let command = lab.operator.delete(source.id).command;
    format!("export CURL_CA_BUNDLE={AUTHORITY}; {command}")
}

/// Waits for the tunnel's return, and says how long it took.
#[track_caller]
pub fn comes_back(lab: &HostLab, source: &DataSource, after: &str, since: Instant) {
    lab.wait_until_rows_come(source, RETURN_LIMIT);
    figures::say(&format!(
        "after {after}: rows in {:.1} s",
        since.elapsed().as_secs_f64()
    ));
}
