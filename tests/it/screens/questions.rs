//! What the person is asked, and what a question leaves behind.

use super::*;

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
    screen.wait_for("Remove which tunnel", SCREEN_LIMIT);
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
    screen.wait_for("Remove which tunnel", SCREEN_LIMIT);
    screen.press("q");
    assert_eq!(screen.wait(SCREEN_LIMIT), 1);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    assert_is_left_in_order(&screen);

    let mut screen = uninstall();
    screen.wait_for("Remove which tunnel", SCREEN_LIMIT);
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
fn a_tunnel_that_is_set_up_while_a_removal_asks_is_not_touched_by_the_answer() {
    let lab = Lab::new();
    let shop = lab.active_data_source("Shop");
    let id = tunnel_of(&shop).id.to_string();
    let mut removal = lab.bastion.program(["uninstall-tunnel", &id]);
    let mut screen = at_terminal(&mut removal, 100);
    screen.wait_for("and with it the service? [y/N]", SCREEN_LIMIT);
    // What was the last tunnel when the question was put is not any more.
    let billing = lab.active_data_source("Billing");
    screen.press("y");
    assert_eq!(screen.wait(SERVICE_LIMIT), 0, "{}", screen.screen());
    assert_eq!(lab.state(&shop), DataSourceState::Removed);
    lab.login_through(&billing).expect("rows of the other one");
    lab.bastion.service("status").expect_code(0);
    let id = tunnel_of(&billing).id.to_string();
    lab.bastion
        .run(&mut lab.bastion.program(["status", &id]))
        .expect_code(0);
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
        let mut screen = at_terminal(&mut setup_that_asks(&lab, &source), 100);
        screen.wait_for("Go on?", SCREEN_LIMIT);
        match signal {
            None => screen.press(CTRL_C),
            Some(signal) => screen.signal(signal),
        }
        assert_eq!(screen.wait(Duration::from_secs(5)), 130, "{signal:?}");
        assert_is_left_in_order(&screen);
        before.assert_same(&lab.bastion.snapshot());
    }
    let mut screen = at_terminal(&mut setup_that_asks(&lab, &source), 100);
    screen.wait_for("Go on?", SCREEN_LIMIT);
    screen.close();
    assert_eq!(screen.wait(Duration::from_secs(5)), 130, "closed");
    before.assert_same(&lab.bastion.snapshot());
}
