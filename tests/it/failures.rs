//! What goes wrong, as the person at the bastion's shell sees it: the exit code, what failed and why,
//! the next thing to do, and nothing lost or half-made.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::lossy_line::LossyLine;
use crate::support::ports;
use crate::support::process::{self, Finished};
use crate::support::server::Server;
use crate::support::snapshot::Snapshot;
use holistics_tunnel::protocol::DataSourceState;
use rustix::process::Signal;

/// Failed; nothing was changed, or what was done is kept and the next run goes on from it.
const FAILED: i32 = 1;
/// Wrong usage.
const USAGE: i32 = 2;
/// Failed, and what this run had changed is undone.
const ROLLED_BACK: i32 = 3;

const COUNT: &str = "SELECT count(*) FROM orders";

// ---------------------------------------------------------------------------------------------
// Tokens
// ---------------------------------------------------------------------------------------------

#[test]
fn a_wrong_token_is_refused_before_anything_is_changed() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let wrong = corrupted(token_of(&source));
    setup_fails_without_a_trace(&lab, &mut lab.bastion.setup(&lab.server, &wrong), FAILED)
        .expect_words(&["not accepted", "browser"]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn an_expired_token_is_refused_before_anything_is_changed() {
    let lab = Lab::with(Server::start_with(10, &["--enrollment-ttl", "1s"]));
    let source = lab.data_source("Shop");
    std::thread::sleep(Duration::from_millis(1_500));
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(&lab, &mut setup, FAILED).expect_words(&[
        "expired",
        "new command",
        "browser",
    ]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_used_up_token_is_refused_on_another_host() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);

    let other = Bastion::new();
    let before = other.snapshot();
    let mut setup = other.setup(&lab.server, token_of(&source));
    other
        .run(&mut setup)
        .expect_code(FAILED)
        .expect_words(&["used up", "another data source"]);
    before.assert_same(&other.snapshot());
    assert_eq!(lab.state(&source), DataSourceState::Active);
}

#[test]
fn another_host_with_the_same_command_is_refused_and_the_first_one_goes_on() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);

    let other = Bastion::new();
    let before = other.snapshot();
    let mut second = other.setup(&lab.server, token_of(&source));
    other
        .start(&mut second)
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK)
        .expect_words(&["another key", "host that enrolled first"]);
    before.assert_same(&other.snapshot());

    lab.save_and_finish(&source, setup);
}

// ---------------------------------------------------------------------------------------------
// The server
// ---------------------------------------------------------------------------------------------

#[test]
fn a_server_that_is_down_at_the_start_leaves_nothing_behind() {
    let mut lab = Lab::new();
    let source = lab.data_source("Shop");
    lab.server.stop().expect_code(0);
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(&lab, &mut setup, FAILED)
        .expect_words(&["cannot be reached", "same command again"]);

    lab.server.start_again();
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

#[test]
fn a_server_that_is_away_while_setup_waits_is_waited_for() {
    let mut lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    lab.server.kill();
    setup.wait_for_output("trying again", SERVICE_LIMIT);
    assert!(setup.is_running(), "{}", setup.output());

    lab.server.start_again();
    setup.wait_for_output("connected again", Duration::from_secs(60));
    assert!(lab.operator.test(source.id, &lab.postgres.login()).ok);
    lab.save_and_finish(&source, setup);
}

#[test]
fn an_enrollment_whose_answer_is_lost_is_taken_up_by_the_next_run() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let line = LossyLine::to(&lab.server.url, "PUT /api/v1/enrollment/public-key");
    let setup = || {
        let mut command = lab.bastion.setup_at(&line.url, token_of(&source));
        command.arg("--yes");
        command
    };
    lab.bastion
        .run(&mut setup())
        .expect_code(FAILED)
        .expect_words(&["enrollment", "same command again"]);
    assert!(line.has_lost(), "the line has dropped nothing");
    assert_eq!(
        lab.state(&source),
        DataSourceState::Enrolled,
        "the key is known"
    );

    let again = lab.bastion.start(&mut setup());
    lab.wait_until_connected(&source, &again);
    lab.save_and_finish(&source, again);
}

#[test]
fn plain_http_to_another_machine_is_refused() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    for url in ["http://192.0.2.1", "http://tunnel.example.com:8080"] {
        let mut setup = lab.bastion.setup_at(url, token_of(&source));
        setup_fails_without_a_trace(&lab, setup.arg("--yes"), USAGE).expect_words(&[
            url,
            "plain http",
            "https",
        ]);
    }
}

#[test]
fn a_tunnel_server_that_shows_another_host_key_is_not_trusted() {
    let decoy = Server::start();
    let mut lab = Lab::with(Server::start_with(
        10,
        &["--public-ssh-port", decoy.ssh_port()],
    ));
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(&lab, &mut setup, FAILED)
        .expect_words(&["host key", "ask the vendor"]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);

    // The vendor mends the address, and the same command goes on from where it was.
    lab.server.stop().expect_code(0);
    lab.server.start_again_with(&[]);
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

#[test]
fn a_tunnel_server_that_cannot_be_reached_is_told_before_a_key_is_registered() {
    let closed = ports::free_port().to_string();
    let mut lab = Lab::with(Server::start_with(10, &["--public-ssh-port", &closed]));
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(&lab, &mut setup, FAILED).expect_words(&[
        "tunnel server",
        "cannot be reached",
        &format!("port {closed} in the firewall"),
    ]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);

    lab.server.stop().expect_code(0);
    lab.server.start_again_with(&[]);
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

#[test]
fn a_port_at_which_something_else_than_ssh_answers_is_told_before_a_key_is_registered() {
    let web = Server::start();
    let port = web.url.rsplit(':').next().expect("an address with a port");
    let lab = Lab::with(Server::start_with(10, &["--public-ssh-port", port]));
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(&lab, &mut setup, FAILED).expect_words(&[
        "tunnel server",
        "sends nothing",
        "firewall",
    ]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

// ---------------------------------------------------------------------------------------------
// This host's ssh
// ---------------------------------------------------------------------------------------------

/// In place of ssh: the real one, after these lines of shell.
fn with_ssh_that(lines: &str) -> Lab {
    let mut lab = Lab::new();
    lab.bastion = Bastion::without(&["ssh"]);
    let script = format!("{lines}\nexec /usr/bin/ssh \"$@\"");
    lab.bastion.put_program("ssh", &script);
    lab
}

#[test]
fn an_ssh_without_some_of_the_ciphers_is_given_those_that_it_has() {
    // As OpenSSH is where a policy allows what FIPS 140 does.
    let lab = with_ssh_that(
        r#"case "$*" in
            *chacha20*) echo "Bad SSH2 cipher spec" >&2; exit 255 ;;
            "-Q cipher") /usr/bin/ssh -Q cipher | grep -v chacha20; exit ;;
        esac"#,
    );
    lab.active_data_source("Shop");
}

#[test]
fn an_ssh_that_refuses_the_tunnel_s_arguments_is_told_before_a_key_is_registered() {
    let lab = with_ssh_that(
        r#"case "$*" in
            *ServerAliveCountMax*) echo "command-line: line 0: Bad configuration option: serveralivecountmax" >&2; exit 255 ;;
        esac"#,
    );
    ssh_is_told_before_a_key_is_registered(
        &lab,
        &[
            "this host's ssh refuses",
            "Bad configuration option: serveralivecountmax",
        ],
    );
}

#[test]
fn an_ssh_that_is_not_openssh_is_told_before_a_key_is_registered() {
    let lab = with_ssh_that(r#"[ "$*" != -V ] || { echo "Dropbear v2022.83" >&2; exit; }"#);
    ssh_is_told_before_a_key_is_registered(&lab, &["not OpenSSH", "Dropbear v2022.83"]);
}

#[test]
fn an_openssh_that_is_too_old_is_told_before_a_key_is_registered() {
    // As RHEL 6 has it.
    let lab = with_ssh_that(
        r#"[ "$*" != -V ] || { echo "OpenSSH_5.3p1, OpenSSL 1.0.1e-fips 11 Feb 2013" >&2; exit; }"#,
    );
    ssh_is_told_before_a_key_is_registered(&lab, &["OpenSSH 5.3 is too old", "6.5 or newer"]);
}

#[test]
fn an_ssh_that_turns_out_not_to_be_openssh_once_it_is_installed_is_told_before_a_key_is_registered()
{
    // As where the package that setup installs for ssh brings another one, which no earlier look has seen.
    let lab = with_ssh_that(
        r#"[ ! -e "$HOME/.holistics/id_ed25519" ] || {
            [ "$*" != -V ] || { echo "Dropbear v2022.83" >&2; exit; }
            echo "ssh: Exited: unknown argument" >&2; exit 1
        }"#,
    );
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(&lab, &mut setup, ROLLED_BACK)
        .expect_words(&["not OpenSSH", "Dropbear v2022.83"]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

/// Lines with which ssh has this option, too, whenever it connects to the tunnel server: the first one counts,
/// as with a policy that no command line can widen.
fn with_policy(option: &str) -> String {
    format!(r#"case "$*" in *tunnel@*) set -- -o {option} "$@" ;; esac"#)
}

#[test]
fn an_ssh_whose_policy_leaves_nothing_in_common_is_told_before_a_key_is_registered() {
    for (option, what) in [
        (
            "KexAlgorithms=diffie-hellman-group1-sha1",
            "no matching key exchange method found",
        ),
        (
            "HostKeyAlgorithms=ssh-dss",
            "no matching host key type found",
        ),
    ] {
        let lab = with_ssh_that(&with_policy(option));
        let words = ["no algorithms in common", what, "no network is at fault"];
        ssh_is_told_before_a_key_is_registered(&lab, &words);
    }
}

#[test]
fn an_ssh_that_is_kept_from_the_network_is_told_before_a_key_is_registered() {
    let lab = with_ssh_that(
        r#"case "$*" in
            *-v*tunnel@*) echo "ssh: connect to host x port 1: Operation not permitted" >&2; exit 255 ;;
        esac"#,
    );
    let words = [
        "this host's ssh does not get to",
        "Operation not permitted",
        "SELinux",
    ];
    ssh_is_told_before_a_key_is_registered(&lab, &words);
}

#[test]
fn a_line_that_is_cut_after_the_greeting_is_not_blamed_on_this_host_s_ssh() {
    let port = ports::free_port();
    let cuts = ports::listen_on(port);
    std::thread::spawn(move || {
        for mut connection in cuts.incoming().flatten() {
            let _ = connection.write_all(b"SSH-2.0-cut\r\n");
            let _ = connection.read(&mut [0; 4096]);
        }
    });
    let port = port.to_string();
    let lab = Lab::with(Server::start_with(10, &["--public-ssh-port", &port]));
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(&lab, &mut setup, FAILED)
        .expect_words(&["is lost before keys are exchanged", "firewall on the way"]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_type_of_key_that_this_host_does_not_have_is_told_before_anything_is_changed() {
    let no_keygen = r#"case "$*" in
        *"-t ed25519"*) echo "ED25519 keys are not allowed in FIPS mode" >&2; exit 1 ;;
    esac
    exec /usr/bin/ssh-keygen "$@""#;
    let no_ssh = r#"case "$*" in
        "-Q key") /usr/bin/ssh -Q key | grep -v ed25519; exit ;;
    esac
    exec /usr/bin/ssh "$@""#;
    for (program, script, words) in [
        ("ssh-keygen", no_keygen, "not allowed in FIPS mode"),
        ("ssh", no_ssh, "`ssh -Q key` does not list ssh-ed25519"),
    ] {
        let mut lab = Lab::new();
        lab.bastion = Bastion::without(&[program]);
        lab.bastion.put_program(program, script);
        let source = lab.data_source("Shop");
        let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
        setup_fails_without_a_trace(&lab, &mut setup, USAGE).expect_words(&[
            "no keys of type ed25519",
            words,
            "--key-type rsa or --key-type ecdsa",
        ]);
        assert_eq!(lab.state(&source), DataSourceState::Draft);
    }
}

#[track_caller]
fn ssh_is_told_before_a_key_is_registered(lab: &Lab, words: &[&str]) {
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    setup_fails_without_a_trace(lab, &mut setup, FAILED).expect_words(words);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

// ---------------------------------------------------------------------------------------------
// Remote ports
// ---------------------------------------------------------------------------------------------

#[test]
fn a_remote_port_held_by_a_living_clone_is_refused_and_the_clone_keeps_it() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let new = lab.data_source("Billing");
    let setup = lab.setup_that_waits(&new);

    let clone = lab.bastion.clone_machine();
    let mut second = clone.setup(&lab.server, token_of(&new));
    clone
        .start(&mut second)
        .wait(SETUP_LIMIT)
        .expect_code(FAILED)
        .expect_words(&["refused remote port", "copy of this machine"]);
    assert_eq!(process::naming(&clone.home()), []);

    for source in [&source, &new] {
        let mut client = lab
            .login_through(source)
            .expect("the first machine's tunnel");
        assert_eq!(
            client.number(COUNT).expect("a count"),
            crate::support::postgres::ROWS
        );
    }
    lab.save_and_finish(&new, setup);
}

#[test]
fn without_a_free_remote_port_setup_is_rolled_back_and_works_once_there_is_one() {
    let lab = Lab::with(Server::start_with(1, &["--port-rest", "1ms"]));
    let first = lab.active_data_source("Shop");
    let second = lab.data_source("Billing");

    let other = Bastion::new();
    let before = other.snapshot();
    let mut setup = other.setup(&lab.server, token_of(&second));
    other
        .start(&mut setup)
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK)
        .expect_words(&["no remote port is free", "vendor", "same command again"]);
    before.assert_same(&other.snapshot());
    assert_eq!(lab.state(&first), DataSourceState::Active);
    assert_eq!(lab.state(&second), DataSourceState::Draft);

    lab.remove(&first).expect_code(0);
    let mut setup = other.setup(&lab.server, token_of(&second));
    let setup = other.start(&mut setup);
    lab.wait_until_connected(&second, &setup);
    lab.save_and_finish(&second, setup);
}

#[test]
fn the_second_tunnel_that_gets_no_port_leaves_the_first_one_as_it_was() {
    let lab = Lab::with(Server::start_with(1, &[]));
    let first = lab.active_data_source("Shop");
    let second = lab.data_source("Billing");
    let before = lab.bastion.snapshot_of_what_lasts();
    lab.start_setup(&second)
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK)
        .expect_words(&["no remote port is free"]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_eq!(lab.state(&first), DataSourceState::Active);
    lab.bastion.service("status").expect_code(0);
}

// ---------------------------------------------------------------------------------------------
// The bastion
// ---------------------------------------------------------------------------------------------

#[test]
fn a_database_that_the_bastion_cannot_reach_is_named_with_its_address() {
    let lab = Lab::new();
    let closed = ports::free_port();
    let source = lab.operator.create("Shop", closed);
    let before = lab.bastion.snapshot();
    lab.start_setup(&source)
        .wait(SETUP_LIMIT)
        .expect_code(FAILED)
        .expect_words(&[&format!("127.0.0.1:{closed}"), "refused", "database"]);
    before.assert_same(&lab.bastion.snapshot());
    assert_eq!(process::naming(&lab.bastion.home()), []);
}

/// With the registered key the operator in the browser is told to go on.
#[test]
fn a_database_that_goes_away_while_setup_works_is_told_before_the_key_is_registered() {
    let mut lab = Lab::new();
    lab.bastion = Bastion::without(&["ssh-keygen"]);
    let database = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = database.local_addr().expect("a bound port");
    let source = lab.operator.create("Shop", address.port());
    let asked = lab.bastion.home().join("database-may-go");
    lab.bastion.put_program(
        "ssh-keygen",
        &format!(
            r#"if [ -d "$HOME/.holistics" ] && mkdir {asked} 2>/dev/null; then
                   for try in $(seq 600); do [ -e {asked}/gone ] && break; sleep 0.05; done
               fi
               exec /usr/bin/ssh-keygen "$@""#,
            asked = asked.display()
        ),
    );
    let setup = lab.start_setup(&source);
    setup.wait_until("a key is to be made", SETUP_LIMIT, || asked.exists());
    drop(database);
    std::fs::write(asked.join("gone"), "").expect("a file in the home folder");

    setup
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK)
        .expect_words(&[&format!("the database {address} cannot be reached")]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_host_without_ssh_and_without_a_package_manager_is_told_what_to_install() {
    for program in ["ssh", "ssh-keygen"] {
        let lab = Lab::new();
        let source = lab.data_source("Shop");
        let bare = Bastion::without(&[program]);
        let before = bare.snapshot();
        let mut setup = bare.setup(&lab.server, token_of(&source));
        bare.run(&mut setup)
            .expect_code(FAILED)
            .expect_words(&[program, "install"]);
        before.assert_same(&bare.snapshot());
        assert_eq!(lab.state(&source), DataSourceState::Draft);
    }
}

#[test]
fn a_damaged_receipt_is_never_overwritten() {
    receipt_is_refused_and_kept(
        b"{\"version\": 1, \"prefix\":",
        &["damaged", "receipt.json"],
    );
}

#[test]
fn an_empty_receipt_is_never_overwritten() {
    receipt_is_refused_and_kept(b"", &["damaged", "receipt.json"]);
}

#[test]
fn a_receipt_of_a_newer_version_is_never_overwritten() {
    receipt_is_refused_and_kept(
        br#"{"version": 99, "tunnels": {"7": {"shape": "unknown"}}}"#,
        &["version 99", "newer"],
    );
}

#[test]
fn sudo_in_front_is_refused_and_the_user_is_named() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.bastion.setup(&lab.server, token_of(&source));
    let mut as_sudo_does = lab.bastion.any_program("unshare");
    as_sudo_does
        .args(["--user", "--map-root-user"])
        .arg(setup.get_program())
        .args(setup.get_args())
        .envs([
            ("SUDO_USER", "ada"),
            ("SUDO_UID", "1000"),
            ("SUDO_GID", "1000"),
        ]);
    setup_fails_without_a_trace(&lab, &mut as_sudo_does, USAGE).expect_words(&["sudo", "ada"]);
}

#[test]
fn a_second_setup_at_the_same_time_is_refused_and_the_first_one_goes_on() {
    let lab = Lab::new();
    let shop = lab.data_source("Shop");
    let billing = lab.data_source("Billing");
    let setup = lab.setup_that_waits(&shop);
    // The first one goes on writing its log: what matters is that no other log comes to lie beside it.
    let logs = lab.bastion.own_folder().join("logs");
    let log_names = || Snapshot::of(&[&logs]).paths();
    let (before, logs_before) = (lab.bastion.snapshot_of_what_lasts(), log_names());
    let mut second = lab.bastion.setup(&lab.server, token_of(&billing));
    lab.bastion
        .run(&mut second)
        .expect_code(FAILED)
        .expect_words(&["another"]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_eq!(logs_before, log_names());
    lab.save_and_finish(&shop, setup);
}

#[test]
fn a_temporary_tunnel_whose_socket_was_removed_is_found_and_ended_by_its_process() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    setup.signal(Signal::KILL);
    setup.wait(SERVICE_LIMIT).expect_code(128 + 9);
    let run = lab.bastion.own_folder().join("run");
    let mut sockets = std::fs::read_dir(run).expect("the folder of sockets");
    let socket = sockets.find_map(|entry| {
        let path = entry.expect("an entry").path();
        (path.extension()? == "sock").then_some(path)
    });
    std::fs::remove_file(socket.expect("a socket")).expect("no socket");

    // It has the port, so that another one beside it would be refused.
    let setup = lab.setup_that_waits(&source);
    let finished = lab.save_and_finish(&source, setup);
    assert!(
        finished.output().contains("earlier run is up"),
        "{finished}"
    );
    assert_eq!(lab.bastion.processes("ssh").len(), 1, "the service's alone");
}

#[test]
fn a_home_whose_path_is_too_long_for_a_socket_is_set_up_and_removed_all_the_same() {
    let lab = Lab::new();
    let home = lab.bastion.home().join("a".repeat(100));
    std::fs::create_dir(&home).expect("the long home");
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    let setup = lab.bastion.start(setup.env("HOME", &home));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    assert_eq!(lab.bastion.processes("ssh").len(), 1, "the service's alone");

    let removal = ["uninstall-tunnel", "--all", "--yes"];
    let mut removal = lab.bastion.program(removal);
    lab.bastion.run(removal.env("HOME", &home)).expect_code(0);
    let left = std::fs::read_dir(&home).expect("the long home").count();
    assert_eq!((left, process::naming(&home)), (0, vec![]));
}

#[test]
fn nobody_saves_it_and_the_wait_ends_with_what_to_do() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    lab.bastion
        .start(setup.args(["--wait", "2s"]))
        .wait(SETUP_LIMIT)
        .expect_code(FAILED)
        .expect_words(&["not saved", "same command again"]);
    assert_eq!(
        process::naming(&lab.bastion.home()),
        [],
        "the temporary tunnel is still there"
    );

    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

#[test]
fn removal_while_the_server_is_down_changes_nothing_unless_forced() {
    let mut lab = Lab::new();
    let empty = lab.bastion.snapshot();
    let source = lab.active_data_source("Shop");
    let before = lab.bastion.snapshot_of_what_lasts();
    lab.server.kill();

    let id = tunnel_of(&source).id.to_string();
    let uninstall = |more: &[&str]| {
        let mut command = lab.bastion.program(["uninstall-tunnel", &id, "--yes"]);
        lab.bastion.run(command.args(more))
    };
    uninstall(&[])
        .expect_code(FAILED)
        .expect_words(&["cannot reach the control plane", "--force"]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    lab.bastion.service("status").expect_code(0);

    uninstall(&["--force"]).expect_code(0);
    assert_eq!(process::naming(&lab.bastion.home()), []);
    empty.assert_same(&lab.bastion.snapshot());
}

#[test]
fn interrupted_before_it_waits_setup_is_rolled_back_or_resumable() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.start_setup(&source);
    // Wherever it has come to meanwhile.
    setup.wait_until("the folder", SETUP_LIMIT, || {
        lab.bastion.own_folder().exists()
    });
    setup.signal(Signal::INT);
    setup.wait(SERVICE_LIMIT).expect_code(130);
    assert_eq!(process::naming(&lab.bastion.home()), []);

    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

// ---------------------------------------------------------------------------------------------

/// Runs a setup that must fail with this code and leave the disk as it was.
#[track_caller]
fn setup_fails_without_a_trace(lab: &Lab, setup: &mut Command, code: i32) -> Finished {
    let before = lab.bastion.snapshot();
    let finished = lab.bastion.run(setup).expect_code(code);
    before.assert_same(&lab.bastion.snapshot());
    finished
}

/// With a working tunnel, replaces the receipt, and sees every command refuse it and keep it.
#[track_caller]
fn receipt_is_refused_and_kept(receipt: &[u8], words: &[&str]) {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let good = std::fs::read(lab.bastion.receipt()).expect("the receipt");
    std::fs::write(lab.bastion.receipt(), receipt).expect("the receipt");
    let before = lab.bastion.snapshot_of_what_lasts();

    let new = lab.data_source("Billing");
    let id = tunnel_of(&source).id.to_string();
    let commands = [
        lab.bastion.setup(&lab.server, token_of(&new)),
        lab.bastion.program(["uninstall-tunnel", &id, "--yes"]),
        lab.bastion.program(["list"]),
        lab.bastion.program(["status"]),
    ];
    for mut command in commands {
        lab.bastion
            .run(&mut command)
            .expect_code(FAILED)
            .expect_words(words);
        before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    }
    lab.bastion.service("status").expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Active);

    // With the right receipt back in its place, everything works as before.
    std::fs::write(lab.bastion.receipt(), good).expect("the receipt");
    lab.bastion
        .run(&mut lab.bastion.program(["status"]))
        .expect_code(0);
}

/// The same token with its last character changed.
fn corrupted(token: &str) -> String {
    let (start, last) = token.split_at(token.len() - 1);
    format!("{start}{}", if last == "A" { "B" } else { "A" })
}
