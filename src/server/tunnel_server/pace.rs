//! So many at once, and then so many a second: a token bucket.

use std::time::{Duration, Instant};

/// What is left to one asker. More than there is may be taken, and is then owed.
#[derive(Debug)]
pub(super) struct Pace {
    at_once: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(at_once: u32, per_second: f64, now: Instant) -> Self {
        Pace {
            at_once: at_once.into(),
            per_second,
            left: at_once.into(),
            at: now,
        }
    }

    /// Takes one, and says how long to wait until it is not owed any more.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.left -= 1.0;
        Duration::from_secs_f64((-self.left).max(0.0) / self.per_second)
    }

    /// Takes one if there is one.
    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }

    /// Whether nothing has been taken for so long that a new one would be the same.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.at_once
    }

    fn refill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + since * self.per_second).min(self.at_once);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(3, 2.0, start);
        for _ in 0..3 {
            assert_eq!(pace.take(start), Duration::ZERO);
        }
        assert_eq!(pace.take(start), Duration::from_millis(500));
        assert_eq!(pace.take(start), Duration::from_secs(1));
        assert!(!pace.try_take(start));
        assert!(!pace.try_take(start + Duration::from_secs(1)));
        assert!(pace.try_take(start + Duration::from_millis(1500)));
    }

    #[test]
    fn it_never_saves_up_more_than_it_began_with() {
        let start = Instant::now();
        let mut pace = Pace::new(2, 1.0, start);
        let later = start + Duration::from_secs(3_600);
        assert!(pace.is_full(later));
        assert!(pace.try_take(later));
        assert!(pace.try_take(later));
        assert!(!pace.try_take(later));
        assert!(!pace.is_full(later));
    }
}
