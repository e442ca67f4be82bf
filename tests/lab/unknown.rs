//! Distributions that setup has never heard of: it goes by the package manager and the init that are there.

use crate::setup::{remove, setup_works};
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::Image;
use crate::support::hosts::mirror::dnf_repository;

const OPENEULER: &str = include_str!("../../distro-fixtures/openeuler-22.03/usr/lib/os-release");
const HOME_MADE: &str = include_str!("../../distro-fixtures/home-made-apt/usr/lib/os-release");

/// A host that calls itself something else from here on.
fn renamed(image: Image, os_release: &str) -> HostLab {
    let lab = HostLab::boot(image);
    let line = "rm -f /etc/*-release /usr/lib/os-release /etc/debian_version";
    lab.host.run("root", line).expect_code(0);
    if !os_release.is_empty() {
        lab.host.write("/etc/os-release", os_release);
    }
    lab
}

/// Setup and removal, with what the plan and doctor say of the host.
fn works(lab: &HostLab, says: &[&str], may_change: fn(&str) -> bool) {
    let disk = Disk::of(&lab.host);
    let plan = lab.host.run("ada", "holistics-tunnel plan --json");
    let plan = plan.expect_code(0).json();
    assert_eq!(plan["supported"], true, "{plan:#}");
    let source = lab.data_source("Plan");
    lab.run_setup("ada", &source, "--dry-run")
        .expect_code(0)
        .expect_words(says);
    let source = setup_works(lab, "");
    let doctor = lab.host.run("ada", "holistics-tunnel doctor");
    doctor.expect_words(says);
    remove(lab, &source).expect_code(0);
    disk.assert_same(&Disk::of(&lab.host), may_change);
}

#[test]
fn openeuler_gets_autossh_by_its_dnf() {
    let lab = renamed(Image::Rpm, OPENEULER);
    let repository = dnf_repository("with-autossh");
    lab.host.write("/etc/yum.repos.d/lab.repo", repository);
    works(
        &lab,
        &["openEuler 22.03 (LTS-SP3)", "rpm", "systemd"],
        |path| path == "/usr/bin/autossh" || path.starts_with("/var/lib/rpm/"),
    );
}

#[test]
fn a_home_made_distribution_gets_its_packages_by_its_apt() {
    let lab = renamed(Image::Debian, HOME_MADE);
    let says = ["Acme 4", "apt and dpkg", "systemd"];
    // What setup has installed stays, as on Debian.
    works(&lab, &says, |path| {
        let is_packages = ["/usr", "/etc", "/var/lib/dpkg"]
            .iter()
            .any(|dir| path.starts_with(dir));
        is_packages && !path.contains("h_autossh")
    });
}

#[test]
fn a_host_without_a_known_package_manager_is_set_up_where_all_is_there() {
    let lab = renamed(Image::DebianReady, "ID=arch\nPRETTY_NAME=\"Arch Linux\"\n");
    lab.host.run("root", "rm /usr/bin/apt-get").expect_code(0);
    let says = ["Arch Linux", "nothing has to be installed", "systemd"];
    works(&lab, &says, |_| false);
}
