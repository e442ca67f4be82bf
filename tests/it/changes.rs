//! A tunnel that exists is changed: another database behind it, or another key in front of it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::postgres::Postgres;
use crate::support::process::{self, Finished, Running};
use crate::support::server::Server;
use crate::support::snapshot::Snapshot;
use crate::support::sql::{Client, LockedQuery, Login};
use crate::support::{figures, ports, wait};
use holistics_tunnel::protocol::{DataSource, DataSourceState, DatabaseAddress, TunnelKey};
use rustix::process::Signal;

/// Which of several databases answers.
const WHICH: &str = "SELECT inet_server_port()::bigint";
/// Longer than a change of a sibling takes, and answered with a number of its own.
/// A tunnel that does not come up is waited for, and then the way back is gone.
const LONG_LIMIT: Duration = Duration::from_secs(200);

// ---------------------------------------------------------------------------------------------
// Another database
// ---------------------------------------------------------------------------------------------

#[test]
fn a_target_changed_in_the_browser_is_applied_by_one_command_and_the_sibling_runs_on() {
    let lab = Lab::new();
    let other = Postgres::start();
    let shop = lab.active_data_source("Shop");
    let billing = lab.active_data_source("Billing");
    let applied = tunnel_of(&shop)
        .applied
        .clone()
        .expect("setup has reported it");
    assert_eq!(applied.port, lab.postgres.port());

    let changed = lab.operator.change_port(shop.id, other.port());
    let id = tunnel_of(&shop).id;
    let command = format!("~/.holistics/bin/holistics-tunnel update-tunnel {id}");
    assert_eq!(changed.update_command, Some(command));
    assert_eq!(tunnel_of(&changed).pending, Some(local(other.port())));
    assert_eq!(
        tunnel_of(&changed).applied,
        Some(local(lab.postgres.port()))
    );
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());

    let sibling = ssh_of(&lab, &billing);
    let query = lab.query_that_runs_on(&billing);
    update(&lab, &shop, &[])
        .expect_code(0)
        .expect_words(&[&lab.postgres.port().to_string(), &other.port().to_string()]);
    assert!(query.is_running(), "the change outlasted the query");
    assert_eq!(database_behind(&lab, &shop), other.port());
    assert_eq!(
        query.answer().expect("the held query's answer"),
        LockedQuery::ANSWER
    );
    assert_eq!(ssh_of(&lab, &billing), sibling, "it was restarted");

    let now = lab.operator.data_source(shop.id);
    assert_eq!(now.state, DataSourceState::Active);
    assert_eq!(tunnel_of(&now).remote_port, tunnel_of(&shop).remote_port);
    assert_eq!(tunnel_of(&now).applied, Some(local(other.port())));
    assert_eq!(
        (&tunnel_of(&now).pending, &now.update_command),
        (&None, &None)
    );

    let before = lab.bastion.snapshot_of_what_lasts();
    let ssh = ssh_of(&lab, &shop);
    update(&lab, &shop, &[])
        .expect_code(0)
        .expect_words(&["already as in the browser"]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_eq!(ssh_of(&lab, &shop), ssh, "it was restarted");
    lab.bastion.service("restart").expect_code(0);
    wait_for_database(&lab, &shop, other.port());
}

#[test]
fn a_target_given_on_the_bastion_is_the_browser_s_too() {
    let lab = Lab::new();
    let empty = lab.bastion.snapshot();
    let other = Postgres::start();
    let shop = lab.active_data_source("Shop");
    let port = other.port().to_string();

    let before = lab.bastion.snapshot_of_what_lasts();
    let mut command = lab.bastion.program(["update-tunnel", "--port", &port]);
    lab.bastion
        .run(&mut command)
        .expect_code(2)
        .expect_words(&["--yes"]);
    update(&lab, &shop, &["--port", &port, "--dry-run"])
        .expect_code(0)
        .expect_words(&["h_autossh", &port]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_eq!(
        lab.operator.data_source(shop.id).port,
        lab.postgres.port(),
        "the browser was told of what was not done"
    );

    // Without a number: it is the only one.
    let mut command = lab
        .bastion
        .program(["update-tunnel", "--port", &port, "--yes", "--json"]);
    let finished = lab.bastion.run(&mut command).expect_code(0);
    let last = finished.stdout.lines().last().expect("an event");
    let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(last["event"], "finished", "{last:#}");
    assert_eq!(last["result"]["to"]["port"], other.port(), "{last:#}");
    assert_eq!(database_behind(&lab, &shop), other.port());
    let now = lab.operator.data_source(shop.id);
    assert_eq!((now.port, &tunnel_of(&now).pending), (other.port(), &None));

    lab.remove(&shop).expect_code(0);
    assert_eq!(process::naming(&lab.bastion.home()), []);
    empty.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_bad_new_target_is_refused_before_anything_is_changed() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let before = lab.bastion.snapshot_of_what_lasts();
    let ssh = ssh_of(&lab, &shop);
    let closed = ports::free_port();
    lab.operator.change_port(shop.id, closed);
    update(&lab, &shop, &[])
        .expect_code(1)
        .expect_words(&[&format!("127.0.0.1:{closed}"), "refused"]);
    for host in ["-oProxyCommand=id", "db;id", "$(id)", "a b"] {
        let host = format!("--host={host}");
        update(&lab, &shop, &[&host, "--no-database-check"])
            .expect_code(2)
            .expect_words(&["is not a valid database host"]);
    }
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_eq!(ssh_of(&lab, &shop), ssh, "it was restarted");
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
}

#[test]
fn which_tunnel_is_meant_has_to_be_clear_and_its_setup_finished() {
    let lab = Lab::new();
    let none = lab.bastion.run(&mut lab.bastion.program(["update-tunnel"]));
    none.expect_code(1).expect_words(&["no tunnels"]);
    lab.active_data_source("Shop");
    let billing = lab.data_source("Billing");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&billing));
    lab.bastion
        .start(setup.args(["--wait", "1s"]))
        .wait(SETUP_LIMIT)
        .expect_code(1);
    let several = lab.bastion.run(&mut lab.bastion.program(["update-tunnel"]));
    several
        .expect_code(2)
        .expect_words(&["which tunnel", "Shop", "Billing"]);
    update(&lab, &billing, &[])
        .expect_code(1)
        .expect_words(&["not finished", "setup command"]);
    rotate(&lab, &[])
        .wait(LONG_LIMIT)
        .expect_code(1)
        .expect_words(&["not finished", "setup command"]);
}

#[test]
fn a_server_that_goes_in_the_middle_leaves_the_tunnel_with_its_former_target() {
    let mut lab = Lab::new();
    let other = Postgres::start();
    let shop = lab.active_data_source("Shop");
    let before = what_lasts(&lab, &shop);
    lab.operator.change_port(shop.id, other.port());
    let running = start_update(&lab, &shop);
    wait_until_written(&lab, &shop, other.port(), &running);
    lab.server.kill();
    running
        .wait(LONG_LIMIT)
        .expect_code(3)
        .expect_words(&["as before", &lab.postgres.port().to_string()]);
    before.assert_same(&what_lasts(&lab, &shop));
    lab.bastion.service("status").expect_code(0);

    lab.server.start_again();
    wait_for_database(&lab, &shop, lab.postgres.port());
    update(&lab, &shop, &[]).expect_code(0);
    assert_eq!(database_behind(&lab, &shop), other.port());
}

#[test]
fn an_update_that_is_interrupted_leaves_the_former_target() {
    let lab = Lab::new();
    let other = Postgres::start();
    let shop = lab.active_data_source("Shop");
    let before = what_lasts(&lab, &shop);
    lab.operator.change_port(shop.id, other.port());
    let running = start_update(&lab, &shop);
    wait_until_written(&lab, &shop, other.port(), &running);
    running.signal(Signal::INT);
    running.wait(LONG_LIMIT).expect_code(130);
    before.assert_same(&what_lasts(&lab, &shop));
    wait_for_database(&lab, &shop, lab.postgres.port());
}

#[test]
fn an_update_killed_in_the_middle_is_finished_by_the_next_run_or_taken_away_by_the_removal() {
    let lab = Lab::new();
    let empty = lab.bastion.snapshot();
    let other = Postgres::start();
    let shop = lab.active_data_source("Shop");
    lab.operator.change_port(shop.id, other.port());
    let running = start_update(&lab, &shop);
    wait_until_written(&lab, &shop, other.port(), &running);
    drop(running);
    update(&lab, &shop, &[]).expect_code(0);
    wait_for_database(&lab, &shop, other.port());
    let now = lab.operator.data_source(shop.id);
    assert_eq!(tunnel_of(&now).pending, None);

    lab.operator.change_port(shop.id, lab.postgres.port());
    let running = start_update(&lab, &shop);
    wait_until_written(&lab, &shop, lab.postgres.port(), &running);
    drop(running);
    // Where the kill hits the receipt's new content.
    std::fs::write(lab.bastion.own_folder().join(".receipt.json.new"), "{").expect("a file");
    lab.remove(&shop).expect_code(0);
    assert_eq!(process::naming(&lab.bastion.home()), []);
    empty.assert_same(&lab.bastion.snapshot());
}

#[test]
fn without_a_service_manager_the_new_command_is_shown() {
    let lab = Lab::new();
    let other = Postgres::start();
    let shop = lab.data_source("Shop");
    let with_service = lab.bastion.setup(&lab.server, token_of(&shop));
    let without = with_service
        .get_args()
        .map(|argument| match argument.to_str() {
            Some("sysv") => "none".into(),
            _ => argument.to_owned(),
        });
    let running = lab.bastion.start(&mut lab.bastion.program(without));
    lab.wait_until_connected(&shop, &running);
    lab.operator.save(shop.id);
    running.wait(SETUP_LIMIT).expect_code(0);

    lab.operator.change_port(shop.id, other.port());
    let forward = format!("127.0.0.1:{}", other.port());
    update(&lab, &shop, &[])
        .expect_code(0)
        .expect_words(&["supervisor", "autossh", &forward]);
    rotate(&lab, &[])
        .wait(LONG_LIMIT)
        .expect_code(1)
        .expect_words(&["no service", "nothing was changed"]);
}

// ---------------------------------------------------------------------------------------------
// Another key
// ---------------------------------------------------------------------------------------------

#[test]
fn a_new_key_takes_the_old_one_s_place_for_both_tunnels_with_one_short_gap_each() {
    let lab = Lab::new();
    let empty = lab.bastion.snapshot();
    let shop = lab.active_data_source("Shop");
    let billing = lab.active_data_source("Billing");
    let old = kept_key(&lab);
    let files = file_names(&lab);

    let watches = [&shop, &billing].map(|source| Watch::start(&lab, source));
    rotate(&lab, &[])
        .wait(LONG_LIMIT)
        .expect_code(0)
        .expect_words(&["new key"]);
    for (watch, source) in watches.into_iter().zip([&shop, &billing]) {
        let gap = watch.longest_gap();
        figures::say(&format!(
            "no rows from {} for {gap:.2?}",
            source.display_name
        ));
        assert!(gap < Duration::from_secs(10), "no rows for {gap:?}");
    }

    assert_ne!(public_key_of(&lab, &old), public_key(&lab), "no new key");
    assert_eq!(file_names(&lab), files, "something was left beside the key");
    assert_refused(&lab, &old, &[&shop, &billing]);
    for source in [&shop, &billing] {
        assert_eq!(lab.state(source), DataSourceState::Active);
        assert_eq!(database_behind(&lab, source), lab.postgres.port());
    }
    // A third tunnel is set up with the new key, and a restart finds it.
    let third = lab.active_data_source("Third");
    lab.bastion.service("restart").expect_code(0);
    wait_for_database(&lab, &third, lab.postgres.port());
    wait_for_database(&lab, &shop, lab.postgres.port());

    let mut all = lab.bastion.program(["uninstall-tunnel", "--all", "--yes"]);
    lab.bastion.run(&mut all).expect_code(0);
    assert_eq!(process::naming(&lab.bastion.home()), []);
    empty.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_new_key_of_another_kind_stands_under_its_own_name() {
    let lab = Lab::new();
    let empty = lab.bastion.snapshot();
    let shop = lab.active_data_source("Shop");
    let old = kept_key(&lab);
    rotate(&lab, &["--key-type", "ecdsa"])
        .wait(LONG_LIMIT)
        .expect_code(0);
    let folder = lab.bastion.own_folder();
    assert!(folder.join("id_ecdsa").exists() && folder.join("id_ecdsa.pub").exists());
    assert!(!folder.join("id_ed25519").exists() && !folder.join("id_ed25519.pub").exists());
    assert_refused(&lab, &old, &[&shop]);
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
    lab.remove(&shop).expect_code(0);
    empty.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_key_change_killed_anywhere_goes_on_and_the_tunnels_come_up_meanwhile() {
    const ATTEMPTS: u32 = 5;
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let billing = lab.active_data_source("Billing");
    let receipt = || std::fs::read_to_string(lab.bastion.receipt()).unwrap_or_default();
    let folder = lab.bastion.own_folder();
    type Point<'a> = (&'a str, Box<dyn Fn(&Running) -> bool + 'a>);
    let points: [Point; 4] = [
        (
            "the pair is being made",
            Box::new(|_| receipt().contains("key_rotation")),
        ),
        (
            "it is announced",
            Box::new(|_| folder.join("former_key").exists()),
        ),
        (
            "it is in its place",
            Box::new(|_| receipt().contains("key_switched")),
        ),
        (
            "one of two tunnels runs with it",
            Box::new(|running| running.output().contains("Tunnel 2: restarting")),
        ),
    ];
    let old = kept_key(&lab);
    for (name, is_reached) in points {
        println!("killed when {name}");
        // On a busy machine the end may come before the kill; then there is nothing to go on with.
        let is_unfinished = (0..ATTEMPTS).any(|_| {
            // Of a kind that takes long enough in the making to be met there.
            let running = rotate(&lab, &["--key-type", "rsa"]);
            running.wait_until(name, SETUP_LIMIT, || is_reached(&running));
            drop(running);
            receipt().contains("key_rotation")
        });
        assert!(is_unfinished, "never killed in time when {name}");
        // As after a reboot: whatever stands on the disk opens the tunnels.
        lab.bastion.service("restart").expect_code(0);
        for source in [&shop, &billing] {
            wait_for_database(&lab, source, lab.postgres.port());
        }
        let setup = lab.data_source("Third");
        lab.start_setup(&setup)
            .wait(SETUP_LIMIT)
            .expect_code(1)
            .expect_words(&["not finished", "rotate-key"]);
    }
    rotate(&lab, &[]).wait(LONG_LIMIT).expect_code(0);
    assert_refused(&lab, &old, &[&shop, &billing]);
    for source in [&shop, &billing] {
        assert_eq!(lab.state(source), DataSourceState::Active);
        assert_eq!(database_behind(&lab, source), lab.postgres.port());
    }
}

#[test]
fn a_key_change_interrupted_before_the_switch_leaves_no_trace() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let before = lab.bastion.snapshot_of_what_lasts();
    // Of a kind that takes long enough in the making to be met there.
    let running = rotate(&lab, &["--key-type", "rsa"]);
    running.wait_until("the new pair", SETUP_LIMIT, || {
        let receipt = std::fs::read_to_string(lab.bastion.receipt());
        receipt.is_ok_and(|receipt| receipt.contains("key_rotation"))
    });
    running.signal(Signal::INT);
    running
        .wait(LONG_LIMIT)
        .expect_code(130)
        .expect_words(&["was undone"]);
    let after = lab.bastion.snapshot_of_what_lasts();
    before
        .without(&lab.bastion.receipt())
        .assert_same(&after.without(&lab.bastion.receipt()));
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
    rotate(&lab, &[]).wait(LONG_LIMIT).expect_code(0);
}

#[test]
fn a_server_that_goes_after_the_switch_is_waited_for_by_the_next_run() {
    let mut lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let old = kept_key(&lab);
    let running = rotate(&lab, &["--key-type", "ecdsa"]);
    running.wait_until("the switch", SETUP_LIMIT, || {
        let receipt = std::fs::read_to_string(lab.bastion.receipt());
        receipt.is_ok_and(|receipt| receipt.contains("key_switched"))
    });
    lab.server.kill();
    running
        .wait(LONG_LIMIT)
        .expect_code(4)
        .expect_words(&["not finished", "rotate-key"]);
    lab.server.start_again();
    wait_for_database(&lab, &shop, lab.postgres.port());
    rotate(&lab, &[]).wait(LONG_LIMIT).expect_code(0);
    assert_refused(&lab, &old, &[&shop]);
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
}

#[test]
fn a_tunnel_that_does_not_come_up_with_the_new_key_goes_on_with_the_old_one() {
    let mut lab = Lab::new();
    lab.bastion = Bastion::without(&["ssh"]);
    // An ssh that fails as long as a new key is in the present one's place.
    lab.bastion.put_program(
        "ssh",
        &format!(
            "if grep -qs key_switched {}; then exit 255; fi\nexec /usr/bin/ssh \"$@\"",
            lab.bastion.receipt().display()
        ),
    );
    let shop = lab.active_data_source("Shop");
    let key = public_key(&lab);
    rotate(&lab, &["--key-type", "ecdsa"])
        .wait(LONG_LIMIT)
        .expect_code(3)
        .expect_words(&["was undone", "up again as before"]);
    assert_eq!(public_key(&lab), key);
    assert!(!lab.bastion.own_folder().join("id_ecdsa").exists());
    wait_for_database(&lab, &shop, lab.postgres.port());
    lab.bastion.service("status").expect_code(0);
}

#[test]
fn a_new_key_that_does_not_open_the_tunnel_is_told_before_anything_is_restarted() {
    let mut lab = Lab::new();
    lab.bastion = Bastion::without(&["ssh"]);
    // As where a policy forbids keys of a type that ssh itself knows.
    let policy = "PubkeyAcceptedAlgorithms=ssh-ed25519";
    lab.bastion.put_program(
        "ssh",
        &format!(
            "case \"$*\" in *tunnel@*) set -- -o {policy} \"$@\" ;; esac\nexec /usr/bin/ssh \"$@\""
        ),
    );
    let shop = lab.active_data_source("Shop");
    let (key, ssh, files) = (public_key(&lab), ssh_of(&lab, &shop), file_names(&lab));
    rotate(&lab, &["--key-type", "ecdsa"])
        .wait(LONG_LIMIT)
        .expect_code(3)
        .expect_words(&[
            "does not let this host in with the new key",
            "Permission denied",
            "keeps its ssh from keys of this type",
            "--key-type",
        ]);
    assert_eq!(public_key(&lab), key);
    assert_eq!(file_names(&lab), files);
    assert_eq!(ssh_of(&lab, &shop), ssh, "it was restarted");
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
    // The vendor has forgotten the other one, and a key that is allowed takes the place.
    rotate(&lab, &[]).wait(LONG_LIMIT).expect_code(0);
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
}

#[test]
fn the_old_key_s_time_ends_by_itself_once_the_new_one_was_seen() {
    let lab = Lab::with(Server::start_with(10, &["--key-overlap", "1s"]));
    let shop = lab.active_data_source("Shop");
    let old = kept_key(&lab);
    let first = ssh_of(&lab, &shop);
    let running = rotate(&lab, &[]);
    running.wait_until("an ssh with the new key", SETUP_LIMIT, || {
        ssh_ids(&lab, &shop).iter().any(|ssh| *ssh != first)
    });
    drop(running);
    wait_for_database(&lab, &shop, lab.postgres.port());
    wait::until_true(
        "the old key to be refused",
        SERVICE_LIMIT,
        String::new,
        || is_refused(&lab, &old, &shop),
    );
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
    rotate(&lab, &[]).wait(LONG_LIMIT).expect_code(0);
    assert_eq!(database_behind(&lab, &shop), lab.postgres.port());
}

#[test]
fn a_key_is_announced_as_often_as_wanted_and_another_bastion_s_is_refused() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let stranger = Lab {
        bastion: Bastion::new(),
        operator: lab.server.operator(),
        server: Server::start(),
        postgres: Arc::clone(&lab.postgres),
    };
    let theirs = lab.data_source("Theirs");
    let setup = &mut stranger.bastion.setup(&lab.server, token_of(&theirs));
    let setup = stranger.bastion.start(setup);
    lab.wait_until_connected(&theirs, &setup);
    lab.save_and_finish(&theirs, setup);

    let call = |method, path: &str, key: &str| call(&lab, &shop, method, path, key);
    let put = |key: &str| call(reqwest::Method::PUT, "", key);
    let confirm = |key: &str| call(reqwest::Method::POST, "/confirm", key);
    let present = public_key(&lab);
    let (status, _) = put(&public_key(&stranger));
    assert_eq!(status, 409);
    let new = generated_key(&lab, "new");
    for _ in 0..2 {
        let (status, body) = put(&new);
        assert_eq!(status, 200, "{body}");
        let key: TunnelKey = serde_json::from_str(&body).expect("a key");
        assert!(key.former_accepted);
    }
    let (status, body) = confirm(&new);
    assert_eq!(status, 409, "no session has proved it: {body}");
    // The present key takes it back.
    let (_, body) = put(&present);
    let key: TunnelKey = serde_json::from_str(&body).expect("a key");
    assert!(!key.former_accepted);
    assert_eq!(confirm(&present).0, 200);
    assert_eq!(confirm(&new).0, 409);
    assert_eq!(lab.state(&shop), DataSourceState::Active);
}

// ---------------------------------------------------------------------------------------------

fn local(port: u16) -> DatabaseAddress {
    DatabaseAddress {
        host: "127.0.0.1".into(),
        port,
    }
}

/// What is on the bastion's disk, but for the number of the process that keeps this tunnel.
fn what_lasts(lab: &Lab, source: &DataSource) -> Snapshot {
    let pid_file = lab.bastion.pid_file(tunnel_of(source).id);
    lab.bastion.snapshot_of_what_lasts().without(&pid_file)
}

fn update_command(lab: &Lab, source: &DataSource) -> Command {
    let id = tunnel_of(source).id.to_string();
    lab.bastion.program(["update-tunnel", &id, "--yes"])
}

fn update(lab: &Lab, source: &DataSource, more: &[&str]) -> Finished {
    lab.bastion.run(update_command(lab, source).args(more))
}

fn start_update(lab: &Lab, source: &DataSource) -> Running {
    lab.bastion.start(&mut update_command(lab, source))
}

fn rotate(lab: &Lab, more: &[&str]) -> Running {
    let mut command = lab.bastion.program(["rotate-key", "--yes"]);
    lab.bastion.start(command.args(more))
}

/// Waits until the tunnel's file names this port of the database: the middle of an update.
fn wait_until_written(lab: &Lab, source: &DataSource, port: u16, running: &Running) {
    let file = lab.bastion.tunnel_file(tunnel_of(source).id);
    running.wait_until("the tunnel's file", SERVICE_LIMIT, || {
        let content = std::fs::read_to_string(&file).unwrap_or_default();
        content.contains(&format!(":127.0.0.1:{port}"))
    });
}

fn which(lab: &Lab, source: &DataSource) -> Result<i64, sqlx::Error> {
    lab.login_through(source)?.number(WHICH)
}

fn database_behind(lab: &Lab, source: &DataSource) -> u16 {
    let port = which(lab, source).expect("rows through the tunnel");
    u16::try_from(port).expect("a port")
}

fn wait_for_database(lab: &Lab, source: &DataSource, port: u16) {
    wait::until_true(
        "the right database behind the tunnel",
        Duration::from_secs(90),
        || {
            let log = lab.bastion.tunnel_log(tunnel_of(source).id);
            let processes: Vec<_> = ["ssh", "autossh"]
                .iter()
                .flat_map(|name| lab.bastion.processes(name))
                .collect();
            format!(
                "{:?}\n--- its log\n{}\n--- processes\n{processes:#?}\n--- the server\n{}",
                which(lab, source),
                std::fs::read_to_string(log).unwrap_or_default(),
                lab.server.log()
            )
        },
        || which(lab, source).is_ok_and(|found| found == i64::from(port)),
    );
}

fn ssh_ids(lab: &Lab, source: &DataSource) -> Vec<i32> {
    let port = tunnel_of(&lab.operator.data_source(source.id)).remote_port;
    let forward = format!("127.0.0.1:{}:", port.expect("a port"));
    let mut all = lab.bastion.processes("ssh");
    all.retain(|process| process.arguments.contains(&forward));
    all.iter().map(|process| process.pid).collect()
}

fn ssh_of(lab: &Lab, source: &DataSource) -> i32 {
    let all = ssh_ids(lab, source);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn file_names(lab: &Lab) -> Vec<String> {
    let folder = lab.bastion.own_folder();
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A copy of the present private key, as a thief has it.
fn kept_key(lab: &Lab) -> PathBuf {
    let copy = lab.bastion.prefix().with_file_name("stolen");
    std::fs::copy(lab.bastion.private_key(), &copy).expect("the key");
    copy
}

fn public_key(lab: &Lab) -> String {
    public_key_of(lab, &lab.bastion.private_key())
}

fn public_key_of(lab: &Lab, private_key: &std::path::Path) -> String {
    let mut command = lab.bastion.any_program("ssh-keygen");
    let printed = lab
        .bastion
        .run(command.args(["-y", "-f"]).arg(private_key))
        .expect_code(0);
    let words: Vec<&str> = printed.stdout.split_whitespace().take(2).collect();
    words.join(" ")
}

fn generated_key(lab: &Lab, name: &str) -> String {
    let file = lab.bastion.prefix().with_file_name(name);
    let mut command = lab.bastion.any_program("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
    lab.bastion.run(command.arg(&file)).expect_code(0);
    public_key_of(lab, &file)
}

/// Whether the tunnel server refuses a real ssh with this key.
fn is_refused(lab: &Lab, private_key: &std::path::Path, source: &DataSource) -> bool {
    let port = tunnel_of(&lab.operator.data_source(source.id)).remote_port;
    let forward = format!("127.0.0.1:{}:127.0.0.1:9", port.expect("a port"));
    let mut command = lab.bastion.any_program("timeout");
    command.args([
        "5",
        "/usr/bin/ssh",
        "-F",
        "none",
        "-N",
        "-T",
        "-R",
        &forward,
    ]);
    let known_hosts = lab.bastion.own_folder().join("known_hosts");
    let known_hosts = format!("UserKnownHostsFile={}", known_hosts.display());
    let alias = format!("HostKeyAlias={}", lab.bastion.slug(tunnel_of(source).id));
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "ExitOnForwardFailure=yes",
        &known_hosts,
        &alias,
    ] {
        command.args(["-o", option]);
    }
    command.arg("-i").arg(private_key);
    command.args(["-p", lab.server.ssh_port(), "tunnel@127.0.0.1"]);
    let finished = lab.bastion.run(&mut command);
    finished.output().contains("Permission denied")
}

#[track_caller]
fn assert_refused(lab: &Lab, private_key: &std::path::Path, sources: &[&DataSource]) {
    for source in sources {
        assert!(
            is_refused(lab, private_key, source),
            "the old key is accepted"
        );
    }
}

/// A call of the tunnel's own, with its token.
fn call(
    lab: &Lab,
    source: &DataSource,
    method: reqwest::Method,
    path: &str,
    key: &str,
) -> (u16, String) {
    let id = tunnel_of(source).id;
    let record = lab.bastion.tunnel_record(id);
    let token = record["enrolled"]["tunnel_token"].as_str();
    let url = format!("{}/api/v1/tunnels/{id}/public-key{path}", lab.server.url);
    let client = reqwest::blocking::Client::builder().no_proxy().build();
    let response = client
        .expect("an HTTP client")
        .request(method, url)
        .bearer_auth(token.expect("a token"))
        .json(&serde_json::json!({ "public_key": key }))
        .send()
        .expect("an answer");
    (response.status().as_u16(), response.text().expect("a body"))
}

/// Asks for rows through a tunnel again and again, and notes for how long there were none.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    fn start(lab: &Lab, source: &DataSource) -> Self {
        let now = lab.operator.data_source(source.id);
        let port = tunnel_of(&now).remote_port.expect("a port");
        let login: Login = lab.postgres.login();
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !is_over.load(Ordering::SeqCst) {
                let rows = Client::connect(port, &login).and_then(|mut c| c.number(WHICH));
                if rows.is_ok() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            longest.max(last.elapsed())
        });
        Watch { stop, thread }
    }

    fn longest_gap(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the watch")
    }
}
