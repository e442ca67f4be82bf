//! A tunnel that its service manager cannot start: the service manager knows why, and is asked.

use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::setup::{remove, setup_fails_without_a_trace, setup_works};
use crate::support::hosts::host_lab::{AUTHORITY, HostLab};
use crate::support::hosts::image::Image;
use crate::support::lab::SERVICE_LIMIT;
use crate::{FAILED, ROLLED_BACK};

/// What a command of systemd-run ends with where a unit cannot have a view of the file system of its own.
const NAMESPACE: i32 = 226;

/// Less than setup waits for a tunnel that was started.
const SOON: Duration = Duration::from_secs(30);

/// Why a tunnel's unit does not start, by what an administrator has added to it: the setting, the exit status, and
/// more words of systemd's.
const SPOILT: [(&str, &str, &str); 6] = [
    ("InaccessiblePaths=/nowhere/at/all", "226", "step NAMESPACE"),
    ("WorkingDirectory=/nowhere/at/all", "200", "step CHDIR"),
    ("ExecStart=\nExecStart=/nowhere/at/all", "203", "step EXEC"),
    ("User=nowhere", "217", "step USER"),
    ("Group=nowhere", "216", "step GROUP"),
    (
        "ExecStart=\nExecStart=/bin/sh -c 'exec /nowhere/at/all'",
        "127",
        "/nowhere/at/all",
    ),
];

#[test]
fn a_unit_that_could_not_start_here_is_told_before_the_key_is_registered_and_nothing_is_left() {
    const DROP_IN: &str = "/etc/systemd/system/h_autossh@.service.d/admin.conf";
    // Their systemds differ in what they know of sandboxes.
    for image in [Image::DebianReady, Image::Bullseye] {
        let lab = HostLab::boot(image);
        let folder = format!("mkdir {}", DROP_IN.trim_end_matches("/admin.conf"));
        lab.host.run("root", &folder).expect_code(0);
        for (setting, status, words) in SPOILT {
            lab.host.write(DROP_IN, format!("[Service]\n{setting}\n"));
            lab.host
                .run("root", "systemctl daemon-reload")
                .expect_code(0);
            let status = format!("exit status {status}");
            let step = "step service-tunnel would fail, so the key was not registered";
            setup_fails_without_a_trace(&lab).expect_words(&[step, &status, words, DROP_IN]);
            let units = "systemctl list-units --all --no-legend 'h_autossh*' | grep .";
            lab.host.run("root", units).expect_code(FAILED);
        }
        let mend = format!("rm -r {}", DROP_IN.trim_end_matches("/admin.conf"));
        lab.host.run("root", &mend).expect_code(0);
        lab.host
            .run("root", "systemctl daemon-reload")
            .expect_code(0);
        let source = setup_works(&lab, "");
        // What the drop-in was to blame for cost the tunnel nothing of its sandbox.
        assert_eq!(unit_of(&lab, "ProtectSystem"), "strict");
        // The next tunnel of this host is tried, too.
        let second = lab.data_source("Stock");
        let setup = lab.start_setup("ada", &second, "");
        lab.wait_until_connected(&second, &setup);
        lab.save_and_finish(&second, setup);
        let log = "cat ~/.holistics/logs/setup-*.log";
        let tried =
            "systemd-run --wait --pipe --collect --unit h_autossh-rehearsal-vendor.example-";
        lab.host
            .run("ada", log)
            .expect_code(0)
            .expect_words(&[tried]);
        remove(&lab, &source).expect_code(0);
    }
}

/// What starts the programs, and keeps the tunnel from what it needs: the setting, and what is told of it.
const CONFINED: [(&str, &str); 3] = [
    (
        "ProtectHome=yes",
        "the unit keeps it from its key or its logs",
    ),
    (
        "InaccessiblePaths=-/home/ada/.holistics/id_ed25519",
        "the unit keeps it from its key or its logs",
    ),
    (
        "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX",
        "ssh does not get to the tunnel server from the unit",
    ),
];

#[test]
fn a_unit_that_keeps_a_tunnel_from_what_it_needs_is_told_before_the_key_is_registered() {
    const DROP_IN: &str = "/etc/systemd/system/h_autossh@.service.d/zz-admin.conf";
    let lab = HostLab::boot(Image::DebianReady);
    let root = |line: &str| lab.host.run("root", line).expect_code(0);
    root("mkdir /etc/systemd/system/h_autossh@.service.d");
    for (setting, words) in CONFINED {
        lab.host.write(DROP_IN, format!("[Service]\n{setting}\n"));
        root("systemctl daemon-reload");
        setup_fails_without_a_trace(&lab).expect_words(&[words, DROP_IN]);
    }
    root(&format!("rm {DROP_IN} && systemctl daemon-reload"));
    let source = setup_works(&lab, "");

    // The next tunnel of this host has them, too.
    let runs_on = lab.host.run("root", "pgrep --exact ssh").stdout;
    let spoilt = SPOILT.map(|(setting, status, _)| (setting, format!("exit status {status}")));
    let confined = CONFINED.map(|(setting, words)| (setting, words.to_owned()));
    for (setting, words) in confined.into_iter().chain(spoilt) {
        lab.host.write(DROP_IN, format!("[Service]\n{setting}\n"));
        root("systemctl daemon-reload");
        let stock = lab.data_source("Stock");
        lab.run_setup("ada", &stock, "")
            .expect_code(ROLLED_BACK)
            .expect_words(&[&words, DROP_IN]);
        assert_eq!(lab.state(&stock), DataSourceState::Draft);
        lab.host
            .run("root", "find /run/systemd/system | grep rehearsal")
            .expect_code(FAILED);
        let units = "systemctl list-units --all --no-legend 'h_autossh*' | grep rehearsal";
        lab.host.run("root", units).expect_code(FAILED);
    }
    let now = lab.host.run("root", "pgrep --exact ssh").stdout;
    assert_eq!(now, runs_on, "the first one was restarted");
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    // And what does it no harm.
    lab.host.write(DROP_IN, "[Service]\nNice=5\n");
    root("systemctl daemon-reload");
    let second = lab.data_source("Stock");
    let setup = lab.start_setup("ada", &second, "");
    lab.wait_until_connected(&second, &setup);
    lab.save_and_finish(&second, setup);
    assert_eq!(unit_of(&lab, "ProtectSystem"), "strict\n\nstrict");
    lab.wait_until_rows_come(&second, SERVICE_LIMIT);
}

#[test]
fn an_init_script_that_could_not_start_a_tunnel_here_is_told_before_the_key_is_registered() {
    let lab = HostLab::boot(Image::Sysvinit);
    // As where sessions need what a service does not have. This test comes in by sessions of the other kind.
    const SESSIONS: &str = "/etc/pam.d/runuser";
    let before = lab.host.read(SESSIONS);
    lab.host.write("/etc/pam.d/runuser-l", &before);
    let rules = "auth sufficient pam_rootok.so\nsession required pam_succeed_if.so quiet uid = 0\n";
    lab.host.write(SESSIONS, rules);
    setup_fails_without_a_trace(&lab).expect_words(&["runuser", "cannot open session"]);
    lab.host.write(SESSIONS, before);
    setup_works(&lab, "");
}

/// Of a tunnel's own part of the unit.
fn unit_of(lab: &HostLab, property: &str) -> String {
    let line = format!("systemctl show 'h_autossh@*' --property {property} --value");
    lab.host
        .run("root", &line)
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
}

/// Sets up on a host whose systemd cannot give a unit a view of the file system of its own.
fn set_up_without_mounts(
    image: Image,
    confinement: &'static [&'static str],
) -> (HostLab, DataSource) {
    let lab = HostLab::boot_confined(image, confinement);
    let refused = "systemd-run --quiet --wait --property ProtectSystem=strict --property PrivateTmp=yes \
                   --property User=ada true";
    lab.host.run("root", refused).expect_code(NAMESPACE);
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup)
        .expect_words(&["without mount sandboxing"]);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    assert_eq!(unit_of(&lab, "ProtectSystem"), "no");
    // All the rest holds.
    assert_eq!(unit_of(&lab, "NoNewPrivileges"), "yes");
    assert_eq!(unit_of(&lab, "CapabilityBoundingSet"), "");
    // It was so from its first start on.
    let failed = "journalctl --quiet --output cat --unit 'h_autossh@*' | grep -v rehearsal | grep 'step NAMESPACE'";
    lab.host.run("root", failed).expect_code(FAILED);
    (lab, source)
}

#[test]
fn a_host_whose_root_may_not_look_everywhere_gets_a_unit_without_mount_sandboxing() {
    // As where homes are on a network or FUSE.
    let (mut lab, source) = set_up_without_mounts(
        Image::DebianReady,
        &["--drop-capability=CAP_DAC_OVERRIDE,CAP_DAC_READ_SEARCH"],
    );
    let ada = |line: &str| {
        lab.host.run(
            "ada",
            &format!("HOLISTICS_TUNNEL_CA_CERT={AUTHORITY} holistics-tunnel {line}"),
        )
    };
    ada("doctor")
        .expect_code(0)
        .expect_words(&["without mount sandboxing"]);
    ada("rotate-key --yes").expect_code(0);
    ada("service restart").expect_code(0);
    assert_eq!(unit_of(&lab, "ProtectSystem"), "no");
    ada("doctor").expect_code(0);
    // As a host that could, and was moved to where it cannot.
    let remove_drop_in = "rm /etc/systemd/system/h_autossh@*.service.d/tunnel.conf";
    lab.host.run("root", remove_drop_in).expect_code(0);
    ada("doctor")
        .expect_code(FAILED)
        .expect_words(&["update-tunnel"]);
    ada("update-tunnel --yes")
        .expect_code(0)
        .expect_words(&["without mount sandboxing"]);
    assert_eq!(unit_of(&lab, "ProtectSystem"), "no");
    ada("doctor").expect_code(0);
    lab.host.reboot();
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    remove(&lab, &source).expect_code(0);
    lab.host
        .run("root", "find /etc -name '*h_autossh*' | grep .")
        .expect_code(1);
}

#[test]
fn a_container_that_makes_no_mounts_gets_a_unit_without_mount_sandboxing() {
    set_up_without_mounts(Image::Trixie, &["--system-call-filter=~umount2"]);
}

#[test]
fn service_restart_doctor_its_report_and_status_tell_systemd_s_reason_and_the_remedy_succeeds() {
    const DROP_IN: &str = "/etc/systemd/system/h_autossh@.service.d/zz-admin.conf";
    let lab = HostLab::boot(Image::DebianReady);
    let source = setup_works(&lab, "");
    lab.host
        .run("root", "mkdir -p /etc/systemd/system/h_autossh@.service.d")
        .expect_code(0);
    let ada = |line: &str| {
        lab.host.run(
            "ada",
            &format!("HOLISTICS_TUNNEL_CA_CERT={AUTHORITY} holistics-tunnel {line}"),
        )
    };
    for (setting, status, words) in SPOILT {
        lab.host.write(DROP_IN, format!("[Service]\n{setting}\n"));
        lab.host
            .run("root", "systemctl daemon-reload")
            .expect_code(0);
        let status = format!("exit status {status}");
        let began = Instant::now();
        ada("service restart")
            .expect_code(FAILED)
            .expect_words(&[&status, words, DROP_IN]);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        ada("doctor")
            .expect_code(FAILED)
            .expect_words(&[&status, words, DROP_IN]);
        ada("status").expect_code(FAILED).expect_words(&[&status]);
    }
    let report = ada("doctor --report -");
    report.expect_words(&["exit status 127", DROP_IN]);
    lab.host
        .run("root", &format!("rm {DROP_IN}; systemctl daemon-reload"))
        .expect_code(0);
    // systemd tries again by itself.
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    ada("doctor").expect_code(0);
}

#[test]
fn a_tunnel_that_the_init_script_cannot_start_is_told_in_its_own_words() {
    let lab = HostLab::boot(Image::Sysvinit);
    let source = setup_works(&lab, "");
    let ada = |line: &str| {
        lab.host.run(
            "ada",
            &format!("HOLISTICS_TUNNEL_CA_CERT={AUTHORITY} holistics-tunnel {line}"),
        )
    };
    for (spoil, words, mend) in [
        (
            "mv /usr/bin/autossh /usr/bin/autossh.away",
            "/usr/bin/autossh cannot be run",
            "mv /usr/bin/autossh.away /usr/bin/autossh",
        ),
        (
            "mv /home/ada/.holistics/logs /home/ada/.holistics/away",
            ".holistics/logs/tunnel-",
            "mv /home/ada/.holistics/away /home/ada/.holistics/logs",
        ),
    ] {
        lab.host.run("root", spoil).expect_code(0);
        let began = Instant::now();
        ada("service restart")
            .expect_code(FAILED)
            .expect_words(&[words, "it ended at once"]);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        lab.host
            .run("root", "service h_autossh restart")
            .expect_code(FAILED)
            .expect_words(&[words]);
        ada("doctor").expect_code(FAILED).expect_words(&[words]);
        ada("doctor --report -")
            .expect_code(FAILED)
            .expect_words(&[words]);
        ada("status")
            .expect_code(FAILED)
            .expect_words(&["the init script could not start it"]);
        lab.host.run("root", mend).expect_code(0);
        ada("service restart").expect_code(0);
    }
    ada("doctor").expect_code(0);
    remove(&lab, &source).expect_code(0);
    lab.host
        .run("root", "find /etc /run -name '*h_autossh*' | grep .")
        .expect_code(1);
}
