//! What the person on the bastion sees and is asked: the screen of a setup, questions, JSON, logs,
//! help; and what is left when they stop it at any moment.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState};
use rustix::process::Signal;
use support::bastion::{Bastion, SETUP_LIMIT};
use support::lab::{Lab, SERVICE_LIMIT, token_of};
use support::process::{self, Finished};
use support::pty::{Input, Pty};
use support::server::Server;
use support::{ports, wait};

const ENTER: &str = "\r";
const DOWN: &str = "\x1b[B";
const CTRL_C: &str = "\x03";
/// How long a screen may take to show what needs no other machine.
const SCREEN_LIMIT: Duration = Duration::from_secs(20);
const STEPS: [&str; 8] = [
    "directory",
    "packages",
    "key-pair",
    "enrollment",
    "temporary-tunnel",
    "wait-for-save",
    "service",
    "service-tunnel",
];

// ---------------------------------------------------------------------------------------------
// Setup's screen
// ---------------------------------------------------------------------------------------------

#[test]
fn setup_shows_its_plan_asks_once_sends_to_the_browser_and_sums_up() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut screen = at_terminal(&mut quick_setup(&lab, &source), 100);
    screen.wait_for("Go on?", SCREEN_LIMIT);
    for text in ["This sets up a tunnel", "\"Shop\"", "1. Make", "Wait until"] {
        assert!(
            screen.screen().contains(text),
            "{text}:\n{}",
            screen.screen()
        );
    }
    screen.press(ENTER);
    screen.wait_for("Return to your browser.", SETUP_LIMIT);
    screen.wait_for("29:5", SCREEN_LIMIT);
    screen.wait_for("29:4", SCREEN_LIMIT);
    lab.operator.save(source.id);
    screen.wait_for("Done: \"Shop\" is reachable", SETUP_LIMIT);
    assert_eq!(screen.wait(SERVICE_LIMIT), 0);

    let shown = screen.screen();
    for step in STEPS {
        let is_step = |line: &&str| line.starts_with(['✓', '=']) && line.contains(step);
        assert!(shown.lines().any(|line| is_step(&line)), "{step}:\n{shown}");
    }
    assert!(shown.contains("uninstall-tunnel"), "{shown}");
    assert!(!screen.written().contains(token_of(&source)));
    assert_is_left_in_order(&screen);
}

#[test]
fn a_narrow_terminal_without_colours_and_unicode_shows_everything_in_its_columns() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = quick_setup(&lab, &source);
    let mut screen = at_terminal(setup.env("LANG", "C").env("NO_COLOR", "1"), 40);
    screen.wait_for("Go on?", SCREEN_LIMIT);
    screen.press("y");
    screen.wait_for("Return to your browser.", SETUP_LIMIT);
    screen.wait_for(":5", SCREEN_LIMIT);
    lab.operator.save(source.id);
    screen.wait_for("uninstall-tunnel", SETUP_LIMIT);
    assert_eq!(screen.wait(SERVICE_LIMIT), 0);

    let written = screen.written();
    assert!(written.is_ascii(), "{written}");
    assert!(!has_colours(&written), "{written:?}");
    // A word that is wider than the screen is a path.
    for line in written.lines().map(without_escapes) {
        let fits =
            line.chars().count() <= 40 || line.split_whitespace().any(|word| word.len() > 20);
        assert!(fits, "{line:?}");
    }
    assert_is_left_in_order(&screen);
}

#[test]
fn a_terminal_that_is_made_narrow_meanwhile_goes_on_showing_the_wait() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = quick_setup(&lab, &source);
    let mut screen = at_terminal(setup.arg("--yes"), 120);
    screen.wait_for("Return to your browser.", SETUP_LIMIT);
    screen.wait_for("left to save", SCREEN_LIMIT);
    screen.resize(40);
    std::thread::sleep(Duration::from_millis(500));
    screen.wait_for("left to save", SCREEN_LIMIT);
    lab.operator.save(source.id);
    screen.wait_for("Done:", SETUP_LIMIT);
    assert_eq!(screen.wait(SERVICE_LIMIT), 0);
    assert_is_left_in_order(&screen);
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_plain_lines() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = quick_setup(&lab, &source);
    let mut screen = at_terminal(setup.env("TERM", "dumb").arg("--yes"), 80);
    screen.wait_for("Return to your browser.", SETUP_LIMIT);
    lab.operator.save(source.id);
    assert_eq!(screen.wait(SETUP_LIMIT), 0);
    let written = screen.written();
    assert!(
        !written.contains('\x1b') && written.is_ascii(),
        "{written:?}"
    );
    assert!(written.contains("+ key-pair"), "{written}");
}

// ---------------------------------------------------------------------------------------------
// Questions
// ---------------------------------------------------------------------------------------------

#[test]
fn what_is_missing_is_asked_for_even_if_standard_input_is_a_pipe() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let before = lab.bastion.snapshot();
    let mut setup = lab.bastion.program(["setup", "--init", "sysv"]);
    setup.arg("--prefix").arg(lab.bastion.prefix());
    let mut screen = Pty::start(setup.env("TERM", "xterm"), 100, Input::Pipe);
    screen.wait_for("Address of the control plane", SCREEN_LIMIT);
    screen.press(&format!("{}{ENTER}", lab.server.url));
    screen.wait_for("One-time token", SCREEN_LIMIT);
    screen.press(&format!("{}{ENTER}", token_of(&source)));
    screen.wait_for("Go on?", SCREEN_LIMIT);
    screen.press("n");
    assert_eq!(screen.wait(SCREEN_LIMIT), 1);
    screen.wait_for("nothing was changed", SCREEN_LIMIT);
    assert!(!screen.written().contains(token_of(&source)), "it is shown");
    before.assert_same(&lab.bastion.snapshot());
    assert_is_left_in_order(&screen);
}

#[test]
fn what_is_missing_without_a_terminal_is_named_with_its_option_and_variable() {
    let bastion = Bastion::new();
    let cases: [(&[&str], [&str; 2]); 3] = [
        (&["setup"], ["--server", "HOLISTICS_TUNNEL_SERVER"]),
        (
            &["setup", "--server", "https://vendor.example"],
            ["--token-file", "HOLISTICS_TUNNEL_TOKEN_FILE"],
        ),
        (&["setup", "--yes"], ["--server", "HOLISTICS_TUNNEL_SERVER"]),
    ];
    for (arguments, words) in cases {
        bastion
            .run(&mut bastion.program(arguments))
            .expect_code(2)
            .expect_words(&words);
    }
}

#[test]
fn the_tunnel_to_remove_is_chosen_by_name_and_nothing_goes_without_a_yes() {
    let lab = Lab::new();
    let sources = [
        lab.active_data_source("Shop"),
        lab.active_data_source("Billing"),
    ];
    let before = lab.bastion.snapshot_of_what_lasts();
    let uninstall = || at_terminal(&mut lab.bastion.program(["uninstall-tunnel"]), 100);

    let mut screen = uninstall();
    screen.wait_for("Which tunnel is to be removed?", SCREEN_LIMIT);
    for name in ["Shop", "Billing"] {
        assert!(screen.screen().contains(name), "{}", screen.screen());
    }
    screen.press(DOWN);
    screen.press(ENTER);
    screen.wait_for("(Billing)? [y/N]", SCREEN_LIMIT);
    screen.press(ENTER);
    assert_eq!(screen.wait(SCREEN_LIMIT), 1);
    assert_is_left_in_order(&screen);

    let mut screen = uninstall();
    screen.wait_for("Which tunnel is to be removed?", SCREEN_LIMIT);
    screen.press("q");
    assert_eq!(screen.wait(SCREEN_LIMIT), 1);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_is_left_in_order(&screen);

    let mut screen = uninstall();
    screen.wait_for("Which tunnel is to be removed?", SCREEN_LIMIT);
    screen.press(DOWN);
    screen.press(ENTER);
    screen.wait_for("[y/N]", SCREEN_LIMIT);
    screen.press("y");
    assert_eq!(screen.wait(SERVICE_LIMIT), 0);
    assert_eq!(lab.state(&sources[0]), DataSourceState::Active);
    assert_eq!(lab.state(&sources[1]), DataSourceState::Removed);

    lab.bastion
        .run(&mut lab.bastion.program(["uninstall-tunnel"]))
        .expect_code(2)
        .expect_words(&["--all", "list"]);
}

#[test]
fn whatever_stops_a_question_leaves_the_terminal_and_the_host_as_they_were() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let before = lab.bastion.snapshot();
    for signal in [
        None,
        Some(Signal::INT),
        Some(Signal::TERM),
        Some(Signal::HUP),
    ] {
        let mut screen = at_terminal(&mut quick_setup(&lab, &source), 100);
        screen.wait_for("Go on?", SCREEN_LIMIT);
        match signal {
            None => screen.press(CTRL_C),
            Some(signal) => screen.signal(signal),
        }
        assert_eq!(screen.wait(Duration::from_secs(5)), 130, "{signal:?}");
        assert_is_left_in_order(&screen);
        before.assert_same(&lab.bastion.snapshot());
    }
    let mut screen = at_terminal(&mut quick_setup(&lab, &source), 100);
    screen.wait_for("Go on?", SCREEN_LIMIT);
    screen.close();
    assert_eq!(screen.wait(Duration::from_secs(5)), 130, "closed");
    before.assert_same(&lab.bastion.snapshot());
}

// ---------------------------------------------------------------------------------------------
// Stopped at any moment
// ---------------------------------------------------------------------------------------------

#[test]
fn interrupted_at_any_step_setup_cleans_up_and_the_next_run_resumes() {
    stopped_at_every_step(Signal::INT);
}

#[test]
fn terminated_at_any_step_setup_cleans_up_and_the_next_run_resumes() {
    stopped_at_every_step(Signal::TERM);
}

#[test]
fn hung_up_at_any_step_setup_cleans_up_and_the_next_run_resumes() {
    stopped_at_every_step(Signal::HUP);
}

#[test]
fn a_terminal_that_is_closed_while_setup_waits_ends_the_temporary_tunnel() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = quick_setup(&lab, &source);
    let mut screen = at_terminal(setup.arg("--yes"), 100);
    screen.wait_for("Return to your browser.", SETUP_LIMIT);
    screen.close();
    assert_eq!(screen.wait(SERVICE_LIMIT), 130);
    assert_eq!(process::naming(&lab.bastion.home()), []);

    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

#[test]
fn ctrl_c_again_and_again_does_not_stop_the_cleaning_up() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = quick_setup(&lab, &source);
    let mut screen = at_terminal(setup.arg("--yes"), 100);
    screen.wait_for("Return to your browser.", SETUP_LIMIT);
    for _ in 0..10 {
        screen.press(CTRL_C);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(screen.wait(SERVICE_LIMIT), 130);
    screen.wait_for("stopped", SCREEN_LIMIT);
    assert_eq!(process::naming(&lab.bastion.home()), []);
    assert_is_left_in_order(&screen);
}

#[test]
fn a_second_setup_is_told_who_is_at_work_and_one_that_was_killed_is_in_nobody_s_way() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let first = lab.setup_that_waits(&source);
    let pid = first.pid().to_string();
    let mut second = quick_setup(&lab, &source);
    lab.bastion
        .run(second.arg("--yes"))
        .expect_code(1)
        .expect_words(&["at work", "setup", &pid, "since", &format!("kill {pid}")]);
    first.signal(Signal::KILL);
    first.wait(SERVICE_LIMIT);

    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

// ---------------------------------------------------------------------------------------------
// JSON
// ---------------------------------------------------------------------------------------------

#[test]
fn json_is_one_object_for_each_event_and_nothing_else_on_standard_output() {
    let lab = Lab::with(Server::start_with(1, &[]));
    let source = lab.data_source("Shop");
    let mut setup = quick_setup(&lab, &source);
    let setup = lab.bastion.start(setup.args(["--yes", "--json"]));
    setup.wait_for_output("\"waiting\"", SETUP_LIMIT);
    let finished = lab.save_and_finish(&source, setup);
    let events = events(&finished);
    assert_eq!(events[0]["event"], "plan");
    for step in STEPS {
        let of_step = events.iter().filter(|event| event["name"] == step);
        assert_eq!(of_step.count(), 2, "{step}: {finished}");
    }
    let last = events.last().expect("events");
    assert_eq!(last["event"], "finished");
    assert_eq!(last["result"]["tunnel_id"], source.tunnel.id);
    assert_eq!(finished.stderr, "");

    // No port is left for a second one: it is rolled back.
    let other = Bastion::new();
    let second = lab.data_source("Billing");
    let mut setup = other.setup(&lab.server, token_of(&second));
    let failed = other.run(setup.args(["--json", "--key-type", "ed25519"]));
    let last = events_of_failure(failed, 3);
    assert!(
        last["next"].is_string() && last["log"].is_string(),
        "{last}"
    );

    let mut wrong = quick_setup(&lab, &lab.operator.create("Closed", ports::free_port()));
    events_of_failure(lab.bastion.run(wrong.args(["--json", "--yes"])), 1);
    let unasked = lab.bastion.program(["uninstall-tunnel", "--json"]);
    events_of_failure(lab.bastion.run(&mut { unasked }), 2);

    let id = source.tunnel.id.to_string();
    let mut removal = lab
        .bastion
        .program(["uninstall-tunnel", &id, "--yes", "--json"]);
    let removed = lab.bastion.run(&mut removal).expect_code(0);
    let removal_events = self::events(&removed);
    assert_eq!(
        removal_events.last().expect("an event")["result"]["removed"][0],
        source.tunnel.id
    );
}

// ---------------------------------------------------------------------------------------------
// Logs
// ---------------------------------------------------------------------------------------------

#[test]
fn a_setup_s_log_holds_every_command_and_no_secret_for_its_user_alone() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
    let logs = lab.bastion.own_folder().join("logs");
    let log = only_log(&logs, "setup-");
    assert_eq!(mode(&log), 0o600);
    assert_eq!(mode(&logs), 0o700);
    let text = std::fs::read_to_string(&log).expect("the log");
    for part in [
        "step key-pair begins",
        "ssh-keygen",
        "(status 0, ",
        "step key-pair ended",
        "exit status 0",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let receipt: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.bastion.receipt()).expect("the receipt"))
            .expect("JSON");
    let tunnel = &receipt["tunnels"][source.tunnel.id.to_string()];
    let tunnel_token = tunnel["enrolled"]["tunnel_token"]
        .as_str()
        .expect("a token");
    for secret in [token_of(&source), tunnel_token, "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{text}");
    }
    for other in std::fs::read_dir(&logs).expect("the logs") {
        let text = std::fs::read_to_string(other.expect("a file").path()).expect("text");
        assert!(!text.contains(token_of(&source)) && !text.contains(tunnel_token));
    }
}

#[test]
fn a_rolled_back_setup_leaves_its_log_where_it_says() {
    let lab = Lab::with(Server::start_with(1, &[]));
    lab.active_data_source("Shop");
    let source = lab.data_source("Billing");
    let other = Bastion::new();
    let before = other.snapshot();
    let setup = || {
        let mut setup = other.setup(&lab.server, token_of(&source));
        setup.args(["--key-type", "ed25519"]);
        setup
    };
    let failed = other.run(&mut setup()).expect_code(3);
    before.assert_same(&other.snapshot());
    let log = only_log(&other.temporary(), "holistics-tunnel-setup-");
    assert!(
        failed.stderr.contains(&format!("log: {}", log.display())),
        "{failed}"
    );
    assert_eq!(mode(&log), 0o600);
    let text = std::fs::read_to_string(&log).expect("the log");
    for part in [
        "step enrollment failed",
        "undoing everything",
        "exit status 3",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains(token_of(&source)), "{text}");

    let chosen = other.temporary().join("chosen");
    let failed = other
        .run(setup().arg("--log-file").arg(&chosen))
        .expect_code(3);
    assert!(
        failed
            .stderr
            .contains(&format!("log: {}", chosen.display())),
        "{failed}"
    );
    assert_eq!(mode(&chosen), 0o600);
    other
        .run(setup().args(["--log-file", "/no/such/folder/log"]))
        .expect_code(2)
        .expect_words(&["--log-file", "/no/such/folder/log"]);
}

// ---------------------------------------------------------------------------------------------
// Status
// ---------------------------------------------------------------------------------------------

#[test]
fn a_watch_shows_what_changes_until_ctrl_c() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    let lines = lab
        .bastion
        .start(&mut lab.bastion.program(["status", "--watch"]));
    let json = lab
        .bastion
        .start(&mut lab.bastion.program(["status", "--watch", "--json"]));
    let mut screen = at_terminal(&mut lab.bastion.program(["status", "--watch"]), 100);
    screen.wait_for(": up", SCREEN_LIMIT);
    lines.wait_for_output(": up", SCREEN_LIMIT);
    json.wait_for_output("\"up\":true", SCREEN_LIMIT);
    lab.bastion.service("stop").expect_code(0);
    screen.wait_for("DOWN", SERVICE_LIMIT);
    lines.wait_for_output("DOWN", SERVICE_LIMIT);
    json.wait_for_output("\"up\":false", SERVICE_LIMIT);
    let shown = screen.screen();
    assert!(!shown.contains(": up"), "it is not in place:\n{shown}");
    screen.press(CTRL_C);
    assert_eq!(screen.wait(SCREEN_LIMIT), 1, "it was down at the end");
    assert_is_left_in_order(&screen);
    for watch in [lines, json] {
        watch.signal(Signal::INT);
        let finished = watch.wait(SCREEN_LIMIT).expect_code(1);
        if finished.command.contains("json") {
            assert!((2..=4).contains(&events(&finished).len()), "{finished}");
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Help
// ---------------------------------------------------------------------------------------------

/// `cargo insta accept`, or INSTA_UPDATE=always, takes what is new.
#[test]
fn help_of_every_command() {
    let bastion = Bastion::new();
    let help = |command: &[&str]| {
        let mut program = bastion.program(command);
        bastion.run(program.arg("--help")).expect_code(0).stdout
    };
    let program = help(&[]);
    let listed = program
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1);
    let commands: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    let mut text = program.clone();
    for command in &commands {
        text.push_str(&format!("\n==== {command}\n\n{}", help(&[command])));
    }
    insta::assert_snapshot!("help", text);
}

#[test]
fn completions_and_manual_pages_are_understood_by_those_who_read_them() {
    let bastion = Bastion::new();
    let completions = |shell: &str| {
        let mut program = bastion.program(["completions", shell]);
        bastion.run(&mut program).expect_code(0).stdout
    };
    let script = bastion.temporary().join("completions");
    std::fs::write(&script, completions("bash")).expect("a file");
    bastion
        .run(bastion.any_program("bash").arg("-n").arg(&script))
        .expect_code(0);
    // What bash itself makes of it, as if Tab was pressed.
    let complete = "source \"$0\"; COMP_WORDS=(holistics-tunnel unin); COMP_CWORD=1; \
                    _holistics__tunnel holistics-tunnel unin holistics-tunnel; echo \"${COMPREPLY[@]}\"";
    let completed = bastion
        .run(
            bastion
                .any_program("bash")
                .args(["-c", complete])
                .arg(&script),
        )
        .expect_code(0);
    assert_eq!(completed.stdout.trim(), "uninstall-tunnel");
    assert!(completions("zsh").starts_with("#compdef holistics-tunnel"));
    assert!(completions("fish").contains("-l token-file"));

    let dir = bastion.temporary().join("man1");
    let mut man = bastion.program(["man"]);
    bastion.run(man.arg("--dir").arg(&dir)).expect_code(0);
    for page in [
        "holistics-tunnel.1",
        "holistics-tunnel-setup.1",
        "holistics-tunnel-status.1",
    ] {
        let text = std::fs::read_to_string(dir.join(page)).expect(page);
        assert!(text.contains(".TH holistics-tunnel"), "{page}:\n{text}");
    }
    let main = bastion.run(&mut bastion.program(["man"])).expect_code(0);
    assert!(main.stdout.contains("uninstall\\-tunnel"), "{main}");
}

// ---------------------------------------------------------------------------------------------

/// Setup with a key that is made in a moment.
fn quick_setup(lab: &Lab, source: &DataSource) -> Command {
    let mut command = lab.bastion.setup_without_yes(&lab.server, token_of(source));
    command.args(["--key-type", "ed25519"]);
    command
}

fn at_terminal(command: &mut Command, columns: u16) -> Pty {
    if !command.get_envs().any(|(name, _)| name == "TERM") {
        command.env("TERM", "xterm-256color");
    }
    Pty::start(command, columns, Input::Terminal)
}

#[track_caller]
fn assert_is_left_in_order(screen: &Pty) {
    assert!(screen.has_cursor(), "the cursor is hidden");
    assert!(screen.is_as_a_shell_left_it(), "the terminal's modes");
}

/// Stops a setup at the beginning of each of its steps, one after the other, and sees that nothing of
/// it runs on, that its receipt is true, and that in the end the same command brings it about.
fn stopped_at_every_step(signal: Signal) {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let empty = lab.bastion.snapshot();
    for step in STEPS {
        let mut setup = quick_setup(&lab, &source);
        let setup = lab.bastion.start(setup.args(["--yes", "--json"]));
        let began = |name: &str| {
            let output = setup.output();
            output
                .lines()
                .any(|line| line.contains("\"started\"") && line.contains(&format!("\"{name}\"")))
        };
        if step.starts_with("service") {
            // A data source that was saved before an earlier interruption is not waited for again.
            setup.wait_until("the wait or its end", SETUP_LIMIT, || {
                began("wait-for-save") || began(step)
            });
            if lab.state(&source) == DataSourceState::Connected {
                lab.operator.save(source.id);
            }
        }
        setup.wait_until(&format!("step {step}"), SETUP_LIMIT, || began(step));
        setup.signal(signal);
        let finished = setup.wait(SERVICE_LIMIT);
        // The last step may be over before the signal is looked at.
        let is_done = step == "service-tunnel" && finished.code == 0;
        assert!(is_done || finished.code == 130, "{step}: {finished}");
        events(&finished);
        if !is_done {
            assert_eq!(
                process::naming(&lab.bastion.home()),
                [],
                "{step}: {finished}"
            );
            let receipt = std::fs::read_to_string(lab.bastion.receipt()).unwrap_or_default();
            assert!(!receipt.contains("master-started"), "{step}: {receipt}");
        }
        if !lab.bastion.receipt().exists() {
            empty.assert_same(&lab.bastion.snapshot());
        }
    }
    let mut setup = quick_setup(&lab, &source);
    lab.bastion.run(setup.arg("--yes")).expect_code(0);
    lab.operator
        .wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
    wait::until_true(
        "the service's ssh alone",
        SERVICE_LIMIT,
        String::new,
        || lab.bastion.processes("ssh").len() == 1,
    );
}

/// Standard output's lines, each of which has to be one JSON object.
#[track_caller]
fn events(finished: &Finished) -> Vec<serde_json::Value> {
    let lines = finished.stdout.lines();
    let parsed = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let events: Option<Vec<_>> = parsed.collect();
    let events = events.filter(|events| events.iter().all(serde_json::Value::is_object));
    events.unwrap_or_else(|| panic!("not an object on each line of\n{finished}"))
}

#[track_caller]
fn events_of_failure(finished: Finished, code: i32) -> serde_json::Value {
    let finished = finished.expect_code(code);
    let last = events(&finished).pop().expect("an event");
    assert_eq!(last["event"], "failed", "{finished}");
    assert_eq!(last["exit"], code, "{finished}");
    last
}

#[track_caller]
fn only_log(folder: &Path, prefix: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut logs: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.starts_with(prefix)
        })
        .collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

/// Whether anything sets a colour or a weight.
fn has_colours(written: &str) -> bool {
    let sequences = written.split("\x1b[").skip(1);
    sequences
        .filter_map(|rest| {
            rest.find(|c: char| c.is_ascii_alphabetic())
                .map(|end| &rest[..=end])
        })
        .any(|sequence| sequence.ends_with('m') && sequence != "0m")
}

fn without_escapes(line: &str) -> String {
    // What stands before a return to the line's beginning was written over.
    let line = line
        .trim_end_matches('\r')
        .rsplit('\r')
        .next()
        .unwrap_or_default();
    let mut clean = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('\x1b') {
        clean.push_str(&rest[..start]);
        let after = &rest[start..];
        let end = after.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    clean + rest
}
