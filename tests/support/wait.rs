//! Waiting for something to become so.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(50);

/// Asks `probe` again and again until it answers, for at most `limit`.
///
/// # Panics
/// When the time is over: with what was waited for, and with what `evidence` finds then.
#[track_caller]
pub fn until<T>(
    what: &str,
    limit: Duration,
    evidence: impl Fn() -> String,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        if Instant::now() >= deadline {
            panic!("waited {limit:?} for {what}\n{}", evidence());
        }
        std::thread::sleep(PAUSE);
    }
}

/// As [`until`], for a condition.
#[track_caller]
pub fn until_true(
    what: &str,
    limit: Duration,
    evidence: impl Fn() -> String,
    condition: impl Fn() -> bool,
) {
    until(what, limit, evidence, || condition().then_some(()));
}
