//! The journey as its users see it: a vendor's operator, and a customer at a bastion's shell.

use std::process::Command;
use std::time::Duration;

use crate::support::bastion::{KEY_TYPE, SETUP_LIMIT};
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::postgres::ROWS;
use crate::support::sql::{LockedQuery, Login};
use crate::support::{ports, process, wait};
use holistics_tunnel::protocol::{DataSource, DataSourceState, TunnelStatus};
use rustix::process::Signal;

const SUM_OF_AMOUNTS: i64 = 7 * ROWS * (ROWS + 1) / 2;
const SUM: &str = "SELECT sum(amount)::bigint FROM orders";
/// Longer than any removal takes, and answered with a number of its own.

#[test]
fn the_generated_command_sets_a_bastion_up_with_an_rsa_4096_key_and_the_removal_leaves_nothing() {
    let lab = Lab::new();
    let before = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    assert_eq!(source.state, DataSourceState::Draft);

    let setup = lab.bastion.start(&mut generated_command(&lab, &source));
    lab.wait_until_connected(&source, &setup);
    assert!(
        !lab.bastion.processes("ssh").is_empty(),
        "the temporary tunnel"
    );
    let key = lab.bastion.own_folder().join("id_rsa.pub");
    let mut fingerprint = lab.bastion.any_program("ssh-keygen");
    let fingerprint = lab.bastion.run(fingerprint.arg("-lf").arg(key));
    let fingerprint = fingerprint.expect_code(0).stdout;
    assert!(fingerprint.starts_with("4096 "), "{fingerprint}");
    assert!(fingerprint.ends_with("(RSA)\n"), "{fingerprint}");

    let result = lab.operator.test(source.id, &lab.postgres.login());
    assert!(result.ok, "{result:?}");
    assert_eq!(
        stage_names(&result),
        ["tunnel", "tcp", "tls", "login", "query"]
    );
    assert!(result.server_version.is_some(), "{result:?}");

    lab.save_and_finish(&source, setup);
    lab.bastion.service("status").expect_code(0);
    assert_eq!(lab.bastion.processes("autossh").len(), 1);
    assert_eq!(lab.bastion.processes("ssh").len(), 1, "the service's alone");
    let mut client = lab
        .login_through(&source)
        .expect("a login through the tunnel");
    assert_eq!(client.number(SUM).expect("a sum"), SUM_OF_AMOUNTS);
    drop(client);

    let port = remote_port(&lab, &source);
    lab.remove(&source).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    assert!(!ports::is_open(port), "the remote port is still open");
    assert_eq!(process::naming(&lab.bastion.home()), []);
    before.assert_same(&lab.bastion.snapshot());
}

#[test]
fn nothing_listens_on_a_bastion_whose_tunnel_is_up() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    let of_setup = process::listening(&process::naming(&lab.bastion.home()));
    assert_eq!(of_setup, [] as [String; 0], "while setup waits");
    lab.save_and_finish(&source, setup);
    wait_until_rows_come(&lab, &source);

    let of_service = process::naming(&lab.bastion.home());
    let names: Vec<&str> = of_service.iter().map(|process| &*process.name).collect();
    assert!(names.contains(&"ssh"), "{of_service:?}");
    assert_eq!(process::listening(&of_service), [] as [String; 0]);
    // Who looks does see those that listen.
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let this = process::Process {
        pid: std::process::id() as i32,
        name: "this".into(),
        arguments: String::new(),
    };
    assert!(!process::listening(&[this]).is_empty());
}

#[test]
fn a_wrong_password_fails_at_the_login_and_says_what_to_do() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let _setup = lab.setup_that_waits(&source);
    let login = Login {
        password: "guessed".into(),
        ..lab.postgres.login()
    };
    let result = lab.operator.test(source.id, &login);
    assert!(!result.ok);
    assert_eq!(stage_names(&result), ["tunnel", "tcp", "tls", "login"]);
    let last = result.stages.last().expect("four stages");
    assert!(!last.ok && last.remedy.is_some(), "{result:?}");
    assert!(
        !format!("{result:?}").contains("guessed"),
        "it repeats the password"
    );
}

#[test]
fn a_data_source_can_be_corrected_and_tested_again_before_it_is_saved() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    let wrong = Login {
        database: "store".into(),
        ..lab.postgres.login()
    };
    assert!(!lab.operator.test(source.id, &wrong).ok);
    assert!(
        setup.is_running(),
        "setup goes on waiting:\n{}",
        setup.output()
    );
    assert!(lab.operator.test(source.id, &lab.postgres.login()).ok);
    lab.save_and_finish(&source, setup);
}

#[test]
fn removing_one_of_two_tunnels_leaves_the_other_s_query_untouched() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let billing = lab.active_data_source("Billing");
    assert_ne!(remote_port(&lab, &shop), remote_port(&lab, &billing));
    assert_eq!(lab.bastion.processes("autossh").len(), 2);

    let shop_autossh = autossh_of(&lab, &shop);
    let query = lab.query_that_runs_on(&shop);
    lab.remove(&billing).expect_code(0);
    assert!(query.is_running(), "the removal outlasted the query");
    assert_eq!(
        query.answer().expect("the held query's answer"),
        LockedQuery::ANSWER
    );

    assert_eq!(lab.state(&billing), DataSourceState::Removed);
    assert_eq!(lab.state(&shop), DataSourceState::Active);
    assert_eq!(autossh_of(&lab, &shop), shop_autossh, "it was restarted");
    assert!(!lab.bastion.tunnel_file(tunnel_of(&billing).id).exists());
    lab.bastion.service("status").expect_code(0);
}

#[test]
fn adding_a_second_tunnel_leaves_the_first_one_s_query_untouched() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let billing = lab.data_source("Billing");
    let setup = lab.setup_that_waits(&billing);
    let query = lab.query_that_runs_on(&shop);
    lab.save_and_finish(&billing, setup);
    assert_eq!(
        query.answer().expect("the held query's answer"),
        LockedQuery::ANSWER
    );
}

#[test]
fn uninstall_tunnel_removes_the_last_tunnel_here_and_at_the_server() {
    let lab = Lab::new();
    let before = lab.bastion.snapshot();
    let source = lab.active_data_source("Shop");
    let port = remote_port(&lab, &source);

    lab.bastion
        .run(&mut uninstall(&lab, &source))
        .expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    assert!(!ports::is_open(port), "the remote port is still open");
    assert_eq!(process::naming(&lab.bastion.home()), []);
    before.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_tunnel_that_is_not_there_cannot_be_removed_and_nothing_else_is() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    let before = lab.bastion.snapshot();
    let mut command = lab.bastion.program(["uninstall-tunnel", "4711", "--yes"]);
    lab.bastion
        .run(&mut command)
        .expect_code(1)
        .expect_words(&["4711", "list"]);
    before.assert_same(&lab.bastion.snapshot());
    lab.bastion.service("status").expect_code(0);
}

#[test]
fn removal_without_a_terminal_asks_for_yes_and_removes_nothing() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let before = lab.bastion.snapshot();
    let id = tunnel_of(&source).id.to_string();
    let mut command = lab.bastion.program(["uninstall-tunnel", &id]);
    lab.bastion
        .run(&mut command)
        .expect_code(2)
        .expect_words(&["--yes"]);
    before.assert_same(&lab.bastion.snapshot());
    assert_eq!(lab.state(&source), DataSourceState::Active);
}

#[test]
fn setup_without_a_terminal_asks_for_yes_and_changes_nothing() {
    let lab = Lab::new();
    let before = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    let mut command = lab
        .bastion
        .setup_without_yes(&lab.server, token_of(&source));
    lab.bastion
        .run(&mut command)
        .expect_code(2)
        .expect_words(&["--yes"]);
    before.assert_same(&lab.bastion.snapshot());
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn setup_again_after_it_is_done_says_so_and_changes_nothing() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
    let before = lab.bastion.snapshot_of_what_lasts();
    let autossh = autossh_of(&lab, &source);

    let again = lab.start_setup(&source).wait(SETUP_LIMIT);
    again.expect_code(0).expect_words(&["already"]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_eq!(autossh_of(&lab, &source), autossh, "it was restarted");
    assert_eq!(lab.state(&source), DataSourceState::Active);
}

#[test]
fn plan_and_dry_run_show_every_step_and_change_nothing() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let before = lab.bastion.snapshot();

    let plan = lab
        .bastion
        .run(&mut lab.bastion.program(["plan", "--init", "sysv"]))
        .expect_code(0);
    plan.expect_words(&["ssh-keygen", "h_autossh"]);
    let json = lab
        .bastion
        .run(&mut lab.bastion.program(["plan", "--json", "--init", "sysv"]));
    let json = json.expect_code(0).json();
    assert_eq!(json["supported"], true);
    assert_eq!(
        json["proofs"]["unseen"][0]["what"], "whether this host's ssh and the tunnel server agree",
        "{json:#}"
    );
    assert!(
        json["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() >= 5),
        "{json:#}"
    );

    let mut dry_run = lab.bastion.setup(&lab.server, token_of(&source));
    let database = format!("127.0.0.1:{}", lab.postgres.port());
    lab.bastion
        .run(dry_run.arg("--dry-run"))
        .expect_code(0)
        .expect_words(&[
            "ssh-keygen",
            "h_autossh",
            "Shop",
            &lab.server.url,
            &database,
            "Looked at on this host",
            "curl, ssh and autossh are there",
            "this host's OpenSSH has keys of type",
            "this host's ssh gets to the tunnel server",
            &format!("the database {database} accepts connections"),
        ]);

    before.assert_same(&lab.bastion.snapshot());
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_token_file_stays_until_the_tunnel_is_set_up() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    let mut words = setup.get_args().skip_while(|word| *word != "--token-file");
    let file = std::path::PathBuf::from(words.nth(1).expect("a token file"));
    let mut dry_run = lab.bastion.setup(&lab.server, token_of(&source));
    lab.bastion.run(dry_run.arg("--dry-run")).expect_code(0);

    let waits = lab.bastion.start(&mut setup);
    lab.wait_until_connected(&source, &waits);
    waits.signal(Signal::INT);
    waits.wait(SERVICE_LIMIT).expect_code(130);
    assert!(file.exists(), "the same command could not go on");

    let mut again = Command::new(setup.get_program());
    again.args(setup.get_args()).env_clear();
    again.envs(
        setup
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let waits = lab.bastion.start(&mut again);
    lab.wait_until_connected(&source, &waits);
    lab.operator.save(source.id);
    waits.wait(SERVICE_LIMIT).expect_code(0);
    assert!(!file.exists(), "the token stays on the disk");
}

#[test]
fn interrupted_while_it_waits_setup_ends_cleanly_and_the_next_run_finishes() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    let port = remote_port(&lab, &source);

    setup.signal(Signal::INT);
    setup.wait(SERVICE_LIMIT).expect_code(130);
    assert_eq!(
        process::naming(&lab.bastion.home()),
        [],
        "the temporary tunnel is still there"
    );
    wait_until_closed(port);
    assert!(
        lab.bastion.receipt().exists(),
        "the next run has nothing to resume from"
    );
    assert!(!lab.bastion.service_script().exists());

    let setup = lab.setup_that_waits(&source);
    assert_eq!(remote_port(&lab, &source), port, "the port is kept");
    lab.save_and_finish(&source, setup);
}

#[test]
fn killed_while_it_waits_setup_is_resumed_by_the_next_run() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    setup.signal(Signal::KILL);
    setup.wait(SERVICE_LIMIT).expect_code(128 + 9);

    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
    assert_eq!(lab.bastion.processes("ssh").len(), 1, "the service's alone");
}

#[test]
fn interrupted_setup_can_be_removed_and_leaves_nothing() {
    let lab = Lab::new();
    let before = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    setup.signal(Signal::INT);
    setup.wait(SERVICE_LIMIT).expect_code(130);

    lab.bastion
        .run(&mut uninstall(&lab, &source))
        .expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    before.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_data_source_deleted_while_setup_waits_ends_setup() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    lab.operator.delete(source.id);
    let finished = setup.wait(SETUP_LIMIT);
    assert_ne!(finished.code, 0, "{finished}");
    assert_eq!(process::naming(&lab.bastion.home()), [], "{finished}");
    assert!(!lab.bastion.service_script().exists(), "{finished}");
}

#[test]
fn without_a_service_manager_setup_shows_the_command_and_claims_no_tunnel() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let words = [
        "setup",
        "--init",
        "none",
        "--key-type",
        KEY_TYPE,
        "--yes",
        "--server",
        &lab.server.url,
    ];
    let mut setup = lab.bastion.program(words);
    setup
        .args(["--token", token_of(&source), "--prefix"])
        .arg(lab.bastion.prefix());
    let setup = lab.bastion.start(&mut setup);
    lab.wait_until_connected(&source, &setup);
    lab.operator.save(source.id);
    let finished = setup.wait(SETUP_LIMIT).expect_code(0);
    let finished = finished.expect_words(&["supervisor", "autossh -M 0"]);
    assert!(!finished.output().contains("is reachable"), "{finished}");
    assert_eq!(process::naming(&lab.bastion.home()), [], "a tunnel is left");
    assert!(!lab.bastion.service_script().exists());
}

#[test]
fn the_manual_guides_hold_the_tunnel_s_own_values() {
    let lab = Lab::new();
    let manual = |system: &str| {
        lab.bastion
            .run(&mut lab.bastion.program(["manual", system]))
    };
    manual("linux")
        .expect_code(0)
        .expect_words(&["<remote-port>", "<tunnel-server>"]);

    let source = lab.active_data_source("Shop");
    let remote = format!("127.0.0.1:{}:", remote_port(&lab, &source));
    let target = format!("127.0.0.1:{}", lab.postgres.port());
    let known_hosts = std::fs::read_to_string(lab.bastion.own_folder().join("known_hosts"));
    let known_hosts = known_hosts.expect("the pinned host keys");
    let pinned = known_hosts.lines().next().expect("a host key");
    for system in ["linux", "macos", "windows"] {
        let guide = manual(system).expect_code(0);
        let guide = guide.expect_words(&[&remote, &target, pinned, &lab.server.url, "Shop"]);
        assert!(!guide.output().contains("<remote-port>"), "{guide}");
    }
    manual("windows").expect_words(&[
        "Bitvise",
        "S2C",
        "ssh -F none",
        // Its host keys are pinned under that name.
        "-o HostKeyAlias=",
    ]);
    manual("beos").expect_code(2);
}

#[test]
fn two_vendors_that_both_count_from_one_share_a_bastion() {
    let (lab, other) = (Lab::new(), Lab::new());
    let shop = lab.active_data_source("Shop");
    let theirs = other.data_source("Theirs");
    assert_eq!(tunnel_of(&shop).id, tunnel_of(&theirs).id);
    let setup = &mut lab.bastion.setup(&other.server, token_of(&theirs));
    let setup = lab.bastion.start(setup);
    other.wait_until_connected(&theirs, &setup);
    other.save_and_finish(&theirs, setup);
    let theirs = other.operator.data_source(theirs.id);

    let id = tunnel_of(&shop).id.to_string();
    let run = |arguments: &[&str]| lab.bastion.run(&mut lab.bastion.program(arguments));
    run(&["status"]).expect_code(0);
    run(&["status", &id]).expect_code(2).expect_words(&[
        &lab.server.url,
        &other.server.url,
        "--server",
    ]);
    run(&["status", &id, "--server", &other.server.url]).expect_code(0);
    run(&["uninstall-tunnel", &id, "--yes"])
        .expect_code(2)
        .expect_words(&["which tunnel", "--server"]);

    let server = ["--server", &other.server.url];
    run(&["uninstall-tunnel", &id, "--yes", server[0], server[1]]).expect_code(0);
    assert_eq!(other.state(&theirs), DataSourceState::Removed);
    assert!(!ports::is_open(remote_port(&other, &theirs)));
    assert_eq!(lab.state(&shop), DataSourceState::Active);
    lab.login_through(&shop)
        .expect("rows of the other vendor's");
    run(&["status", &id]).expect_code(0);
    assert_eq!(lab.bastion.processes("autossh").len(), 1);
}

#[test]
fn on_a_copy_of_the_machine_the_original_keeps_its_tunnel() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let receipt = std::fs::read_to_string(lab.bastion.receipt()).expect("the receipt");
    let mut receipt: serde_json::Value = serde_json::from_str(&receipt).expect("JSON");
    // As a copy has it: written on another machine, and nothing runs here.
    receipt["host"] = serde_json::json!({ "name": "the-original", "machine_id": "0123" });
    std::fs::write(lab.bastion.receipt(), receipt.to_string()).expect("the receipt");
    let run = |arguments: &[&str]| lab.bastion.run(&mut lab.bastion.program(arguments));
    run(&["status"])
        .expect_code(0)
        .expect_words(&["copy of the-original"]);
    run(&["doctor"])
        .expect_code(1)
        .expect_words(&["copy of the-original", "--local-only"]);
    run(&["service", "restart"])
        .expect_code(1)
        .expect_words(&["copy of the-original", "nothing was started"]);
    run(&["uninstall-tunnel", "--all", "--yes"])
        .expect_code(2)
        .expect_words(&["would end it there", "--local-only"]);
    assert_eq!(lab.state(&source), DataSourceState::Active);

    run(&["uninstall-tunnel", "--all", "--yes", "--local-only"]).expect_code(0);
    assert!(lab.bastion.processes("autossh").is_empty());
    assert!(!lab.bastion.receipt().exists());
    // The vendor was not told: the original goes on.
    lab.operator
        .wait_for_status(source.id, TunnelStatus::Down, SERVICE_LIMIT);
    assert_eq!(lab.state(&source), DataSourceState::Down);
}

#[test]
fn list_and_status_tell_what_is_there() {
    let lab = Lab::new();
    let program = |arguments: &[&str]| lab.bastion.run(&mut lab.bastion.program(arguments));
    program(&["list"]).expect_code(0);

    let shop = lab.active_data_source("Shop");
    let billing = lab.active_data_source("Billing");
    program(&["list"])
        .expect_code(0)
        .expect_words(&["Shop", "Billing"]);
    let list = program(&["list", "--json"]).expect_code(0).json();
    let ids: Vec<_> = tunnels_in(&list)
        .iter()
        .map(|tunnel| tunnel["id"].clone())
        .collect();
    assert_eq!(
        ids,
        [tunnel_of(&shop).id.0, tunnel_of(&billing).id.0],
        "{list:#}"
    );
    assert_eq!(
        tunnels_in(&list)[0]["remote_port"],
        remote_port(&lab, &shop)
    );

    program(&["status"]).expect_code(0);
    let status = program(&["status", "--json"]).expect_code(0).json();
    assert_eq!(tunnels_in(&status).len(), 2, "{status:#}");

    let billing_id = tunnel_of(&billing).id.to_string();
    let mut stop = lab.bastion.any_program(lab.bastion.service_script());
    lab.bastion
        .run(stop.args(["stop", &billing_id]))
        .expect_code(0);
    lab.operator
        .wait_for_status(billing.id, TunnelStatus::Down, SERVICE_LIMIT);
    program(&["status"]).expect_code(1);
    program(&["status", &billing_id]).expect_code(1);
    program(&["status", &tunnel_of(&shop).id.to_string()]).expect_code(0);
    assert_eq!(lab.state(&billing), DataSourceState::Down);
    assert_eq!(lab.state(&shop), DataSourceState::Active);
}

#[test]
fn the_service_script_starts_stops_restarts_and_tells_its_state() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let port = remote_port(&lab, &source);

    lab.bastion.service("status").expect_code(0);
    lab.bastion.service("stop").expect_code(0);
    lab.bastion.service("status").expect_code(3);
    lab.bastion.service("stop").expect_code(0);
    assert_eq!(lab.bastion.processes("autossh"), []);
    assert_eq!(lab.bastion.processes("ssh"), []);
    wait_until_closed(port);

    lab.bastion.service("start").expect_code(0);
    lab.operator
        .wait_for_status(source.id, TunnelStatus::Up, SERVICE_LIMIT);
    let autossh = autossh_of(&lab, &source);
    lab.bastion.service("start").expect_code(0);
    assert_eq!(autossh_of(&lab, &source), autossh, "start started it twice");

    lab.bastion.service("restart").expect_code(0);
    assert_ne!(autossh_of(&lab, &source), autossh, "it was not restarted");
    wait_until_rows_come(&lab, &source);
    lab.bastion.service("reload-everything").expect_code(2);
}

#[test]
fn the_service_command_governs_all_tunnels() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let billing = lab.active_data_source("Billing");
    let service = |action: &str| {
        lab.bastion
            .run(&mut lab.bastion.program(["service", action]))
    };

    service("status")
        .expect_code(0)
        .expect_words(&["tunnel 1: up", "tunnel 2: up"]);
    service("stop").expect_code(0);
    assert_eq!(lab.bastion.processes("autossh"), []);
    lab.operator
        .wait_for_status(shop.id, TunnelStatus::Down, SERVICE_LIMIT);
    service("status").expect_code(1);
    service("start").expect_code(0);
    wait_until_rows_come(&lab, &shop);
    wait_until_rows_come(&lab, &billing);
    let autossh = autossh_of(&lab, &shop);
    service("restart").expect_code(0);
    assert_ne!(autossh_of(&lab, &shop), autossh, "it was not restarted");
}

#[test]
fn the_service_script_is_posix_shell_without_a_fault() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    let script = lab.bastion.service_script();
    for check in [["dash", "-n"].as_slice(), &["shellcheck", "--shell=sh"]] {
        let mut command = lab.bastion.any_program(check[0]);
        lab.bastion
            .run(command.args(&check[1..]).arg(&script))
            .expect_code(0);
    }
}

#[test]
fn a_killed_ssh_comes_back_by_itself() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let ssh = lab.bastion.processes("ssh").remove(0);
    process::signal(&ssh, Signal::KILL);
    wait::until_true("another ssh", SERVICE_LIMIT, String::new, || {
        lab.bastion
            .processes("ssh")
            .iter()
            .any(|other| other.pid != ssh.pid)
    });
    wait_until_rows_come(&lab, &source);
    lab.bastion.service("status").expect_code(0);
}

#[test]
fn a_killed_autossh_is_reported_dead_and_start_brings_it_back() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let autossh = autossh_of(&lab, &source);
    kill_process(autossh);
    wait::until_true(
        "the service to be reported dead",
        SERVICE_LIMIT,
        String::new,
        || lab.bastion.service("status").code == 1,
    );

    lab.bastion.service("start").expect_code(0);
    lab.bastion.service("status").expect_code(0);
    assert_ne!(autossh_of(&lab, &source), autossh);
    assert_eq!(
        lab.bastion.processes("ssh").len(),
        1,
        "an ssh of the dead autossh is left"
    );
    wait_until_rows_come(&lab, &source);
}

#[test]
fn a_stranger_that_has_a_dead_tunnel_s_process_number_is_left_alone() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    lab.bastion.service("stop").expect_code(0);
    // In a session of its own, as every program the lab starts.
    let stranger = lab
        .bastion
        .start(lab.bastion.any_program("sleep").arg("300"));
    let pid_file = lab.bastion.pid_file(tunnel_of(&source).id);
    for action in ["start", "stop", "restart"] {
        std::fs::write(&pid_file, format!("{}\n", stranger.pid())).expect("a pid file");
        lab.bastion.service(action);
        assert!(stranger.is_running(), "{action} killed a stranger");
    }
}

#[test]
fn the_server_restarted_the_service_comes_back_by_itself() {
    let mut lab = Lab::new();
    let source = lab.active_data_source("Shop");
    lab.server.stop().expect_code(0);
    lab.server.start_again();
    lab.operator
        .wait_for_state(source.id, DataSourceState::Active, Duration::from_secs(90));
    wait_until_rows_come(&lab, &source);
}

/// The command that the server generated, with the options of a bastion that lives in a folder. It makes
/// the kind of key that real bastions have.
fn generated_command(lab: &Lab, source: &DataSource) -> std::process::Command {
    let generated = &source.enrollment.as_ref().expect("a command").command;
    let options = lab.bastion.setup_options_with_default_key();
    let line = format!("{generated} -s -- --yes {options}");
    let mut command = lab.bastion.any_program("sh");
    command.args(["-c", &line]);
    command
}

fn uninstall(lab: &Lab, source: &DataSource) -> std::process::Command {
    lab.bastion.program([
        "uninstall-tunnel",
        &tunnel_of(source).id.to_string(),
        "--yes",
    ])
}

fn stage_names(result: &holistics_tunnel::protocol::ConnectionTestResult) -> Vec<&str> {
    result
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect()
}

fn remote_port(lab: &Lab, source: &DataSource) -> u16 {
    let now = lab.operator.data_source(source.id);
    tunnel_of(&now)
        .remote_port
        .expect("an enrolled tunnel has a port")
}

/// The number of the one autossh that keeps this data source's tunnel. It is there a moment after the
/// service has said so: the shell that looks after its log becomes it.
#[track_caller]
fn autossh_of(lab: &Lab, source: &DataSource) -> i32 {
    let forward = format!("127.0.0.1:{}:", remote_port(lab, source));
    let all = || {
        let mut all = lab.bastion.processes("autossh");
        all.retain(|process| process.arguments.contains(&forward));
        all
    };
    let only = || match all().as_slice() {
        [autossh] => Some(autossh.pid),
        _ => None,
    };
    wait::until(
        "one autossh",
        SERVICE_LIMIT,
        || format!("{:?}", all()),
        only,
    )
}

fn kill_process(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process number is not zero");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}

fn tunnels_in(json: &serde_json::Value) -> &Vec<serde_json::Value> {
    let tunnels = json["tunnels"].as_array().or_else(|| json.as_array());
    tunnels.unwrap_or_else(|| panic!("no tunnels in {json:#}"))
}

fn wait_until_closed(port: u16) {
    wait::until_true(
        "the remote port to be closed",
        SERVICE_LIMIT,
        String::new,
        || !ports::is_open(port),
    );
}

fn wait_until_rows_come(lab: &Lab, source: &DataSource) {
    let sum = || lab.login_through(source)?.number(SUM);
    wait::until_true(
        "rows through the tunnel",
        SERVICE_LIMIT,
        || format!("{:?}", sum()),
        || sum().is_ok_and(|sum| sum == SUM_OF_AMOUNTS),
    );
}
