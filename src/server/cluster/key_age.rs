//! How long ago the table of keys was last known to be current.
//!
//! Two clocks tell, and the later one counts. The wall clock goes on while the server does not run, and somebody may
//! set it back; the steady one counts only while the server runs, and nobody can stop it. So what a clock that was
//! set back can gain is the time in which the server did not run, and no more: the age that was reached is kept on
//! disk. A wall clock that was wrong when the table was current makes it older or is made good by the other one.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What the wall clock shows.
    pub wall: Timestamp,
    /// What the steady clock shows.
    pub steady: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Moment {
            wall: Timestamp::now(),
            steady: Instant::now(),
        }
    }
}

/// When it was known to be current, and what has passed since at least.
#[derive(Debug, Clone, Copy)]
pub struct Current {
    at: Timestamp,
    /// How old it was at the moment of `since`.
    reached: Duration,
    since: Instant,
}

impl Current {
    /// It was current at this moment.
    pub fn at(moment: Moment) -> Self {
        Current {
            at: moment.wall,
            reached: Duration::ZERO,
            since: moment.steady,
        }
    }

    /// It was current when the wall clock showed `at`, and has reached this age since, whatever that clock shows now.
    pub fn once(at: Timestamp, reached: Duration, now: Instant) -> Self {
        Current {
            at,
            reached,
            since: now,
        }
    }

    /// What the wall clock showed.
    pub fn wall(&self) -> Timestamp {
        self.at
    }

    /// How old the table is.
    pub fn age(&self, now: Moment) -> Duration {
        let steady = self.reached + now.steady.saturating_duration_since(self.since);
        // Negative where the clock was set back.
        let wall = now.wall.duration_since(self.at);
        Duration::try_from(wall).unwrap_or_default().max(steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn later(moment: Moment, wall_hours: i64, steady: Duration) -> Moment {
        Moment {
            wall: moment.wall + jiff::SignedDuration::from_hours(wall_hours),
            steady: moment.steady + steady,
        }
    }

    #[test]
    fn a_clock_that_is_set_back_gains_nothing_while_the_server_runs() {
        let start = Moment::now();
        let current = Current::at(start);
        assert_eq!(current.age(start), Duration::ZERO);
        assert_eq!(current.age(later(start, 2, 2 * HOUR)), 2 * HOUR);
        assert_eq!(current.age(later(start, -100, 2 * HOUR)), 2 * HOUR);
        // Asleep, or wrong: the older age counts.
        assert_eq!(current.age(later(start, 5, HOUR)), 5 * HOUR);
    }

    #[test]
    fn an_age_that_was_reached_outlives_a_restart_with_a_clock_set_back() {
        let now = Moment::now();
        let before = now.wall - jiff::SignedDuration::from_hours(3);
        let after = now.wall + jiff::SignedDuration::from_hours(3);
        let read = |at, reached| Current::once(at, reached, now.steady);
        assert_eq!(read(before, HOUR).age(now), 3 * HOUR);
        assert_eq!(read(after, HOUR).age(now), HOUR);
        assert_eq!(read(after, HOUR).age(later(now, 0, HOUR)), 2 * HOUR);
    }
}
