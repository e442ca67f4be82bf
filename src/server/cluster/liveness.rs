//! Whether another node lives, as one observer sees it.
//!
//! By the observer's own monotonic clock, and only by time in which it could have seen a beat: an outage of the
//! database, or of the observer, declares nobody dead.

use std::time::Duration;

/// After how long without a beat a node is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(10);

/// What two looks that follow each other count at most. More means that the observer itself stood still.
const MOST: Duration = Duration::from_secs(2);

/// A beat, and for how long it has stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Liveness {
    beat: (i64, i64),
    still: Duration,
}

impl Liveness {
    /// One that is seen for the first time: it lives until its beat has stood still for long enough.
    pub(super) fn new(epoch: i64, beat: i64) -> Self {
        Liveness {
            beat: (epoch, beat),
            still: Duration::ZERO,
        }
    }

    /// What was seen now, and how much time has passed since the last look: none if that failed.
    pub(super) fn see(&mut self, epoch: i64, beat: i64, passed: Duration) {
        if self.beat == (epoch, beat) {
            self.still = self.still.saturating_add(passed.min(MOST));
        } else {
            *self = Liveness::new(epoch, beat);
        }
    }

    /// For how long its beat was seen to stand still.
    pub(super) fn still(&self) -> Duration {
        self.still
    }

    pub(super) fn is_alive(&self) -> bool {
        self.still < DEAD_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_node_is_dead_when_its_beat_has_stood_still_for_ten_seconds_and_lives_with_the_next_one() {
        let mut node = Liveness::new(1, 7);
        for _ in 0..9 {
            node.see(1, 7, SECOND);
        }
        assert!(node.is_alive());
        node.see(1, 7, SECOND);
        assert!(!node.is_alive());
        node.see(1, 8, SECOND);
        assert!(node.is_alive());
        assert_eq!(node.still(), Duration::ZERO);
    }

    #[test]
    fn time_in_which_nothing_could_be_read_counts_for_nothing() {
        let mut node = Liveness::new(1, 7);
        // After looks that failed, and after the observer was asleep for an hour.
        for _ in 0..100 {
            node.see(1, 7, Duration::ZERO);
        }
        node.see(1, 7, SECOND * 3600);
        assert_eq!(node.still(), MOST);
        assert!(node.is_alive());
    }

    #[test]
    fn a_new_life_of_a_node_is_a_sign_of_life() {
        let mut node = Liveness::new(1, 7);
        for _ in 0..20 {
            node.see(1, 7, SECOND);
        }
        node.see(2, 7, SECOND);
        assert!(node.is_alive());
    }
}
