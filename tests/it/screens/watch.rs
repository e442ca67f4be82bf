//! `status --watch`.

use super::*;

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
