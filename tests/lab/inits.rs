//! The service `h_autossh` under every init system, through all that can happen to it.
//!
//! One journey for all of them: set up by the generated command, governed by `service`, rebooted,
//! joined by a second tunnel and removed beside it; then that one killed in every way, its host
//! without power, and removed in its turn. What must be as before is the whole disk, but for what
//! [`Disk`] does not look at.
//!
//! The seconds that it prints depend on what else the machine does.

use std::time::Instant;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::former::{DATABASE_NAME, name_database};
use crate::packages::{packages, packages_in_receipt};
use crate::setup::{RETURN_LIMIT, comes_back, remove, run_generated_command, setup_works};
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::{Image, Init};
use crate::support::lab::{SERVICE_LIMIT, tunnel_of};
use crate::support::process::Finished;
use crate::support::sql::LockedQuery;
use crate::support::wait;

/// What `service h_autossh status` ends with.
const RUNS: i32 = 0;
const IS_DEAD: i32 = 1;
const IS_STOPPED: i32 = 3;

#[test]
fn systemd_247_keeps_the_tunnels_up_through_everything_and_removal_leaves_nothing() {
    journey_under_systemd(Image::Bullseye, "systemd 247");
}

#[test]
fn systemd_252_keeps_the_tunnels_up_through_everything_and_removal_leaves_nothing() {
    journey_under_systemd(Image::DebianReady, "systemd 252");
}

#[test]
fn systemd_257_keeps_the_tunnels_up_through_everything_and_removal_leaves_nothing() {
    journey_under_systemd(Image::Trixie, "systemd 257");
}

/// Debian's next release moves on: 262 when this was written.
#[test]
fn a_systemd_without_init_scripts_keeps_the_tunnels_up_and_removal_leaves_nothing() {
    let lab = journey_under_systemd(Image::Sid, "systemd 2");
    lab.host
        .run("root", "find / -xdev -name systemd-sysv-generator | grep .")
        .expect_code(1);
}

#[test]
fn sysvinit_keeps_the_tunnels_up_through_everything_and_removal_leaves_nothing() {
    let lab = HostLab::boot(Image::Sysvinit);
    lab.host
        .run("root", "ps -p 1 -o args= && ! test -e /run/systemd/system")
        .expect_code(0)
        .expect_words(&["init ["]);
    journey(lab, Init::Sysv);
}

#[test]
fn under_systemd_the_tunnel_comes_back_after_a_cut_line_and_a_boot_without_network() {
    let mut lab = HostLab::boot(Image::DebianReady);
    let source = setup_works(&lab, "");
    comes_back_after_a_cut_line(&lab, &source);
    comes_back_after_a_boot_without_network(&mut lab, &source);
}

#[test]
fn under_sysvinit_the_tunnel_comes_back_after_a_boot_without_network() {
    let mut lab = HostLab::boot(Image::Sysvinit);
    let source = setup_works(&lab, "");
    comes_back_after_a_boot_without_network(&mut lab, &source);
}

#[test]
fn under_systemd_a_new_target_or_key_does_not_enable_what_an_administrator_has_disabled() {
    stays_disabled(
        Image::DebianReady,
        "systemctl disable h_autossh.service",
        "systemctl is-enabled h_autossh.service",
    );
}

#[test]
fn under_sysvinit_a_new_target_or_key_does_not_enable_what_an_administrator_has_disabled() {
    stays_disabled(
        Image::Sysvinit,
        "update-rc.d h_autossh disable",
        "ls /etc/rc2.d/S*h_autossh",
    );
}

/// Whoever has disabled the service changes what is behind its tunnel, and its key.
fn stays_disabled(image: Image, disable: &str, is_enabled: &str) {
    let lab = HostLab::boot(image);
    let source = set_up(&lab, "Shop");
    lab.host.run("root", is_enabled).expect_code(0);
    lab.host.run("root", disable).expect_code(0);
    let disabled = lab.host.run("root", is_enabled);
    assert_ne!(disabled.code, 0, "{disabled}");
    name_database(&lab.host);
    for change in [
        format!("update-tunnel --host {DATABASE_NAME}"),
        // With it, the tunnel's file changes.
        "rotate-key --key-type ecdsa".to_owned(),
    ] {
        let line = format!("holistics-tunnel {change} --yes");
        lab.host.run("ada", &line).expect_code(0);
        lab.wait_until_rows_come(&source, RETURN_LIMIT);
        let after = lab.host.run("root", is_enabled);
        assert_eq!(after.stdout, disabled.stdout, "{change}\n{after}");
        assert_eq!(after.code, disabled.code, "{change}\n{after}");
    }
}

fn journey_under_systemd(image: Image, version: &str) -> HostLab {
    let lab = HostLab::boot(image);
    let first_line = lab.host.run("root", "systemctl --version | head -n 1");
    figures::say(first_line.stdout.trim());
    first_line.expect_words(&[version]);
    journey(lab, Init::Systemd)
}

fn journey(mut lab: HostLab, init: Init) -> HostLab {
    let began = Instant::now();
    let (disk, installed) = (Disk::of(&lab.host), packages(&lab.host));
    let init_scripts = init_scripts(&lab.host);

    let shop = set_up(&lab, "Shop");
    assert_eq!(packages(&lab.host), installed, "something was installed");
    assert!(packages_in_receipt(&lab.host).is_empty());
    match init {
        Init::Systemd => {
            assert_eq!(self::init_scripts(&lab.host), init_scripts);
            units_are_sound(&lab.host, &shop);
        }
        Init::Sysv => script_is_sound(&lab.host),
    }
    service_governs(&lab, &shop);
    match init {
        Init::Systemd => health_is_not_the_umbrella_s(&lab, &shop),
        Init::Sysv => {}
    }

    let rebooted = Instant::now();
    lab.host.reboot();
    comes_back(&lab, &shop, "the command to reboot", rebooted);

    let billing = set_up(&lab, "Billing");
    service_governs_all(&lab, &[&shop, &billing]);
    removal_spares_the_other_s_query(&lab, &shop, &billing);
    for victim in [Victim::Ssh, Victim::Autossh, Victim::Group] {
        survives(&lab, init, &billing, victim);
    }

    lab.host.power_cut();
    let powered = Instant::now();
    lab.host.power_on();
    comes_back(&lab, &billing, "the power's return", powered);

    remove(&lab, &billing).expect_code(0);
    assert_eq!(lab.state(&billing), DataSourceState::Removed);
    nothing_runs(&lab.host, init);
    assert_eq!(packages(&lab.host), installed);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    figures::say(&format!(
        "the journey: {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    lab
}

fn comes_back_after_a_cut_line(lab: &HostLab, source: &DataSource) {
    lab.network.cut_internet();
    lab.operator
        .wait_for_state(source.id, DataSourceState::Down, RETURN_LIMIT);
    let mended = Instant::now();
    lab.network.mend_internet();
    comes_back(lab, source, "a cut line", mended);
}

fn comes_back_after_a_boot_without_network(lab: &mut HostLab, source: &DataSource) {
    lab.network.cut_internet();
    lab.host.reboot();
    // One attempt at least has failed.
    let first = pids(&lab.host, "ssh");
    is_replaced(&lab.host, &first);
    let mended = Instant::now();
    lab.network.mend_internet();
    comes_back(lab, source, "a boot without network", mended);
    service(lab, "status").expect_code(RUNS);
}

/// A data source, active by the generated command.
fn set_up(lab: &HostLab, name: &str) -> DataSource {
    let source = lab.data_source(name);
    let setup = run_generated_command(lab, &source);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, RETURN_LIMIT);
    source
}

// ---------------------------------------------------------------------------------------------
// The service
// ---------------------------------------------------------------------------------------------

fn service_governs(lab: &HostLab, source: &DataSource) {
    service(lab, "status").expect_code(RUNS);
    service(lab, "start").expect_code(0);

    service(lab, "stop").expect_code(0);
    no_rows_come(lab, source);
    service(lab, "status").expect_code(IS_STOPPED);
    health(lab).expect_code(1).expect_words(&["down"]);
    service(lab, "stop").expect_code(0);

    let started = Instant::now();
    service(lab, "start").expect_code(0);
    comes_back(lab, source, "service h_autossh start", started);
    service(lab, "status").expect_code(RUNS);

    let ssh = pids(&lab.host, "ssh");
    let log = a_long_log(lab, source);
    let restarted = Instant::now();
    service(lab, "restart").expect_code(0);
    is_replaced(&lab.host, &ssh);
    comes_back(lab, source, "service h_autossh restart", restarted);
    health(lab).expect_code(0);
    is_begun_anew(lab, &log);
}

/// A tunnel's log as weeks without a network leave it.
fn a_long_log(lab: &HostLab, source: &DataSource) -> String {
    let log = format!(
        "/home/ada/.holistics/logs/tunnel-{}.log",
        slug(&lab.host, source)
    );
    let fill = format!("head -c 1100000 /dev/zero | tr '\\0' x >>{log}");
    lab.host.run("ada", &fill).expect_code(0);
    log
}

/// The former log is kept, and both are the user's own.
fn is_begun_anew(lab: &HostLab, log: &str) {
    let look = format!("find {log} -size -100k -user ada && find {log}.1 -size +1000k -user ada");
    lab.host
        .run("root", &look)
        .expect_code(0)
        .expect_words(&[&format!("{log}\n"), &format!("{log}.1")]);
}

fn service_governs_all(lab: &HostLab, sources: &[&DataSource]) {
    service(lab, "stop").expect_code(0);
    for source in sources {
        no_rows_come(lab, source);
    }
    service(lab, "start").expect_code(0);
    for source in sources {
        lab.wait_until_rows_come(source, RETURN_LIMIT);
    }
    health(lab).expect_code(0);
}

/// The umbrella runs whatever becomes of its tunnels; our own command tells, and `start` heals.
fn health_is_not_the_umbrella_s(lab: &HostLab, source: &DataSource) {
    let stop = format!("sudo systemctl stop h_autossh@{}", slug(&lab.host, source));
    lab.host.run("ada", &stop).expect_code(0);
    no_rows_come(lab, source);
    service(lab, "status").expect_code(RUNS);
    let tunnel = format!("tunnel {}: DOWN", tunnel_of(source).id);
    health(lab).expect_code(1).expect_words(&[&tunnel]);

    service(lab, "start").expect_code(0);
    lab.wait_until_rows_come(source, RETURN_LIMIT);
    health(lab).expect_code(0);
}

/// `sudo service h_autossh ACTION`, as ada types it.
fn service(lab: &HostLab, action: &str) -> Finished {
    lab.host
        .run("ada", &format!("sudo service h_autossh {action}"))
}

/// Our own command's word on all tunnels.
fn health(lab: &HostLab) -> Finished {
    lab.host.run("ada", "holistics-tunnel service status")
}

#[track_caller]
fn no_rows_come(lab: &HostLab, source: &DataSource) {
    wait::until_true(
        "the end of the rows",
        RETURN_LIMIT,
        || health(lab).to_string(),
        || lab.login_through(source).is_err(),
    );
}

/// systemd finds nothing to say about the units, and little that they expose.
fn units_are_sound(host: &Host, source: &DataSource) {
    let unit = format!("h_autossh@{}.service", slug(host, source));
    let verified = host
        .run(
            "root",
            &format!("systemd-analyze verify h_autossh.service {unit}"),
        )
        .expect_code(0);
    assert_eq!(verified.output(), "");
    let security = host
        .run(
            "root",
            &format!("systemd-analyze security --no-pager {unit}"),
        )
        .expect_code(0);
    let verdict = security.stdout.lines().last().unwrap_or_default();
    figures::say(verdict.trim());
    let exposure: f64 = verdict
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no figure in\n{security}"));
    assert!(exposure < 2.0, "{security}");
}

/// The tunnel's name on the host.
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

/// The shell that runs the script at boot takes it.
fn script_is_sound(host: &Host) {
    host.run("root", "sh -n /etc/init.d/h_autossh")
        .expect_code(0);
    host.run("root", "ls /etc/rc2.d/S*h_autossh /etc/rc6.d/K*h_autossh")
        .expect_code(0);
}

fn init_scripts(host: &Host) -> String {
    host.run("root", "ls -l --time-style=full-iso /etc/init.d")
        .stdout
}

// ---------------------------------------------------------------------------------------------
// Two tunnels
// ---------------------------------------------------------------------------------------------

/// Removes `gone` while a query runs through `kept`: it ends when a lock is released, which is done
/// through `kept` too, after the removal.
fn removal_spares_the_other_s_query(lab: &HostLab, gone: &DataSource, kept: &DataSource) {
    let both = pids(&lab.host, "ssh");
    let login = || lab.login_through(kept).expect("a login");
    let query = LockedQuery::begin(login(), login());

    remove(lab, gone).expect_code(0);
    assert_eq!(lab.state(gone), DataSourceState::Removed);
    assert_eq!(lab.state(kept), DataSourceState::Active);
    assert!(query.is_running(), "the lock did not hold the query");
    let answer = query.answer().expect("the query's answer");
    assert_eq!(answer, LockedQuery::ANSWER);
    let left = pids(&lab.host, "ssh");
    assert!(
        both.contains(&left),
        "restarted: {left} was none of\n{both}"
    );
    health(lab).expect_code(0);
}

// ---------------------------------------------------------------------------------------------
// Deaths
// ---------------------------------------------------------------------------------------------

/// What is killed of the only tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Ssh,
    Autossh,
    /// The process group of both.
    Group,
}

impl Victim {
    fn kill(self) -> &'static str {
        match self {
            Victim::Ssh => "pkill --signal KILL --exact ssh",
            Victim::Autossh => "pkill --signal KILL --exact autossh",
            Victim::Group => "kill -s KILL -- -$(ps -o pgid= -C autossh | tr -d ' ')",
        }
    }
}

/// The tunnel is back by itself; where SysV's init starts nothing again, by `service h_autossh
/// start`, after `status` has named it.
fn survives(lab: &HostLab, init: Init, source: &DataSource, victim: Victim) {
    let ssh = pids(&lab.host, "ssh");
    let killed = Instant::now();
    lab.host.run("root", victim.kill()).expect_code(0);
    if init == Init::Sysv && victim != Victim::Ssh {
        let dead = format!("tunnel {}: dead", slug(&lab.host, source));
        service(lab, "status")
            .expect_code(IS_DEAD)
            .expect_words(&[&dead]);
        service(lab, "start").expect_code(0);
    }
    is_replaced(&lab.host, &ssh);
    comes_back(lab, source, &format!("the end of {victim:?}"), killed);
    service(lab, "status").expect_code(RUNS);
    health(lab).expect_code(0);
}

#[track_caller]
fn is_replaced(host: &Host, ssh: &str) {
    let now = || pids(host, "ssh");
    wait::until_true(
        "another ssh",
        RETURN_LIMIT,
        || host.run("root", "ps axf").stdout,
        || !now().is_empty() && now() != ssh,
    );
}

/// The numbers of the processes with this name, a line for each.
fn pids(host: &Host, name: &str) -> String {
    host.run("root", &format!("pgrep --exact {name}")).stdout
}

fn nothing_runs(host: &Host, init: Init) {
    // A process that has ended is in the list until its parent has seen that.
    wait::until_true(
        "the tunnels' processes to be gone",
        SERVICE_LIMIT,
        || host.run("root", "ps axf").stdout,
        || pids(host, "ssh").is_empty() && pids(host, "autossh").is_empty(),
    );
    host.run("root", "ls -d /run/h_autossh").expect_code(2);
    if init == Init::Systemd {
        let units = "systemctl list-units --all --no-legend 'h_autossh*'";
        let units = host.run("root", units).expect_code(0);
        assert_eq!(units.output(), "");
    }
}
