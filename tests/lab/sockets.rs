//! Homes in which ssh's control socket does not work, as on many file systems in user space: it can be
//! made there, and reaches nobody.

use holistics_tunnel::protocol::DataSourceState;

use crate::FAILED;
use crate::setup::remove;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::Image;
use crate::support::lab::SERVICE_LIMIT;

/// The names of control sockets and of the folders made for them, wherever they are put.
const LEFT: &str = "find /tmp /run /home -name 'h_autossh*' -o -name '*.sock' -user ada";
/// The temporary tunnels, by their number.
const MASTERS: &str = "pgrep --full -- '^ssh .* -M -S ' || true";

/// A folder of the host on a file system in user space.
fn move_to_user_space(lab: &HostLab, folder: &str) {
    let line = format!(
        "mv {folder} /srv/moved && mkdir {folder} && bindfs /srv/moved {folder} && mountpoint {folder}"
    );
    lab.host.run("root", &line).expect_code(0);
}

#[test]
fn a_home_without_sockets_is_set_up_with_the_socket_in_another_folder() {
    let lab = HostLab::boot(Image::Fuse);
    move_to_user_space(&lab, "/home/ada");
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    lab.run_setup("ada", &source, "--dry-run")
        .expect_code(0)
        .expect_words(&["control socket works in /tmp", "reaches nobody"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);

    let setup = lab.start_setup("ada", &source, "");
    lab.wait_until_connected(&source, &setup);
    let left = lab.host.run("ada", LEFT).stdout;
    assert!(left.starts_with("/tmp/h_autossh-"), "{left}");
    assert_eq!(lab.host.run("ada", MASTERS).stdout.lines().count(), 1);

    // The next run finds the tunnel of one that was killed, and ends it with everything of it.
    let kill = "pkill --signal KILL --exact holistics-tunne";
    lab.host.run("root", kill).expect_code(0);
    setup.wait(SERVICE_LIMIT);
    let setup = lab.start_setup("ada", &source, "");
    setup.wait_for_output("an earlier run is up", SERVICE_LIMIT);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    assert_eq!(lab.host.run("ada", LEFT).stdout, "");
    assert_eq!(lab.host.run("ada", MASTERS).stdout, "");

    remove(&lab, &source).expect_code(0);
    // This file system keeps an open file under another name: the folders of the running program and of its
    // log are not empty yet when it takes them away.
    let stays = |path: &str| {
        let of = path.strip_prefix("/srv/moved/.holistics");
        of.is_some_and(|part| ["", "/bin", "/logs"].contains(&part))
    };
    disk.assert_same(&Disk::of(&lab.host), stays);
}

#[test]
fn a_host_on_which_no_control_socket_works_is_told_before_a_key_is_registered() {
    let lab = HostLab::boot(Image::Fuse);
    // Of the same file system, /tmp has no sockets either.
    move_to_user_space(&lab, "/home/ada");
    let line = "mkdir -m 1777 /srv/tmp && bindfs -o nonempty /srv/tmp /tmp";
    lab.host.run("root", line).expect_code(0);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    lab.run_setup("ada", &source, "")
        .expect_code(FAILED)
        .expect_words(&[
            "no folder of this host can hold the control socket",
            "/home/ada/.holistics/run",
            "/tmp",
            "XDG_RUNTIME_DIR",
        ]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
    assert_eq!(lab.host.run("ada", LEFT).stdout, "");

    // What it advises works.
    let line = "mkdir -m 0700 /var/sockets && chown ada /var/sockets";
    lab.host.run("root", line).expect_code(0);
    let line = format!(
        "export XDG_RUNTIME_DIR=/var/sockets; {}",
        lab.setup_line(&source, "--yes")
    );
    let setup = lab.host.start("ada", &line);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    let left = lab.host.run("root", "ls -A /var/sockets");
    assert_eq!(left.expect_code(0).stdout, "");
}
