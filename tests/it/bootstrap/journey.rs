//! The generated commands with the real program.

use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState};
use rustix::process::Signal;

use crate::bootstrap::vendor::Offered;
use crate::bootstrap::{FAILED, INTERRUPTED, USAGE, fetched, program_of, run, shell, url_of};
use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of};
use crate::support::process;
use crate::support::pty::{Input, Pty};
use crate::support::server::Server;

/// How long a screen may take to show what needs no other machine but a download.
const SCREEN_LIMIT: Duration = Duration::from_secs(60);

/// The command from the browser with a quick key, in a bastion's own folder.
fn command_for(lab: &Lab, source: &DataSource) -> String {
    let arguments = lab.bastion.setup_options();
    format!("curl -fsSL {} | sh -s -- {arguments}", url_of(source))
}

#[test]
fn at_a_terminal_it_asks_though_standard_input_is_the_script() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let at_terminal = || {
        let mut command = shell(&lab.bastion, &command_for(&lab, &source));
        let command = command.env("TERM", "xterm-256color");
        Pty::start(command, 100, Input::Terminal)
    };
    let mut screen = at_terminal();
    screen.wait_for("Go on?", SCREEN_LIMIT);
    screen.press("n");
    assert_eq!(screen.wait(SCREEN_LIMIT), FAILED);
    screen.wait_for("nothing was changed", SCREEN_LIMIT);

    let mut screen = at_terminal();
    screen.wait_for("Go on?", SCREEN_LIMIT);
    screen.press("\r");
    screen.wait_for("Return to your browser.", SETUP_LIMIT);
    lab.operator.save(source.id);
    screen.wait_for("Done: \"Shop\" is reachable", SETUP_LIMIT);
    assert_eq!(screen.wait(SERVICE_LIMIT), 0);
    assert!(!screen.written().contains(token_of(&source)));
    assert!(screen.is_as_a_shell_left_it(), "the terminal's modes");
}

#[test]
fn without_a_terminal_it_asks_for_yes_and_only_the_program_is_there_then() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let before = lab.bastion.snapshot();
    run(&lab.bastion, &command_for(&lab, &source))
        .expect_code(USAGE)
        .expect_words(&["without a terminal", "--yes", "nothing was changed"]);
    let own = lab.bastion.own_folder();
    before.assert_same(&lab.bastion.snapshot().without(&own));
    let program = std::fs::read(program_of(&lab.bastion)).expect("the program");
    let built = std::fs::read(env!("CARGO_BIN_EXE_holistics-tunnel")).expect("the program");
    assert!(program == built, "another program was installed");
}

#[test]
fn the_program_is_replaced_while_the_former_one_runs() {
    let built = std::fs::read(env!("CARGO_BIN_EXE_holistics-tunnel")).expect("the program");
    let offered = Offered::new();
    offered.put(&built);
    let lab = Lab::with(Server::start_with(10, &["--dist-dir", offered.path()]));
    let source = lab.data_source("Shop");
    let line = format!("{} --yes", command_for(&lab, &source));
    let first = lab.bastion.start(&mut shell(&lab.bastion, &line));
    lab.wait_until_connected(&source, &first);

    // What follows a program's end means nothing to the kernel.
    let newer = [built.as_slice(), b"newer"].concat();
    offered.put(&newer);
    run(&lab.bastion, &line)
        .expect_code(FAILED)
        .expect_words(&["another holistics-tunnel command is running"]);
    let installed = std::fs::read(program_of(&lab.bastion)).expect("the program");
    assert!(installed == newer, "the newer program was not installed");
    lab.save_and_finish(&source, first);
}

#[test]
fn a_signal_to_the_script_reaches_the_program_and_the_same_command_goes_on() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let script = fetched(&lab.bastion, url_of(&source));
    let line = format!(
        "exec sh -s -- --yes {} <{}",
        lab.bastion.setup_options(),
        script.display()
    );
    let setup = lab.bastion.start(&mut shell(&lab.bastion, &line));
    lab.wait_until_connected(&source, &setup);
    setup.signal(Signal::TERM);
    setup.wait(SERVICE_LIMIT).expect_code(INTERRUPTED);
    assert_eq!(process::naming(&lab.bastion.home()), []);

    let setup = lab.bastion.start(&mut shell(&lab.bastion, &line));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
}

#[test]
fn a_removal_on_a_bastion_that_was_made_anew_tells_the_server_and_leaves_nothing() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let removal = lab.operator.delete(source.id);
    let anew = Bastion::new();
    let before = anew.snapshot();
    run(&anew, &removal.command)
        .expect_code(0)
        .expect_words(&["the control plane has removed it"]);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    before.assert_same(&anew.snapshot());
}
