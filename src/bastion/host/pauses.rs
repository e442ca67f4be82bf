//! The pauses between looks at what is there within a moment, or takes long.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(5);

/// Each is twice as long as the one before, up to the longest.
pub struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub fn up_to(longest: Duration) -> Self {
        Pauses {
            next: FIRST,
            longest,
        }
    }

    pub fn next(&mut self) -> Duration {
        let next = self.next.min(self.longest);
        self.next = next * 2;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut pauses = Pauses::up_to(Duration::from_millis(30));
        let millis: Vec<u128> = (0..5).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(millis, [5, 10, 20, 30, 30]);
    }
}
