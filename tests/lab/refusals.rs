//! Users and hosts that setup sends away, with what they can do.

use holistics_tunnel::protocol::DataSourceState;

use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::lab::SERVICE_LIMIT;
use crate::{FAILED, USAGE};

#[test]
fn a_user_without_sudo_is_told_the_command_to_run_and_nothing_is_changed() {
    let lab = HostLab::boot(Image::Debian);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    lab.run_setup("bob", &source, "")
        .expect_code(USAGE)
        .expect_words(&["sudo", "bob"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_user_whose_sudo_asks_for_a_password_is_asked_once_at_the_terminal() {
    let lab = HostLab::boot(Image::Debian);
    let source = lab.data_source("Shop");
    lab.run_setup("carol", &source, "")
        .expect_code(USAGE)
        .expect_words(&["sudo true"]);

    let mut setup = lab.setup_at_terminal("carol", &source, "--yes");
    let screen = setup.program();
    screen.wait_for_output("Password of carol", SETUP_LIMIT);
    setup.enter("open sesame");
    lab.wait_until_connected(&source, setup.program());
    lab.operator.save(source.id);
    let finished = setup.wait(SETUP_LIMIT).expect_code(0);
    assert_eq!(
        finished.output().matches("Password").count(),
        1,
        "{finished}"
    );
    assert!(!finished.output().contains("sesame"), "{finished}");
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
}

#[test]
fn sudo_in_front_of_setup_is_refused_with_the_user_to_use() {
    let lab = HostLab::boot(Image::Debian);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let line = lab
        .setup_line(&source, "--yes")
        .replace("exec ", "sudo -E ");
    lab.host
        .run("ada", &line)
        .expect_code(USAGE)
        .expect_words(&["ada", "without sudo"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
}

#[test]
fn a_host_whose_units_are_part_of_an_image_is_told_before_a_key_is_registered() {
    let lab = HostLab::boot(Image::DebianReady);
    let line = "cd /etc/systemd && mount --bind system system && mount -o remount,bind,ro system";
    lab.host.run("root", line).expect_code(0);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    lab.run_setup("ada", &source, "")
        .expect_code(FAILED)
        .expect_words(&["/etc/systemd/system", "read-only", "--init none"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_host_whose_units_or_whose_home_has_no_room_is_told_before_a_key_is_registered() {
    for (user, full) in [("root", "/etc/systemd/system"), ("ada", "/home/ada")] {
        let lab = HostLab::boot(Image::DebianReady);
        let line = format!(
            "mkdir /kept && cp -a {full}/. /kept && mount -t tmpfs -o size=1m lab {full} && cp -a /kept/. {full} && \
             chown {user}: {full}"
        );
        lab.host.run("root", &line).expect_code(0);
        let source = lab.data_source("Shop");
        let fill = format!("dd if=/dev/zero of={full}/somebodys-own bs=4k status=none; true");
        lab.host.run("root", &fill).expect_code(0);
        lab.run_setup("ada", &source, "")
            .expect_code(FAILED)
            .expect_words(&[full, "is full"]);
        assert_eq!(lab.state(&source), DataSourceState::Draft);
    }
}

#[test]
fn a_user_whose_name_no_unit_can_hold_is_told_before_a_key_is_registered() {
    let lab = HostLab::boot(Image::DebianReady);
    // As a directory gives it.
    let line = r"sed -i 's/^ada:/CORP\\ada:/' /etc/passwd /etc/shadow; echo 'ALL ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zz-lab";
    lab.host.run("root", line).expect_code(0);
    let source = lab.data_source("Shop");
    lab.run_setup(r"CORP\ada", &source, "")
        .expect_code(FAILED)
        .expect_words(&[r"CORP\\ada", "is not allowed in a service file"]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_host_that_setup_does_not_know_gets_the_guide_and_is_as_before() {
    let lab = HostLab::boot(Image::DebianReady);
    lab.host
        .write("/etc/os-release", "ID=plan9\nPRETTY_NAME=\"Plan 9\"\n");
    // As where neither apt nor dnf is known.
    lab.host
        .run("root", "rm /usr/bin/apt-get /usr/bin/autossh")
        .expect_code(0);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let target = format!("{}:{}", source.host, source.port);
    lab.run_setup("ada", &source, "")
        .expect_code(FAILED)
        .expect_words(&["Plan 9", "By hand on Linux", &target, &lab.server.url]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}
