//! Debian, with and without what setup needs.

use std::collections::BTreeSet;

use holistics_tunnel::protocol::DataSourceState;

use crate::packages::{
    added, files_of_packages, is_left_by_purged_packages, packages, packages_in_receipt,
};
use crate::setup::remove;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::Image;
use crate::support::lab::SERVICE_LIMIT;

#[test]
fn debian_without_autossh_gets_it_by_apt_and_its_removal_leaves_packages_alone() {
    let lab = HostLab::boot(Image::Debian);
    let (disk, before) = (Disk::of(&lab.host), packages(&lab.host));
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    lab.host
        .run("ada", "sudo service h_autossh status")
        .expect_code(0);

    let installed: BTreeSet<_> = added(&before, packages(&lab.host)).into_iter().collect();
    for wanted in ["autossh", "curl", "openssh-client"] {
        assert!(installed.contains(wanted), "{wanted}: {installed:?}");
    }
    assert_eq!(packages_in_receipt(&lab.host), installed);

    let of_packages = files_of_packages(&lab.host, &installed);
    remove(&lab, &source).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        of_packages.contains(path) || is_left_by_purged_packages(path)
    });
}
