//! root, who has no tunnels: sees and removes those of ada and of bob, also when their accounts are gone.

use holistics_tunnel::protocol::DataSourceState;

use crate::reader::LONGEST_GAP;
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::hosts::other_vendor::OtherVendor;
use crate::support::process::Finished;
use crate::user::{User, lab_of_two_users, processes_of};
use crate::{CANNOT_TELL, FAILED, PARTLY, USAGE};

/// The name of a tunnel of the lab's vendor, and one of the other vendor's.
const ADAS: &str = "vendor.example-1";
const BOBS: &str = "other.example-1";

/// What the end of an account changes by itself; and ada's home, which is left.
const ACCOUNTS: [&str; 7] = [
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/home/",
];

#[test]
fn under_systemd_root_sees_and_removes_everybody_s_tunnels() {
    root_sees_and_removes(Image::DebianReady);
}

#[test]
fn under_sysvinit_root_sees_and_removes_everybody_s_tunnels() {
    root_sees_and_removes(Image::Sysvinit);
}

fn root_sees_and_removes(image: Image) {
    let lab = lab_of_two_users(image);
    let other = OtherVendor::start(&lab);
    let disk = Disk::of(&lab.host);
    let (ada, bob) = (User::of(&lab, "ada"), User::of_other(&lab, &other, "bob"));
    let (shop, billing) = (ada.set_up(), bob.set_up());
    let its_vendor = format!("--server {}", lab.server.url);

    root_looks(&lab, &its_vendor);
    root_governs_all(&lab);
    ada.wait_until_rows_come(&shop);
    bob.wait_until_rows_come(&billing);

    ada.run(&format!(
        "sudo holistics-tunnel uninstall-tunnel 1 {its_vendor} --yes"
    ))
    .expect_code(USAGE)
    .expect_words(&["as ada", "without sudo"]);
    let reader = bob.reader(&billing);
    let bobs = processes_of(&lab.host, "bob");
    // She is about to have a second one while root takes the first.
    let ledger = ada.data_source();
    let setup = ada.start_setup(&ledger);
    as_root(&lab, &format!("uninstall-tunnel 1 {its_vendor} --yes"))
        .expect_code(0)
        .expect_words(&["Tunnel 1 of ada is removed", "/home/ada/.holistics stays"]);
    assert_eq!(lab.state(&shop), DataSourceState::Removed);
    let files = lab.host.run("root", "ls /etc/h_autossh").stdout;
    assert_eq!(files, format!("{BOBS}.env\n"));
    let autossh = lab.host.run("root", "pgrep --euid ada --exact autossh");
    assert_eq!(autossh.stdout, "");
    lab.save_and_finish(&ledger, setup);
    // She tidies up what is her own.
    ada.run("holistics-tunnel uninstall-tunnel 1 --yes")
        .expect_code(0);
    ada.wait_until_rows_come(&ledger);
    assert_eq!(processes_of(&lab.host, "bob"), bobs, "it was restarted");
    let gap = reader.longest_gap();
    figures::say(&format!(
        "root removes ada's tunnel while she sets up another: the longest gap of bob's rows {:.1} s",
        gap.as_secs_f64()
    ));
    assert!(gap < LONGEST_GAP, "{gap:?}");
    drop(reader);

    without_ada_s_account(&lab);
    assert_eq!(lab.state(&ledger), DataSourceState::Removed);
    without_bob_s_account_and_home(&lab);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        ACCOUNTS.iter().any(|begin| path.starts_with(begin))
    });
    lab.host
        .run("root", "ls -d /run/h_autossh* /root/.holistics")
        .expect_code(2);
}

/// root's looks at tunnels of two users who share a number.
fn root_looks(lab: &HostLab, its_vendor: &str) {
    as_root(lab, "list")
        .expect_code(0)
        .expect_words(&["ada", ADAS, "bob", BOBS]);
    as_root(lab, "status")
        .expect_code(CANNOT_TELL)
        .expect_words(&[ADAS, BOBS, "running"]);
    for command in ["status", "doctor", "logs", "uninstall-tunnel --yes"] {
        as_root(lab, &format!("{command} 1"))
            .expect_code(USAGE)
            .expect_words(&[ADAS, BOBS, "--server"]);
    }
    let status = as_root(lab, &format!("status 1 {its_vendor}")).expect_code(CANNOT_TELL);
    assert!(!status.output().contains(BOBS), "{status}");
    let doctor = as_root(lab, &format!("doctor 1 {its_vendor}"))
        .expect_code(0)
        .expect_words(&[
            "Tunnel 1 of ada",
            "root alone can change them",
            "it starts at boot",
            "it runs",
            "takes connections",
            "as ada",
        ]);
    assert!(!doctor.output().contains(BOBS), "{doctor}");
    as_root(lab, &format!("logs 1 {its_vendor}"))
        .expect_code(0)
        .expect_words(&["starting ssh"]);

    // What a user puts in the log's place is not shown to root.
    let log = format!("/home/ada/.holistics/logs/tunnel-{ADAS}.log");
    let trap = format!("mv {log} {log}.kept && ln -s /etc/shadow {log}");
    lab.host.run("ada", &trap).expect_code(0);
    let logs = as_root(lab, &format!("logs 1 {its_vendor}")).expect_words(&["cannot be read"]);
    assert!(!logs.output().contains("root:"), "{logs}");
    let trap = format!("mv -f {log}.kept {log}");
    lab.host.run("ada", &trap).expect_code(0);
}

fn root_governs_all(lab: &HostLab) {
    as_root(lab, "service stop").expect_code(0);
    for user in ["ada", "bob"] {
        assert_eq!(processes_of(&lab.host, user), "", "{user}");
    }
    as_root(lab, "status").expect_code(FAILED);
    as_root(lab, "service start").expect_code(0);
}

/// Her account goes while her tunnel runs; her files stay, and with them the token by which her vendor is told.
fn without_ada_s_account(lab: &HostLab) {
    lab.host.run("root", "userdel --force ada").expect_code(0);
    as_root(lab, "list").expect_code(0).expect_words(&["ada"]);
    as_root(lab, "status 2").expect_words(&["ada"]);
    as_root(lab, "doctor 2")
        .expect_code(FAILED)
        .expect_words(&["no user ada", "uninstall-tunnel 2"]);
    as_root(lab, "uninstall-tunnel 2 --yes")
        .expect_code(0)
        .expect_words(&["Tunnel 2 of ada is removed"]);
    let left = lab
        .host
        .run("root", "pgrep --full '/home/ada/[.]holistics'")
        .stdout;
    assert_eq!(left, "");
    as_root(lab, "list").expect_words(&[BOBS]);
}

/// Nobody knows his token any more.
fn without_bob_s_account_and_home(lab: &HostLab) {
    lab.host
        .run("root", "userdel --force --remove bob; test ! -e /home/bob")
        .expect_code(0);
    as_root(lab, "status 1").expect_words(&["bob"]);
    as_root(lab, "uninstall-tunnel --all --yes")
        .expect_code(PARTLY)
        .expect_words(&["Tunnel 1 of bob is removed", "in the browser"]);
    let left = lab
        .host
        .run("root", "pgrep --full '/home/bob/[.]holistics'")
        .stdout;
    assert_eq!(left, "");
    as_root(lab, "list").expect_words(&["No tunnels"]);
}

#[track_caller]
fn as_root(lab: &HostLab, command: &str) -> Finished {
    let line = format!("exec holistics-tunnel {command}");
    lab.host.start("root", &line).wait(SETUP_LIMIT)
}
