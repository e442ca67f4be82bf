//! Several users of one host, who know nothing of each other.
//!
//! ada sets up first, bob after her: nothing of hers changes, her tunnel is not restarted, each tunnel
//! runs as its own user, before and after a boot. bob's commands reach his tunnels alone, and when his
//! last one goes, hers goes on; the last one of anybody leaves the disk as it was.

use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::reader::LONGEST_GAP;
use crate::setup::RETURN_LIMIT;
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::{Image, Init};
use crate::support::hosts::other_vendor::OtherVendor;
use crate::support::lab::tunnel_of;
use crate::user::{User, lab_of_two_users, processes_of};

#[test]
fn under_systemd_252_two_users_of_two_vendors_do_not_disturb_each_other() {
    two_users_of_two_vendors(Image::DebianReady);
}

#[test]
fn under_systemd_257_two_users_of_one_vendor_do_not_disturb_each_other() {
    two_users_of_one_vendor(Image::Trixie);
}

#[test]
fn under_sysvinit_two_users_of_two_vendors_do_not_disturb_each_other() {
    two_users_of_two_vendors(Image::Sysvinit);
}

#[test]
fn under_sysvinit_two_users_of_one_vendor_do_not_disturb_each_other() {
    two_users_of_one_vendor(Image::Sysvinit);
}

#[test]
fn users_who_set_up_and_remove_at_the_same_moment_wait_for_each_other() {
    let lab = lab_of_two_users(Image::DebianReady);
    let disk = Disk::of(&lab.host);
    for _ in 0..2 {
        let (ada, bob) = (User::of(&lab, "ada"), User::of(&lab, "bob"));
        let sources = [ada.data_source(), bob.data_source()];
        let setups = [ada.start_setup(&sources[0]), bob.start_setup(&sources[1])];
        for source in &sources {
            lab.operator.save(source.id);
        }
        for setup in setups {
            setup.wait(SETUP_LIMIT).expect_code(0);
        }
        for source in &sources {
            lab.wait_until_rows_come(source, RETURN_LIMIT);
        }
        let removals = [ada.start_removal(), bob.start_removal()];
        for removal in removals {
            removal.wait(SETUP_LIMIT).expect_code(0);
        }
        for source in &sources {
            assert_eq!(lab.state(source), DataSourceState::Removed);
        }
        disk.assert_same(&Disk::of(&lab.host), |_| false);
    }
}

fn two_users_of_two_vendors(image: Image) {
    let mut lab = lab_of_two_users(image);
    let other = OtherVendor::start(&lab);
    let disk = Disk::of(&lab.host);
    let shop = User::of(&lab, "ada").set_up();
    let shared = shared_files(&lab.host);
    let before = processes_of(&lab.host, "ada");

    let billing = User::of_other(&lab, &other, "bob").set_up();
    assert_eq!(
        tunnel_of(&shop).id,
        tunnel_of(&billing).id,
        "no number is shared"
    );
    assert_eq!(shared_files(&lab.host), shared);
    assert_eq!(processes_of(&lab.host, "ada"), before, "it was restarted");
    if image.init() == Init::Sysv {
        // The number alone is nobody's name here; the whole name is.
        let call = |name: &str| {
            lab.host
                .run("ada", &format!("sudo /etc/init.d/h_autossh status {name}"))
        };
        call("1")
            .expect_code(2)
            .expect_words(&["vendor.example-1", "other.example-1"]);
        call("other.example-1").expect_code(0);
    }
    through_a_boot(&mut lab, |lab| {
        lab.wait_until_rows_come(&shop, RETURN_LIMIT);
        User::of_other(lab, &other, "bob").wait_until_rows_come(&billing);
    });
    let (ada, bob) = (User::of(&lab, "ada"), User::of_other(&lab, &other, "bob"));
    the_rest_of_the_life(&lab, &disk, (&ada, &shop), (&bob, &billing));
}

fn two_users_of_one_vendor(image: Image) {
    let mut lab = lab_of_two_users(image);
    let disk = Disk::of(&lab.host);
    let shop = User::of(&lab, "ada").set_up();
    let shared = shared_files(&lab.host);
    let service = |action: &str| {
        let line = format!("sudo service h_autossh {action}");
        lab.host.run("ada", &line).expect_code(0);
    };
    service("stop");

    let billing = User::of(&lab, "bob").set_up();
    assert_eq!(shared_files(&lab.host), shared);
    assert_eq!(processes_of(&lab.host, "ada"), "", "she had stopped it");
    // Whoever governs the service itself governs everybody's.
    service("stop");
    assert_eq!(processes_of(&lab.host, "bob"), "");
    service("start");
    lab.wait_until_rows_come(&shop, RETURN_LIMIT);
    lab.wait_until_rows_come(&billing, RETURN_LIMIT);
    if image.init() == Init::Sysv {
        let status = format!(
            "sudo /etc/init.d/h_autossh status {}",
            tunnel_of(&billing).id
        );
        lab.host
            .run("ada", &status)
            .expect_code(0)
            .expect_words(&[&slug(&lab.host, &billing)]);
    }
    through_a_boot(&mut lab, |lab| {
        lab.wait_until_rows_come(&shop, RETURN_LIMIT);
        lab.wait_until_rows_come(&billing, RETURN_LIMIT);
    });
    let (ada, bob) = (User::of(&lab, "ada"), User::of(&lab, "bob"));
    the_rest_of_the_life(&lab, &disk, (&ada, &shop), (&bob, &billing));
}

fn through_a_boot(lab: &mut HostLab, come_back: impl Fn(&HostLab)) {
    each_runs_as_its_own_user(&lab.host);
    lab.host.reboot();
    come_back(lab);
    each_runs_as_its_own_user(&lab.host);
}

/// bob stops and starts his tunnel, and removes it, while ada reads a row each second; then she leaves.
fn the_rest_of_the_life(
    lab: &HostLab,
    disk: &Disk,
    (ada, shop): (&User, &DataSource),
    (bob, billing): (&User, &DataSource),
) {
    let before = processes_of(&lab.host, "ada");
    let reader = ada.reader(shop);
    if lab.host.run("root", "test -d /run/systemd/system").code == 0 {
        ssh_may_write_its_logs_alone(&lab.host);
        let units = "systemd-analyze verify h_autossh.service 'h_autossh@vendor.example-1.service'";
        assert_eq!(lab.host.run("root", units).expect_code(0).output(), "");
    }

    bob.run("holistics-tunnel service stop").expect_code(0);
    assert_eq!(processes_of(&lab.host, "bob"), "");
    ada.run("holistics-tunnel status").expect_code(0);
    bob.run("holistics-tunnel service restart").expect_code(0);
    bob.wait_until_rows_come(billing);
    bob.run("holistics-tunnel doctor")
        .expect_words(&["they are as setup wrote them"]);

    bob.start_removal().wait(SETUP_LIMIT).expect_code(0);
    let now = bob.operator.data_source(billing.id).state;
    assert_eq!(now, DataSourceState::Removed);
    std::thread::sleep(Duration::from_secs(3));
    let gap = reader.longest_gap();
    figures::say(&format!(
        "bob stops, starts and removes: the longest gap of ada's rows {:.1} s",
        gap.as_secs_f64()
    ));
    assert!(gap < LONGEST_GAP, "{gap:?}");
    assert_eq!(processes_of(&lab.host, "ada"), before, "it was restarted");
    ada.run("holistics-tunnel status").expect_code(0);
    ada.run("holistics-tunnel doctor")
        .expect_words(&["it starts at boot", "they are as setup wrote them"]);

    ada.start_removal().wait(SETUP_LIMIT).expect_code(0);
    assert_eq!(
        ada.operator.data_source(shop.id).state,
        DataSourceState::Removed
    );
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    lab.host.run("root", "ls -d /run/h_autossh*").expect_code(2);
}

// ---------------------------------------------------------------------------------------------
// The host
// ---------------------------------------------------------------------------------------------

/// What both users share, and what is ada's alone: content, owner and time of change.
fn shared_files(host: &Host) -> String {
    let line = "cd /etc; for file in systemd/system/h_autossh.service systemd/system/h_autossh@.service \
                systemd/system/h_autossh@vendor.example-1.service.d/tunnel.conf init.d/h_autossh \
                h_autossh/vendor.example-1.env; do \
                    if [ -e $file ]; then stat --format '%n %y %i %U %a' $file; cat $file; fi; \
                done";
    let files = host.run("root", line).expect_code(0).stdout;
    assert!(files.contains("h_autossh/vendor.example-1.env"), "{files}");
    files
}

fn slug(host: &Host, source: &DataSource) -> String {
    let file = format!(
        "basename /etc/h_autossh/*-{}.env .env",
        tunnel_of(source).id
    );
    host.run("root", &file)
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
}

pub fn each_runs_as_its_own_user(host: &Host) {
    let line = "ps -C autossh -o user=,args= | sed -E 's|^([a-z]+) .*-E (/home/[a-z]+)/.*|\\1 \\2|' | sort -u";
    let processes = host.run("root", line).expect_code(0);
    assert_eq!(
        processes.stdout, "ada /home/ada\nbob /home/bob\n",
        "{processes}"
    );
}

/// From within the sandbox of ada's ssh.
fn ssh_may_write_its_logs_alone(host: &Host) {
    let inside = |line: &str| {
        let line = format!(
            "nsenter --mount --target $(pgrep --euid ada --exact ssh | head -n 1) \
             runuser -u ada -- sh -c '{line}'"
        );
        host.run("root", &line)
    };
    inside("echo >/home/ada/.holistics/logs/probe && rm /home/ada/.holistics/logs/probe")
        .expect_code(0);
    for file in [
        ".holistics/receipt.json",
        ".holistics/known_hosts",
        ".holistics/probe",
        ".ssh-probe",
    ] {
        let refused = inside(&format!("echo >>/home/ada/{file}"));
        assert_ne!(refused.code, 0, "{file} can be written");
        refused.expect_words(&["read-only"]);
    }
}
