//! A host that version 0.1 set up, and the present program on it.
//!
//! What only reads works and changes nothing; a removal goes without new names; whatever else changes the
//! host gives every tunnel its present name first, for which each is away for a reconnect. After that
//! nothing tells the host from one that was set up today.

use std::time::{Duration, Instant};

use holistics_tunnel::protocol::DataSourceState;
use serde_json::Value;

use crate::former_host::{OWN, leave_two_tunnels};
use crate::reader::{LONGEST_GAP, Reader};
use crate::setup::RETURN_LIMIT;
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::{Image, Init};
use crate::support::hosts::network::DATABASE;
use crate::support::lab::SERVICE_LIMIT;
use crate::support::wait;
use crate::user::{User, lab_of_two_users, processes_of};
use crate::users::each_runs_as_its_own_user;

/// A tunnel's restart, and the second for which its reader waits.
const RECONNECT: Duration = Duration::from_secs(5);

/// Before the real one on ada's path.
const DEADLY_SUDO: &str = "/usr/local/bin/sudo";
const KILLED: i32 = 128 + 9;

/// Another name of the database.
pub const DATABASE_NAME: &str = "database.lan";

#[test]
fn under_systemd_the_next_setup_renames_former_tunnels_within_a_reconnect() {
    renamed_for_good(Image::DebianReady, |ada, _| {
        ada.set_up();
        (vec![1, 2, 3], 1)
    });
}

#[test]
fn under_sysvinit_the_next_change_of_a_target_renames_former_tunnels_within_a_reconnect() {
    renamed_for_good(Image::Sysvinit, |ada, host| {
        name_database(host);
        ada.run(&format!(
            "holistics-tunnel update-tunnel 1 --host {DATABASE_NAME} --yes"
        ))
        .expect_code(0);
        // One for the name, and one for the target.
        (vec![1, 2], 2)
    });
}

#[test]
fn under_systemd_a_former_tunnel_is_removed_without_new_names_and_a_new_key_renames_the_other() {
    removed_and_renamed(Image::DebianReady);
}

#[test]
fn under_sysvinit_a_former_tunnel_is_removed_without_new_names_and_a_new_key_renames_the_other() {
    removed_and_renamed(Image::Sysvinit);
}

#[test]
fn under_systemd_a_rename_that_is_killed_at_any_moment_is_finished_by_the_same_command() {
    killed_and_finished(
        Image::DebianReady,
        "holistics-tunnel rotate-key --yes",
        &[
            "/etc/h_autossh/.vendor.example-1.env",
            "systemctl stop h_autossh@1.service",
            "systemctl enable h_autossh@vendor.example-1.service",
            "rm -f /etc/h_autossh/1.env",
            "systemctl stop h_autossh@2.service",
        ],
    );
}

#[test]
fn under_sysvinit_a_rename_that_is_killed_at_any_moment_is_finished_by_the_same_command() {
    killed_and_finished(
        Image::Sysvinit,
        &format!("holistics-tunnel update-tunnel 1 --host {DATABASE_NAME} --yes"),
        &[
            "/etc/h_autossh/.vendor.example-1.env",
            "h_autossh stop 1",
            "h_autossh restart vendor.example-1",
            "rm -f /etc/h_autossh/1.env",
            "h_autossh stop 2",
        ],
    );
}

/// A version that named one user in the shared unit, for everybody.
#[test]
fn another_user_s_setup_restarts_no_former_tunnel_and_gives_each_its_own_user() {
    let image = Image::DebianReady;
    let mut lab = lab_of_two_users(image);
    let [shop, _] = leave_two_tunnels(&lab, image);
    let before = processes_of(&lab.host, "ada");
    let stock = User::of(&lab, "bob").set_up();
    assert_eq!(processes_of(&lab.host, "ada"), before, "it was restarted");
    lab.host.reboot();
    lab.wait_until_rows_come(&shop, RETURN_LIMIT);
    lab.wait_until_rows_come(&stock, RETURN_LIMIT);
    each_runs_as_its_own_user(&lab.host);
}

/// What this change by ada does to both tunnels, and what is there after it, after a boot, and at the end.
fn renamed_for_good(image: Image, change: fn(&User, &Host) -> (Vec<u32>, u32)) {
    let began = Instant::now();
    let mut lab = HostLab::boot(image);
    let disk = Disk::of(&lab.host);
    let [shop, billing] = leave_two_tunnels(&lab, image);
    reading_changes_nothing(&lab);

    let numbers = {
        let ada = User::of(&lab, "ada");
        let readers = [ada.reader(&shop), ada.reader(&billing)];
        let (numbers, reconnects) = change(&ada, &lab.host);
        for reader in &readers {
            is_within(reader, reconnects);
        }
        numbers
    };
    are_as_set_up_today(&lab, image, &numbers);

    lab.host.reboot();
    let ada = User::of(&lab, "ada");
    for source in [&shop, &billing] {
        ada.wait_until_rows_come(source);
    }
    are_as_set_up_today(&lab, image, &numbers);
    leaves_nothing(&ada, &disk, &lab);
    figures::say(&format!("the life: {:.0} s", began.elapsed().as_secs_f64()));
}

fn removed_and_renamed(image: Image) {
    let lab = HostLab::boot(image);
    let disk = Disk::of(&lab.host);
    let [shop, billing] = leave_two_tunnels(&lab, image);
    let ada = User::of(&lab, "ada");
    let reader = ada.reader(&billing);
    let before = processes_of(&lab.host, "ada");

    ada.run("holistics-tunnel uninstall-tunnel 1 --yes")
        .expect_code(0);
    assert_eq!(lab.state(&shop), DataSourceState::Removed);
    let gap = reader.longest_gap();
    assert!(gap < LONGEST_GAP, "{gap:?}");
    let left = processes_of(&lab.host, "ada");
    assert!(
        !left.is_empty() && left.lines().all(|pid| before.lines().any(|was| was == pid)),
        "it was restarted: {before} {left}"
    );
    assert_eq!(names(&lab.host, "/etc/h_autossh"), ["2.env"]);
    ada.run("holistics-tunnel status").expect_code(0);

    ada.run("holistics-tunnel rotate-key --yes").expect_code(0);
    // One for the name, and one for the key.
    is_within(&reader, 2);
    drop(reader);
    are_as_set_up_today(&lab, image, &[2]);
    leaves_nothing(&ada, &disk, &lab);
}

/// Each run but the last one is killed as it is about to have root do one of these things.
fn killed_and_finished(image: Image, line: &str, moments: &[&str]) {
    let lab = HostLab::boot(image);
    let disk = Disk::of(&lab.host);
    let [shop, billing] = leave_two_tunnels(&lab, image);
    let ada = User::of(&lab, "ada");
    name_database(&lab.host);
    for moment in moments {
        kill_at(&lab.host, moment);
        ada.run(line).expect_code(KILLED);
        let listed = ada
            .run("holistics-tunnel list --json")
            .expect_code(0)
            .json();
        assert_eq!(listed["tunnels"].as_array().map(Vec::len), Some(2));
    }
    std::fs::remove_file(lab.host.path(DEADLY_SUDO)).expect("it is there");
    ada.run(line).expect_code(0);
    for source in [&shop, &billing] {
        ada.wait_until_rows_come(source);
    }
    are_as_set_up_today(&lab, image, &[1, 2]);
    leaves_nothing(&ada, &disk, &lab);
}

pub fn name_database(host: &Host) {
    let hosts = host.read("/etc/hosts");
    host.write("/etc/hosts", format!("{hosts}{DATABASE} {DATABASE_NAME}\n"));
}

/// Whoever asks sudo for this is killed in its place.
fn kill_at(host: &Host, moment: &str) {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'{moment}'*) kill -KILL $PPID; exit 1 ;; esac\nexec /usr/bin/sudo \"$@\"\n"
    );
    host.write(DEADLY_SUDO, script);
    host.run("root", &format!("chmod 755 {DEADLY_SUDO}"))
        .expect_code(0);
}

fn reading_changes_nothing(lab: &HostLab) {
    let ada = User::of(lab, "ada");
    let before = (Disk::of(&lab.host), processes_of(&lab.host, "ada"));
    for line in ["list", "status", "doctor", "service status"] {
        let finished = ada.run(&format!("holistics-tunnel {line}"));
        finished.expect_code(0).expect_words(&["1", "2"]);
    }
    lab.host
        .run("root", "holistics-tunnel list")
        .expect_code(0)
        .expect_words(&["1 of ada", "2 of ada"]);
    let logs = format!("{OWN}/logs/");
    before
        .0
        .assert_same(&Disk::of(&lab.host), |path| path.starts_with(&logs));
    assert_eq!(processes_of(&lab.host, "ada"), before.1);
}

#[track_caller]
fn is_within(reader: &Reader, reconnects: u32) {
    let gap = reader.longest_gap();
    figures::say(&format!(
        "a former tunnel gets its present name: the longest gap of its rows {:.1} s",
        gap.as_secs_f64()
    ));
    assert!(gap < RECONNECT * reconnects, "{gap:?}");
}

/// Nothing of the former names is left, and every command is content.
#[track_caller]
fn are_as_set_up_today(lab: &HostLab, image: Image, numbers: &[u32]) {
    let host = &lab.host;
    let all = |before: &str, after: &str| -> Vec<String> {
        let name = |number| format!("{before}vendor.example-{number}{after}");
        numbers.iter().map(name).collect()
    };
    assert_eq!(names(host, "/etc/h_autossh"), all("", ".env"));
    match image.init() {
        Init::Systemd => {
            let units = "/etc/systemd/system";
            let wanted = names(host, &format!("{units}/h_autossh.service.wants"));
            assert_eq!(wanted, all("h_autossh@", ".service"));
            let mut own = all("h_autossh@", ".service.d");
            own.extend(
                [
                    "h_autossh.service",
                    "h_autossh.service.wants",
                    "h_autossh@.service",
                ]
                .map(str::to_owned),
            );
            own.sort();
            let mut there = names(host, units);
            there.retain(|name| name.starts_with("h_autossh"));
            assert_eq!(there, own);
            let line =
                "systemctl list-units --all --plain --no-legend 'h_autossh@*' | grep -c ' active '";
            let active = host.run("root", line).expect_code(0);
            assert_eq!(active.stdout.trim(), numbers.len().to_string(), "{active}");
        }
        Init::Sysv => assert_eq!(names(host, "/run/h_autossh"), all("", ".pid")),
    }
    // An ssh that was told to end takes its moment.
    let running = || processes_of(host, "ada");
    wait::until_true("an ssh for each tunnel", SERVICE_LIMIT, running, || {
        let ssh = host.run("ada", "pgrep --euid ada --exact --count ssh");
        ssh.stdout.trim() == numbers.len().to_string()
    });

    let receipt: Value =
        serde_json::from_str(&host.read(&format!("{OWN}/receipt.json"))).expect("JSON");
    assert_eq!(receipt["version"], 2);
    let tunnels = receipt["tunnels"].as_object().expect("tunnels");
    assert_eq!(tunnels.keys().cloned().collect::<Vec<_>>(), all("", ""));
    let pinned = host.read(&format!("{OWN}/known_hosts"));
    for line in pinned.lines() {
        assert!(line.starts_with("vendor.example-"), "{pinned}");
    }
    let mut logs = names(host, &format!("{OWN}/logs"));
    logs.retain(|name| name.starts_with("tunnel-"));
    assert_eq!(logs, all("tunnel-", ".log"));

    let ada = User::of(lab, "ada");
    let listed = ada
        .run("holistics-tunnel list --json")
        .expect_code(0)
        .json();
    assert_eq!(
        listed["tunnels"].as_array().map(Vec::len),
        Some(numbers.len())
    );
    ada.run("holistics-tunnel status").expect_code(0);
    ada.run("holistics-tunnel doctor")
        .expect_code(0)
        .expect_words(&["it starts at boot", "they are as setup wrote them"]);
}

fn leaves_nothing(ada: &User, disk: &Disk, lab: &HostLab) {
    ada.start_removal().wait(SETUP_LIMIT).expect_code(0);
    disk.assert_same(&Disk::of(&lab.host), |path| path == "/etc/hosts");
    lab.host.run("root", "ls -d /run/h_autossh*").expect_code(2);
}

/// What a folder holds, in order.
fn names(host: &Host, folder: &str) -> Vec<String> {
    let listed = host.run("root", &format!("ls -1 {folder}")).expect_code(0);
    listed.stdout.lines().map(str::to_owned).collect()
}
