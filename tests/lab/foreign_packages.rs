//! Packages of somebody else's that are broken, and what else keeps a package manager from ending well
//! though it did what was asked for, or from doing it at all.

use holistics_tunnel::protocol::DataSourceState;

use crate::FAILED;
use crate::packages::{added, is_left_by_purged_packages, packages, rpm_packages};
use crate::setup::{remove, setup_fails, setup_works_and_says};
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::Image;
use crate::support::hosts::mirror::dnf_repository;
use crate::support::process::Finished;

const FAILING: &str = "#!/bin/sh\necho the agent cannot start >&2\nexit 1\n";

#[test]
fn a_foreign_package_whose_script_fails_stops_neither_setup_nor_removal_and_is_named() {
    let lab = HostLab::boot(Image::Debian);
    install_foreign_agent(&lab.host, "", FAILING);
    assert_eq!(state_of_foreign_agent(&lab.host), "iF ");
    let (source, setup) = setup_works_and_says(&lab, "");
    setup.expect_words(&[
        "apt-get ended with status 100",
        "foreign-agent",
        "sudo dpkg --configure -a",
    ]);
    // Both of apt's streams: what dpkg says, and what apt says of it.
    let log = lab.host.run("ada", "cat ~/.holistics/logs/setup-*.log");
    log.expect_code(0).expect_words(&[
        "Setting up autossh",
        "the agent cannot start",
        "E: Sub-process",
    ]);

    remove(&lab, &source).expect_code(0);
    assert_eq!(state_of_foreign_agent(&lab.host), "iF ");
}

#[test]
fn a_foreign_package_in_whose_place_ours_cannot_be_configured_is_named_and_nothing_of_ours_stays() {
    let lab = HostLab::boot(Image::Debian);
    let provides = "Provides: libedit2 (= 3.1-20221030-2)\n";
    install_foreign_agent(&lab.host, provides, FAILING);
    fails_and_leaves_nothing(&lab, "").expect_words(&[
        "foreign-agent",
        "the agent cannot start",
        "E: Sub-process",
        "sudo dpkg --configure -a",
    ]);
}

#[test]
fn a_package_of_ours_whose_script_fails_is_named_and_goes_again_beside_a_broken_one() {
    let lab = HostLab::boot(Image::Debian);
    install_foreign_agent(&lab.host, "", FAILING);
    // openssh-client makes a group when it is installed.
    lab.host.write("/etc/group.lock", "1");
    fails_and_leaves_nothing(&lab, "").expect_words(&[
        "openssh-client",
        "cannot lock /etc/group",
        "sudo apt-get install openssh-client",
    ]);
}

#[test]
fn packages_with_unmet_dependencies_are_named_before_anything_is_changed() {
    let lab = HostLab::boot(Image::Debian);
    lab.host.run("root", "apt-get update").expect_code(0);
    install_foreign_agent(&lab.host, "Depends: nobody-has-it\n", "#!/bin/sh\n");
    is_refused(&lab).expect_words(&["foreign-agent", "sudo apt-get -f install"]);
}

#[test]
fn a_dpkg_that_was_interrupted_is_told_before_anything_is_changed() {
    let lab = HostLab::boot(Image::Debian);
    lab.host.write("/var/lib/dpkg/updates/0001", "");
    is_refused(&lab).expect_words(&["dpkg was interrupted", "sudo dpkg --configure -a"]);
}

#[test]
fn a_package_that_is_held_is_told_before_anything_is_changed() {
    let lab = HostLab::boot(Image::Debian);
    lab.host
        .run("root", "apt-get update && apt-mark hold curl")
        .expect_code(0);
    is_refused(&lab).expect_words(&["curl", "held", "sudo apt-mark unhold curl"]);
}

#[test]
fn a_foreign_package_that_would_have_to_go_is_not_removed() {
    let lab = HostLab::boot(Image::Debian);
    lab.host.run("root", "apt-get update").expect_code(0);
    install_foreign_agent(&lab.host, "Conflicts: openssh-client\n", "#!/bin/sh\n");
    is_refused(&lab).expect_words(&["remove foreign-agent", "openssh-client"]);
    assert_eq!(state_of_foreign_agent(&lab.host), "ii ");
}

#[test]
fn a_program_that_is_diverted_is_told_before_anything_is_changed() {
    let lab = HostLab::boot(Image::Debian);
    let divert = "dpkg-divert --local --rename --divert /usr/bin/ssh.real --add /usr/bin/ssh";
    lab.host.run("root", divert).expect_code(0);
    is_refused(&lab).expect_words(&["/usr/bin/ssh.real", "sudo dpkg-divert"]);
}

#[test]
fn a_read_only_usr_is_told_before_anything_is_changed() {
    for image in [Image::Debian, Image::Rpm] {
        let lab = HostLab::boot(image);
        let line = "mount --rbind /usr /usr && mount -o remount,bind,ro /usr";
        lab.host.run("root", line).expect_code(0);
        is_refused(&lab).expect_words(&["/usr is on a file system that is read-only", "autossh"]);
    }
}

#[test]
fn a_foreign_trigger_that_fails_on_a_red_hat_host_is_named_and_rpm_is_asked_what_is_there() {
    let lab = HostLab::boot(Image::Rpm);
    let host = &lab.host;
    host.write(
        "/etc/yum.repos.d/lab.repo",
        dnf_repository("without-autossh"),
    );
    install_foreign_rpm(
        host,
        "",
        "%triggerin -p <lua> -- gcc\nerror(\"cannot begin\")\n\
         %triggerun -p <lua> -- gcc\nerror(\"cannot end\")\n",
    );
    // Whatever a version of them makes of such a failure: they do their work, and end with 1.
    for (program, verb) in [("dnf", "install"), ("rpm", "-e")] {
        let wrapper = format!(
            "mv /usr/bin/{program} /usr/bin/{program}.real\n\
             printf '#!/bin/sh\\n/usr/bin/{program}.real \"$@\" || exit\\n[ \"$1\" != {verb} ]\\n' \
             >/usr/bin/{program}\nchmod 755 /usr/bin/{program}"
        );
        host.run("root", &wrapper).expect_code(0);
    }
    let before = rpm_packages(host);
    let source = "--autossh-source http://mirror.example/rpm/source/autossh-1.4g.tgz";
    let (source, setup) = setup_works_and_says(&lab, source);
    setup.expect_words(&[
        "dnf ended with status 1",
        "foreign-agent",
        "rpm ended with status 1",
    ]);
    assert_eq!(rpm_packages(host), before, "the compiler has stayed");
    let log = host.run("ada", "cat ~/.holistics/logs/setup-*.log");
    log.expect_code(0)
        .expect_words(&["cannot begin", "cannot end", "Complete!"]);
    remove(&lab, &source).expect_code(0);
}

/// Setup rolls back, with all that it had installed; the foreign package is as it was.
#[track_caller]
fn fails_and_leaves_nothing(lab: &HostLab, arguments: &str) -> Finished {
    let (before, state) = (packages(&lab.host), state_of_foreign_agent(&lab.host));
    let finished = setup_fails(lab, arguments, is_left_by_purged_packages);
    assert_eq!(added(&before, packages(&lab.host)), Vec::<String>::new());
    assert_eq!(state_of_foreign_agent(&lab.host), state);
    finished
}

/// Setup is told no before it has changed anything.
#[track_caller]
fn is_refused(lab: &HostLab) -> Finished {
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let finished = lab.run_setup("ada", &source, "").expect_code(FAILED);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
    finished
}

/// A package of somebody else's with this script, installed as far as that comes.
fn install_foreign_agent(host: &Host, control: &str, postinst: &str) {
    let control = format!(
        "Package: foreign-agent\nVersion: 1.0\nArchitecture: all\n\
         Maintainer: Somebody <somebody@example.com>\n{control}Description: somebody else's\n"
    );
    host.run("root", "mkdir -p /tmp/agent/DEBIAN")
        .expect_code(0);
    host.write("/tmp/agent/DEBIAN/control", control);
    host.write("/tmp/agent/DEBIAN/postinst", postinst);
    host.run(
        "root",
        "cd /tmp && chmod 755 agent/DEBIAN/postinst && dpkg-deb --build agent && dpkg --install agent.deb; \
         dpkg-query --show foreign-agent",
    )
    .expect_code(0);
}

fn state_of_foreign_agent(host: &Host) -> String {
    let query = "dpkg-query --show --showformat '${db:Status-Abbrev}' foreign-agent";
    host.run("root", query).expect_code(0).stdout
}

/// The same by RPM. Its scripts are in Lua, which RPM has in itself.
pub fn install_foreign_rpm(host: &Host, header: &str, scripts: &str) {
    let spec = format!(
        "Name: foreign-agent\nVersion: 1.0\nRelease: 1\nSummary: somebody else's\nLicense: none\n\
         BuildArch: noarch\nAutoReqProv: no\n{header}%description\nx\n{scripts}%files\n"
    );
    host.write("/tmp/agent.spec", spec);
    host.run(
        "root",
        "rpmbuild --quiet -bb --define '_topdir /tmp/build' /tmp/agent.spec && \
         rpm --install /tmp/build/RPMS/noarch/*.rpm",
    )
    .expect_code(0);
}
