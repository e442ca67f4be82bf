//! The Red Hat family: dnf, and autossh compiled from its source.

use std::time::Instant;

use crate::foreign_packages::install_foreign_rpm;
use crate::packages::{added, packages_in_receipt, rpm_packages};
use crate::setup::{remove, setup_fails, setup_works};
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::Image;
use crate::support::hosts::mirror::dnf_repository;
use crate::support::lab::SERVICE_LIMIT;
use crate::support::process::Finished;

const DNF_REPOSITORY: &str = "/etc/yum.repos.d/lab.repo";
const AUTOSSH_SOURCE: &str = "--autossh-source http://mirror.example/rpm/source/autossh-1.4g.tgz";

#[test]
fn a_red_hat_host_gets_autossh_from_its_repository_by_dnf() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("with-autossh"));
    let (disk, before) = (Disk::of(&lab.host), rpm_packages(&lab.host));
    let source = setup_works(&lab, "");
    assert_eq!(added(&before, rpm_packages(&lab.host)), ["autossh"]);
    let recorded = packages_in_receipt(&lab.host);
    assert!(
        recorded.iter().any(|name| name.starts_with("autossh")),
        "{recorded:?}"
    );

    remove(&lab, &source).expect_code(0);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        path == "/usr/bin/autossh" || path.starts_with("/var/lib/rpm/")
    });
}

#[test]
fn a_red_hat_host_whose_repositories_lack_autossh_compiles_it_from_its_source() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("without-autossh"));
    let (disk, before) = (Disk::of(&lab.host), rpm_packages(&lab.host));
    let began = Instant::now();
    let source = setup_works(&lab, AUTOSSH_SOURCE);
    figures::say(&format!(
        "compiled and set up in {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    lab.host
        .run("ada", "/usr/local/bin/autossh -V")
        .expect_code(0)
        .expect_words(&["1.4g"]);
    assert_eq!(rpm_packages(&lab.host), before, "the compiler has stayed");

    remove(&lab, &source).expect_code(0);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        path.starts_with("/var/lib/rpm/")
    });
}

#[test]
fn a_source_that_is_not_autossh_s_is_not_compiled_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("without-autossh"));
    let wrong = "--autossh-source http://mirror.example/debian/Packages";
    setup_fails_on_rpm_without_a_trace(&lab, wrong).expect_words(&["SHA-256"]);
}

#[test]
fn a_red_hat_host_without_a_compiler_to_be_had_is_told_so_and_is_as_before() {
    let lab = HostLab::boot(Image::Rpm);
    let mut repository = dnf_repository("without-autossh");
    repository.push_str("excludepkgs=gcc\n");
    lab.host.write(DNF_REPOSITORY, &repository);
    setup_fails_on_rpm_without_a_trace(&lab, AUTOSSH_SOURCE).expect_words(&["gcc"]);
}

#[test]
fn a_red_hat_host_that_cannot_reach_its_mirror_is_told_so_and_is_as_before() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("with-autossh"));
    lab.network.cut_mirror();
    setup_fails_on_rpm_without_a_trace(&lab, AUTOSSH_SOURCE).expect_words(&["mirror", "reach"]);
}

#[test]
fn a_third_party_repository_that_is_broken_keeps_dnf_from_nothing() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("with-autossh"));
    let third = dnf_repository("nowhere").replace("[lab]", "[third]");
    lab.host.write("/etc/yum.repos.d/third.repo", third);
    let before = rpm_packages(&lab.host);
    let source = setup_works(&lab, "");
    assert_eq!(added(&before, rpm_packages(&lab.host)), ["autossh"]);
    // Both of dnf's streams.
    let log = "cat ~/.holistics/logs/setup-*.log";
    let log = lab.host.run("ada", log).expect_code(0);
    log.expect_words(&["Failed to download metadata for repo 'third'", "Complete!"]);
    remove(&lab, &source).expect_code(0);
}

#[test]
fn what_keeps_dnf_from_autossh_is_told_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Rpm);
    let unsigned = dnf_repository("with-autossh").replace("gpgcheck=0", "gpgcheck=1");
    lab.host.write(DNF_REPOSITORY, unsigned);
    setup_fails_on_rpm_without_a_trace(&lab, "").expect_words(&[
        "could not install autossh",
        "signature cannot be checked",
        "gpgkey",
    ]);

    lab.host
        .write(DNF_REPOSITORY, dnf_repository("with-autossh"));
    install_foreign_rpm(&lab.host, "Conflicts: autossh\n", "");
    setup_fails_on_rpm_without_a_trace(&lab, "").expect_words(&[
        "could not install autossh",
        "foreign-agent",
        "conflicts with",
    ]);

    // With the lock of a dnf that runs; and then it ends.
    lab.host
        .run("root", "rpm --erase foreign-agent")
        .expect_code(0);
    let hold = "echo $$ >/var/cache/dnf/metadata_lock.pid; echo held; exec sleep 15";
    let holder = lab.host.start("root", hold);
    holder.wait_for_output("held", SERVICE_LIMIT);
    setup_works(&lab, "");
    holder.wait(SERVICE_LIMIT).expect_code(0);
    let log = "cat ~/.holistics/logs/setup-*.log";
    let log = lab.host.run("ada", log).expect_code(0);
    log.expect_words(&["already locked"]);
}

/// The same where RPM's database, a binary file, may hold the same packages in another order.
#[track_caller]
fn setup_fails_on_rpm_without_a_trace(lab: &HostLab, arguments: &str) -> Finished {
    let packages = rpm_packages(&lab.host);
    let finished = setup_fails(lab, arguments, |path| path.starts_with("/var/lib/rpm/"));
    assert_eq!(rpm_packages(&lab.host), packages);
    finished
}
