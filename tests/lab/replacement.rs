//! A service h_autossh of somebody else's, as the original bash script leaves one.

use crate::setup::{remove, setup_works};
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::Image;

const SCRIPT: &str = "/etc/init.d/h_autossh";

/// It runs a process of its own, and starts at boot.
const FOREIGN: &str = "#!/bin/sh
### BEGIN INIT INFO
# Provides:          h_autossh
# Required-Start:    $remote_fs $network
# Required-Stop:     $remote_fs $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Tunnels of the old setup
### END INIT INFO
case $1 in
    start) start-stop-daemon --start --background --make-pidfile --pidfile /run/old.pid --exec /bin/sleep -- 86400 ;;
    stop) start-stop-daemon --stop --pidfile /run/old.pid --remove-pidfile --oknodo ;;
esac
";

/// Its process has its name a moment after it was started.
const RUNNING: &str = "timeout 10 sh -c 'until pgrep --exact sleep; do :; done'";

#[test]
fn under_systemd_a_foreign_service_makes_room_and_comes_back() {
    foreign_service_makes_room_and_comes_back(Image::DebianReady);
}

#[test]
fn under_sysvinit_a_foreign_service_makes_room_and_comes_back() {
    foreign_service_makes_room_and_comes_back(Image::Sysvinit);
}

fn foreign_service_makes_room_and_comes_back(image: Image) {
    let lab = HostLab::boot(image);
    lab.host.write(SCRIPT, FOREIGN);
    lab.host
        .run(
            "root",
            &format!(
                "chmod 755 {SCRIPT} && update-rc.d h_autossh defaults && \
                 if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi && \
                 service h_autossh start && {RUNNING}"
            ),
        )
        .expect_code(0);
    let disk = Disk::of(&lab.host);

    let source = setup_works(&lab, "--replace-service");
    lab.host.run("root", "pgrep --exact sleep").expect_code(1);
    lab.host
        .run("root", "test -e /etc/h_autossh.replaced")
        .expect_code(0);

    remove(&lab, &source)
        .expect_code(0)
        .expect_words(&["is back where it was", "not started"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    lab.host
        .run("root", &format!("service h_autossh start && {RUNNING}"))
        .expect_code(0);
}
