//! What apt may run into.

use crate::INTERRUPTED;
use crate::packages::{is_left_by_purged_packages, packages};
use crate::setup::{setup_fails, setup_fails_without_a_trace, setup_works};
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::lab::SERVICE_LIMIT;
use crate::support::process::Running;

#[test]
fn a_mirror_that_cannot_be_reached_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    lab.network.cut_mirror();
    setup_fails_without_a_trace(&lab).expect_words(&["mirror", "reach"]);

    lab.network.mend_mirror();
    setup_works(&lab, "");
}

#[test]
fn a_mirror_that_goes_away_after_its_lists_were_read_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    lab.host.run("root", "apt-get update").expect_code(0);
    lab.network.cut_mirror();
    setup_fails_without_a_trace(&lab).expect_words(&["mirror", "reach"]);
}

#[test]
fn a_package_that_no_repository_has_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    let never = "Package: autossh\nPin: release *\nPin-Priority: -1\n";
    lab.host.write("/etc/apt/preferences.d/never", never);
    let before = packages(&lab.host);
    // It was not known before that autossh cannot be compiled either: ssh and curl came and went.
    setup_fails(&lab, "", is_left_by_purged_packages).expect_words(&["autossh", "repository"]);
    assert_eq!(packages(&lab.host), before);
}

#[test]
fn the_configuration_that_a_package_of_an_earlier_time_has_left_outlives_a_setup_that_is_undone() {
    const SETTINGS: &str = "/etc/ssh/ssh_config";
    let lab = HostLab::boot(Image::Debian);
    let formerly = format!(
        "apt-get update && apt-get install -y --no-install-recommends openssh-client \
         && echo '# of this company' >> {SETTINGS} && apt-get remove -y openssh-client"
    );
    lab.host.run("root", &formerly).expect_code(0);
    let never = "Package: autossh\nPin: release *\nPin-Priority: -1\n";
    lab.host.write("/etc/apt/preferences.d/never", never);
    let before = packages(&lab.host);
    let state = "dpkg-query --show --showformat '${db:Status-Abbrev}' openssh-client";
    let is_left = || assert_eq!(lab.host.run("root", state).expect_code(0).stdout, "rc ");
    is_left();
    // It was not known before that autossh cannot be compiled either: ssh and curl came and went.
    setup_fails(&lab, "", is_left_by_purged_packages).expect_words(&["autossh", "repository"]);
    assert_eq!(packages(&lab.host), before);
    is_left();
    assert!(lab.host.read(SETTINGS).contains("# of this company"));
}

#[test]
fn a_broken_repository_beside_the_good_one_does_not_matter() {
    let lab = HostLab::boot(Image::Debian);
    let broken = "deb http://mirror.example/nothing-here stable main\n";
    lab.host
        .write("/etc/apt/sources.list.d/broken.list", broken);
    setup_works(&lab, "");
}

#[test]
fn an_apt_lock_that_is_given_up_after_a_while_is_waited_for() {
    let lab = HostLab::boot(Image::Debian);
    let holder = hold_apt_s_locks(&lab.host, 15);
    setup_works(&lab, "");
    holder.wait(SERVICE_LIMIT).expect_code(0);
}

#[test]
fn an_apt_lock_that_is_never_given_up_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    lab.host.run("root", "apt-get update").expect_code(0);
    let _holder = hold_apt_s_locks(&lab.host, 600);
    setup_fails_without_a_trace(&lab).expect_words(&["lock", "wait"]);
}

#[test]
fn ctrl_c_while_apt_works_leaves_the_host_as_before_and_the_next_run_works() {
    let lab = HostLab::boot(Image::Debian);
    let (disk, before) = (Disk::of(&lab.host), packages(&lab.host));
    // Unpacking is made slow enough to be met in the middle.
    let slow = "DPkg::Pre-Invoke { \"sleep 4\"; };\n";
    lab.host.write("/etc/apt/apt.conf.d/slow", slow);
    let source = lab.data_source("Shop");
    let mut setup = lab.setup_at_terminal("ada", &source, "");
    setup.program().wait_for_output("Go on?", SETUP_LIMIT);
    setup.enter("y");
    setup
        .program()
        .wait_until("apt's download", SETUP_LIMIT, || {
            lab.host.run("root", "pgrep --exact sleep").code == 0
        });
    setup.press_ctrl_c();
    setup
        .wait(SETUP_LIMIT)
        .expect_code(INTERRUPTED)
        .expect_words(&["undone"]);
    std::fs::remove_file(lab.host.path("/etc/apt/apt.conf.d/slow")).expect("it is there");
    assert_eq!(packages(&lab.host), before);
    disk.assert_same(&Disk::of(&lab.host), is_left_by_purged_packages);

    setup_works(&lab, "");
}

/// Takes the locks of apt and dpkg for some seconds, as another apt does.
fn hold_apt_s_locks(host: &Host, seconds: u32) -> Running {
    // A lock of fcntl, all of the file, from its start.
    const HOLD: &str = r#"
        use Fcntl qw(:DEFAULT :seek);
        for my $file (@ARGV) {
            my $lock = pack("s! s! l! l! i", F_WRLCK, SEEK_SET, 0, 0, 0);
            open($held{$file}, ">", $file) and fcntl($held{$file}, F_SETLK, $lock) or die $file;
        }
        $| = 1;
        print "held\n";
        sleep "#;
    let program = format!("{HOLD}{seconds}");
    let program = shell_words::quote(&program);
    let holder = host.start(
        "root",
        &format!(
            "exec perl -e {program} /var/lib/apt/lists/lock /var/lib/dpkg/lock-frontend \
             /var/lib/dpkg/lock"
        ),
    );
    holder.wait_for_output("held", SERVICE_LIMIT);
    holder
}
