//! The screen of a setup: wide, narrow, resized, and where it cannot be moved about.

use super::*;

#[test]
fn setup_shows_its_plan_asks_once_sends_to_the_browser_and_sums_up() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut screen = at_terminal(&mut setup_that_asks(&lab, &source), 100);
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
    let mut setup = setup_that_asks(&lab, &source);
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
    // Commands stay whole, so that they can be copied.
    let program = env!("CARGO_BIN_EXE_holistics-tunnel");
    for command in ["status", "doctor", "uninstall-tunnel"] {
        let whole = format!("{program} {command} {}", tunnel_of(&source).id);
        let is_a_line = |line| without_escapes(line).trim() == whole;
        assert!(written.lines().any(is_a_line), "{whole} in\n{written}");
    }
    assert_is_left_in_order(&screen);
}

#[test]
fn a_terminal_that_is_made_narrow_meanwhile_goes_on_showing_the_wait() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    let mut setup = setup_that_asks(&lab, &source);
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
    let mut setup = setup_that_asks(&lab, &source);
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
