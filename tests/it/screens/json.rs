//! `--json`: one object for each event.

use super::*;

#[test]
fn json_is_one_object_for_each_event_and_nothing_else_on_standard_output() {
    let lab = Lab::with(Server::start_with(1, &[]));
    let source = lab.data_source("Shop");
    let mut setup = setup_that_asks(&lab, &source);
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
    assert_eq!(last["result"]["tunnel_id"], tunnel_of(&source).id.0);
    assert_eq!(finished.stderr, "");

    // No port is left for a second one: it is rolled back.
    let other = Bastion::new();
    let second = lab.data_source("Billing");
    let mut setup = other.setup(&lab.server, token_of(&second));
    let failed = other.run(setup.arg("--json"));
    let last = events_of_failure(failed, 3);
    assert!(
        last["next"].is_string() && last["log"].is_string(),
        "{last}"
    );

    let mut wrong = setup_that_asks(&lab, &lab.operator.create("Closed", ports::free_port()));
    events_of_failure(lab.bastion.run(wrong.args(["--json", "--yes"])), 1);
    let unasked = lab.bastion.program(["uninstall-tunnel", "--json"]);
    events_of_failure(lab.bastion.run(&mut { unasked }), 2);

    let id = tunnel_of(&source).id.to_string();
    let mut removal = lab
        .bastion
        .program(["uninstall-tunnel", &id, "--yes", "--json"]);
    let removed = lab.bastion.run(&mut removal).expect_code(0);
    let removal_events = self::events(&removed);
    assert_eq!(
        removal_events.last().expect("an event")["result"]["removed"][0],
        tunnel_of(&source).id.0
    );
}

#[track_caller]
fn events_of_failure(finished: Finished, code: i32) -> serde_json::Value {
    let finished = finished.expect_code(code);
    let last = events(&finished).pop().expect("an event");
    assert_eq!(last["event"], "failed", "{finished}");
    assert_eq!(last["exit"], code, "{finished}");
    last
}
