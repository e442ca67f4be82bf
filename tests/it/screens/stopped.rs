//! Stopped at any moment: what is left, and how it goes on.

use super::*;

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
    let mut setup = setup_that_asks(&lab, &source);
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
    let mut setup = setup_that_asks(&lab, &source);
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
    // Before it is asked anything, which it could not answer without a terminal.
    lab.bastion
        .run(&mut setup_that_asks(&lab, &source))
        .expect_code(1)
        .expect_words(&[
            "another holistics-tunnel command is running",
            "setup",
            &pid,
            "since",
            &format!("kill {pid}"),
        ]);
    first.signal(Signal::KILL);
    first.wait(SERVICE_LIMIT);

    let setup = lab.setup_that_waits(&source);
    lab.save_and_finish(&source, setup);
}

/// Stops a setup at the beginning of each of its steps, one after the other, and sees that nothing of
/// it runs on, that its receipt is true, and that in the end the same command brings it about.
fn stopped_at_every_step(signal: Signal) {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let empty = lab.bastion.snapshot();
    for step in STEPS {
        let mut setup = setup_that_asks(&lab, &source);
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
    let mut setup = setup_that_asks(&lab, &source);
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
