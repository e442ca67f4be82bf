//! The service's daily life: its logs, a tunnel in the foreground, a service of somebody else's that
//! was there before, outages, and removals that meet obstacles.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::bastion::{KEY_TYPE, SETUP_LIMIT};
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::workspace::write_program;
use crate::support::{figures, process, wait};
use holistics_tunnel::bastion::tunnel_name::TunnelName;
use holistics_tunnel::protocol::{DataSourceState, TunnelStatus};
use rustix::process::Signal;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const PARTLY: i32 = 4;

/// A service as the original bash script makes it, which notes what it is told to do.
const FOREIGN: &str = "#!/bin/bash\n### BEGIN INIT INFO\n# Provides: h_autossh\n### END INIT INFO\n\
                       # Tunnels of the old setup\necho \"$1\" >>\"$0.calls\"\n";

// ---------------------------------------------------------------------------------------------
// Logs
// ---------------------------------------------------------------------------------------------

#[test]
fn logs_shows_what_ssh_said_without_any_rights_and_names_the_tunnel_where_there_are_several() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let id = tunnel_of(&shop).id.to_string();
    let said = lab.bastion.run(&mut lab.bastion.program(["logs", &id]));
    let said = said
        .expect_code(0)
        .expect_words(&["autossh", "starting ssh"]);
    assert!(!said.stdout.contains("tunnel 1:"), "{said}");

    let billing = lab.active_data_source("Billing");
    let all = lab.bastion.run(&mut lab.bastion.program(["logs"]));
    for source in [&shop, &billing] {
        assert!(
            all.stdout
                .contains(&format!("tunnel {}:", tunnel_of(source).id)),
            "{all}"
        );
    }

    let as_json = lab
        .bastion
        .run(&mut lab.bastion.program(["logs", &id, "--json", "-n", "1"]));
    let lines: Vec<serde_json::Value> = as_json
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 1, "{as_json}");
    assert_eq!(lines[0]["tunnel"], tunnel_of(&shop).id.0);
}

#[test]
fn logs_goes_on_showing_what_comes_until_it_is_stopped() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let id = tunnel_of(&shop).id.to_string();
    let following = lab
        .bastion
        .start(&mut lab.bastion.program(["logs", &id, "-f", "-n", "0"]));
    // It shows nothing of before: what is written until it shows some of it, it has begun to follow.
    let log = lab.bastion.tunnel_log(tunnel_of(&shop).id);
    let log = File::options().append(true).open(log).expect("the log");
    following.wait_until("a line of ours", SERVICE_LIMIT, || {
        writeln!(&log, "do you follow?").expect("room for a line");
        following.output().contains("do you follow?")
    });
    process::signal(&lab.bastion.processes("ssh")[0], Signal::KILL);
    following.wait_until("the new line", SERVICE_LIMIT, || {
        following.output().contains("restarting ssh") || following.output().contains("starting ssh")
    });
    following.signal(Signal::INT);
    following.wait(SERVICE_LIMIT).expect_code(0);
}

#[test]
fn logs_of_a_tunnel_that_is_not_there_names_those_that_are() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    lab.bastion
        .run(&mut lab.bastion.program(["logs", "4711"]))
        .expect_code(FAILED)
        .expect_words(&["no tunnel 4711", &tunnel_of(&shop).id.to_string()]);
}

// ---------------------------------------------------------------------------------------------
// The init script
// ---------------------------------------------------------------------------------------------

#[test]
fn the_brackets_of_a_database_s_address_are_nothing_to_look_for_files_with() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let file = lab.bastion.tunnel_file(tunnel_of(&shop).id);
    let content = std::fs::read_to_string(&file).expect("the tunnel's file");
    let port = tunnel_of(&shop).remote_port.expect("a port");
    let target = format!("127.0.0.1:{port}:[fd00::1]:5432");
    let given = format!("127.0.0.1:{port}:127.0.0.1:{}", lab.postgres.port());
    assert!(content.contains(&given), "{content}");
    std::fs::write(&file, content.replace(&given, &target)).expect("the tunnel's file");
    // Where the script is called, a file lies that the brackets would match.
    let baits = ["0", "1", "d", "f", ":"];
    for c in baits {
        let bait = lab
            .bastion
            .home()
            .join(format!("127.0.0.1:{port}:{c}:5432"));
        std::fs::write(bait, "").expect("a file");
    }
    lab.bastion.service("restart").expect_code(0);
    wait::until_true(
        "autossh with the database's address",
        SERVICE_LIMIT,
        || format!("{:?}", process::naming(&lab.bastion.home())),
        || {
            let autossh = lab.bastion.processes("autossh");
            let autossh = autossh.iter().map(|process| process.pid);
            autossh.into_iter().any(|pid| {
                let path = format!("/proc/{pid}/cmdline");
                std::fs::read_to_string(path).is_ok_and(|line| line.contains(&target))
            })
        },
    );
}

#[test]
fn the_init_script_takes_a_tunnel_s_name_or_a_number_that_one_tunnel_has() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let id = tunnel_of(&shop).id;
    let file = lab.bastion.tunnel_file(id);
    let name = file
        .file_stem()
        .expect("a name")
        .to_str()
        .expect("in UTF-8");
    let script = |arguments: &[&str]| {
        let mut command = lab.bastion.any_program(lab.bastion.service_script());
        lab.bastion.run(command.args(arguments))
    };
    for called in [name, &id.to_string()] {
        script(&["stop", called]).expect_code(0);
        script(&["status", called])
            .expect_code(3)
            .expect_words(&[name]);
        script(&["start", called]).expect_code(0);
        script(&["status", called])
            .expect_code(0)
            .expect_words(&[name]);
    }
    script(&["status", "4711"]).expect_code(4);
    script(&["stop", "../h_autossh/x"])
        .expect_code(2)
        .expect_words(&["not the name"]);

    // Another vendor's of the same number.
    let other = file.with_file_name(format!("other.example-{id}.env"));
    std::fs::copy(&file, &other).expect("another tunnel's file");
    script(&["stop", &id.to_string()])
        .expect_code(2)
        .expect_words(&[name, &format!("other.example-{id}")]);
    script(&["status", name]).expect_code(0);
    std::fs::remove_file(other).expect("another tunnel's file");
}

#[test]
fn the_init_script_waits_for_a_tunnel_some_of_whose_processes_end_while_it_signals_them() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let file = lab.bastion.tunnel_file(tunnel_of(&shop).id);
    let program = lab.bastion.home().join("autossh-of-many");
    // Its processes come and go; after SIGTERM it takes a while.
    let many = r#"#!/bin/bash
trap 'sleep 1.5; exit' TERM
while :; do
    for hundredths in {1..9}; do (exec -a "$*" sleep "0.0$hundredths") & done
    wait -n
done
"#;
    write_program(&program, many);
    let content = std::fs::read_to_string(&file).expect("the tunnel's file");
    let content: String = content
        .lines()
        .map(|line| match line.split_once('=') {
            Some(("H_AUTOSSH_PROGRAM", _)) => format!("H_AUTOSSH_PROGRAM={}\n", program.display()),
            _ => format!("{line}\n"),
        })
        .collect();
    lab.bastion.service("stop").expect_code(0);
    std::fs::write(&file, content).expect("the tunnel's file");

    let log = lab.bastion.tunnel_log(tunnel_of(&shop).id);
    lab.bastion.service("start").expect_code(0);
    wait::until_true(
        "the program's processes",
        SERVICE_LIMIT,
        || format!("{:?}", process::naming(&log)),
        || process::naming(&log).len() > 5,
    );
    lab.bastion.service("stop").expect_code(0);
    let left = process::naming(&log);
    assert!(left.is_empty(), "{left:?}");
}

// ---------------------------------------------------------------------------------------------
// A tunnel in the foreground
// ---------------------------------------------------------------------------------------------

#[test]
fn a_host_without_a_service_manager_is_told_the_command_and_run_carries_the_tunnel() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    // Quiet, too: the command is what was asked for.
    let words = [
        "setup",
        "--init",
        "none",
        "--yes",
        "--quiet",
        "--key-type",
        KEY_TYPE,
        "--token",
        token_of(&source),
    ];
    let mut setup = lab.bastion.program(words);
    setup.args(["--server", &lab.server.url, "--prefix"]);
    let setup = lab.bastion.start(setup.arg(lab.bastion.prefix()));
    setup.wait_until("the temporary tunnel", SETUP_LIMIT, || {
        lab.state(&source) == DataSourceState::Connected
    });
    lab.operator.save(source.id);
    let finished = setup.wait(SETUP_LIMIT).expect_code(0);
    let id = tunnel_of(&source).id;
    assert!(finished.stdout.contains(&format!("run {id}")), "{finished}");
    assert!(finished.stdout.contains("autossh"), "{finished}");
    assert_eq!(process::naming(&lab.bastion.home()), []);
    let list = lab.bastion.run(&mut lab.bastion.program(["list"]));
    list.expect_code(0).expect_words(&["complete"]);
    assert_eq!(lab.state(&source), DataSourceState::Down);

    let run = lab
        .bastion
        .start(&mut lab.bastion.program(["run", &id.to_string()]));
    lab.operator
        .wait_for_status(source.id, TunnelStatus::Up, SERVICE_LIMIT);
    assert_eq!(lab.state(&source), DataSourceState::Active);
    lab.login_through(&source)
        .expect("a login through the tunnel");

    // A killed ssh comes back, and the supervisor's TERM ends everything.
    let killed = lab.bastion.processes("ssh").remove(0);
    process::signal(&killed, Signal::KILL);
    run.wait_until("another ssh", SERVICE_LIMIT, || {
        let now = lab.bastion.processes("ssh");
        !now.is_empty() && now.iter().all(|ssh| ssh.pid != killed.pid)
    });
    lab.operator
        .wait_for_status(source.id, TunnelStatus::Up, SERVICE_LIMIT);
    run.signal(Signal::TERM);
    run.wait(SERVICE_LIMIT);
    assert_eq!(process::naming(&lab.bastion.home()), []);
}

#[test]
fn run_is_refused_while_the_service_has_the_tunnel() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    lab.bastion
        .run(
            &mut lab
                .bastion
                .program(["run", &tunnel_of(&shop).id.to_string()]),
        )
        .expect_code(USAGE)
        .expect_words(&["service already runs tunnel", "service stop"]);
    assert_eq!(lab.state(&shop), DataSourceState::Active);
}

// ---------------------------------------------------------------------------------------------
// A service of somebody else's
// ---------------------------------------------------------------------------------------------

#[test]
fn a_service_that_is_not_ours_is_shown_and_left_alone_without_a_yes_of_its_own() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let script = put_foreign_script(&lab);
    let before = lab.bastion.snapshot();
    lab.start_setup(&source)
        .wait(SETUP_LIMIT)
        .expect_code(USAGE)
        .expect_words(&[
            "which holistics-tunnel did not write",
            "Tunnels of the old setup",
            "--replace-service",
        ]);
    before.assert_same(&lab.bastion.snapshot());
    assert!(!calls(&script).exists(), "it was run");
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_service_that_is_not_ours_makes_room_and_comes_back_with_the_last_tunnel() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let script = put_foreign_script(&lab);
    let before = lab.bastion.snapshot();
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    let setup = lab.bastion.start(setup.arg("--replace-service"));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    assert_eq!(
        std::fs::read_to_string(calls(&script)).expect("its calls"),
        "stop\n"
    );
    lab.bastion.service("status").expect_code(0);

    std::fs::remove_file(calls(&script)).expect("its calls");
    lab.remove(&source)
        .expect_code(0)
        .expect_words(&["is back where it was", "not started"]);
    before.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_service_that_is_not_ours_and_cannot_stop_makes_room_all_the_same_and_it_is_said() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let script = put_foreign_script(&lab);
    write_program(&script, "#!/bin/sh\nexit 1\n");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    let setup = lab.bastion.start(setup.arg("--replace-service"));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup)
        .expect_words(&["could not stop its tunnels", "pgrep -a autossh"]);
}

#[test]
fn a_setup_that_fails_after_it_moved_a_service_aside_puts_it_back() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let script = put_foreign_script(&lab);
    // It has a folder where the tunnel's file goes, so the service's last step fails.
    let control_plane = lab.server.url.parse().expect("an address");
    let name = TunnelName::new(&control_plane, tunnel_of(&source).id).slug();
    let blocked = lab
        .bastion
        .prefix()
        .join(format!("etc/h_autossh/{name}.env"));
    std::fs::create_dir_all(&blocked).expect("a folder");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&source));
    let setup = lab.bastion.start(setup.arg("--replace-service"));
    lab.wait_until_connected(&source, &setup);
    lab.operator.save(source.id);
    setup.wait(SETUP_LIMIT).expect_code(FAILED);
    // What was done before that step is kept for the next run, which knows what it moved.
    std::fs::remove_dir(&blocked).expect("an empty folder");
    let again = lab.bastion.setup(&lab.server, token_of(&source));
    lab.bastion
        .start(&mut { again })
        .wait(SETUP_LIMIT)
        .expect_code(0);
    lab.bastion.service("status").expect_code(0);
    let _ = std::fs::remove_file(calls(&script));
    lab.remove(&source).expect_code(0);
    assert_eq!(
        std::fs::read_to_string(&script).expect("it is back"),
        FOREIGN
    );
}

// ---------------------------------------------------------------------------------------------
// Outages
// ---------------------------------------------------------------------------------------------

#[test]
fn after_a_long_outage_the_tunnel_is_back_within_a_minute() {
    const OUTAGE: Duration = Duration::from_secs(75);
    let mut lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    lab.server.kill();
    std::thread::sleep(OUTAGE);
    let since = Instant::now();
    lab.server.start_again();
    lab.operator = lab.server.operator();
    lab.operator
        .wait_for_state(shop.id, DataSourceState::Active, Duration::from_secs(60));
    figures::say(&format!(
        "after an outage of {} s: back in {:.1} s",
        OUTAGE.as_secs(),
        since.elapsed().as_secs_f64()
    ));
}

#[test]
fn a_refused_key_slows_down() {
    const WATCHED: Duration = Duration::from_secs(30);
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    lab.operator.delete_now(shop.id);
    let log = lab.bastion.tunnel_log(tunnel_of(&shop).id);
    let attempts = || {
        let said = std::fs::read_to_string(&log).expect("the log");
        said.matches("Permission denied").count()
    };
    std::thread::sleep(WATCHED);
    let at_first = attempts();
    std::thread::sleep(WATCHED);
    let later = attempts() - at_first;
    figures::say(&format!(
        "a refused key: {at_first} attempts in the first {0} s, {later} in the next",
        WATCHED.as_secs()
    ));
    assert!(at_first >= 1, "it gave up");
    // autossh by itself, as under an init script: five attempts at once, then ever longer pauses.
    assert!(at_first <= 16 && later <= 6);
}

#[test]
fn as_the_unit_runs_it_a_refused_key_is_tried_once_and_again_after_three_seconds() {
    const UNIT: &str = include_str!("../../templates/h_autossh@.service");
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let id = tunnel_of(&shop).id;
    lab.bastion.service("stop").expect_code(0);
    lab.operator.delete_now(shop.id);
    let log = lab.bastion.tunnel_log(id);
    let attempts = || {
        let said = std::fs::read_to_string(&log).expect("the log");
        said.matches("Permission denied").count()
    };
    let before = attempts();
    let mut command = lab.bastion.any_program("sh");
    let script =
        r#"set -a; . "$0"; set +a; set -f; exec "$H_AUTOSSH_PROGRAM" $H_AUTOSSH_ARGUMENTS"#;
    command
        .args(["-c", script])
        .arg(lab.bastion.tunnel_file(id));
    let variables = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="));
    command.envs(variables.filter_map(|variable| variable.split_once('=')));
    let ended = lab.bastion.start(&mut command).wait(SERVICE_LIMIT);
    let on_screen = ended.output().matches("Permission denied").count();
    assert_eq!(attempts() - before + on_screen, 1, "{ended}");
    for setting in ["\nRestart=always\n", "\nRestartSec=3\n"] {
        assert!(UNIT.contains(setting), "{setting}");
    }
}

// ---------------------------------------------------------------------------------------------
// Removals that meet obstacles
// ---------------------------------------------------------------------------------------------

#[test]
fn a_removal_goes_on_past_what_cannot_be_undone_and_the_next_one_finishes_it() {
    let lab = Lab::new();
    let before = lab.bastion.snapshot();
    let shop = lab.active_data_source("Shop");
    let script = lab.bastion.service_script();
    let ours = std::fs::read_to_string(&script).expect("the script");
    write_program(&script, "#!/bin/sh\necho I will not >&2\nexit 1\n");

    let removal = lab.operator.delete(shop.id).command;
    let remove = || lab.bastion.type_line(&removal);
    remove()
        .expect_code(PARTLY)
        .expect_words(&["step service-tunnel", "I will not", "next:"]);
    assert_eq!(lab.state(&shop), DataSourceState::Removed);
    assert!(lab.bastion.receipt().exists());

    write_program(&script, &ours);
    let id = tunnel_of(&shop).id.to_string();
    lab.bastion
        .run(&mut lab.bastion.program(["uninstall-tunnel", &id, "--yes"]))
        .expect_code(0);
    assert_eq!(process::naming(&lab.bastion.home()), []);
    before.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_removal_from_a_session_that_came_through_the_tunnel_is_warned_of() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let port = shop.port;
    let id = tunnel_of(&shop).id.to_string();
    let uninstall = |more: &[&str]| {
        let mut command = lab.bastion.program(["uninstall-tunnel", &id, "--yes"]);
        command.env(
            "SSH_CONNECTION",
            format!("127.0.0.1 51000 127.0.0.1 {port}"),
        );
        lab.bastion.run(command.args(more))
    };
    uninstall(&[])
        .expect_code(USAGE)
        .expect_words(&["come through tunnel", "--force"]);
    assert_eq!(lab.state(&shop), DataSourceState::Active);
    uninstall(&["--force"]).expect_code(0);
    assert_eq!(lab.state(&shop), DataSourceState::Removed);
}

// ---------------------------------------------------------------------------------------------

fn put_foreign_script(lab: &Lab) -> PathBuf {
    let script = lab.bastion.service_script();
    std::fs::create_dir_all(script.parent().expect("a folder")).expect("a folder");
    write_program(&script, FOREIGN);
    script
}

/// Where a foreign script notes what it was told to do.
fn calls(script: &std::path::Path) -> PathBuf {
    script.with_extension("calls")
}
