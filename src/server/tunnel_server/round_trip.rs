//! How long a byte takes to a bastion and back: measured by asking its ssh for a sign of life.
//!
//! The kernel's own figure would end at a proxy or a load balancer in between; the answer comes from
//! where the data comes from. It may have waited behind that data, so the shortest of some time is
//! what the path itself takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use russh::server::Handle;

use super::limits::{ROUND_TRIP_ASKED, ROUND_TRIP_REMEMBERED};

/// The round trip of one session.
#[derive(Debug, Default)]
pub(super) struct RoundTrip(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    asked: Option<Instant>,
    /// Whether an answer is still to come: one that never answers is not asked again.
    is_awaited: bool,
    /// The shortest since a moment, and the shortest of the time before it: paths change.
    present: Option<(Instant, Duration)>,
    before: Option<Duration>,
}

impl RoundTrip {
    /// The shortest lately; zero as long as nothing is known.
    pub(super) fn shortest(&self) -> Duration {
        let answers = self.answers();
        let present = answers.present.map(|(_, shortest)| shortest);
        let both = present.into_iter().chain(answers.before);
        both.min().unwrap_or_default()
    }

    /// Asks the bastion for a sign of life, if it is time to, and takes note of how long it took.
    pub(super) fn ask(self: &Arc<Self>, handle: &Handle) {
        let asked = Instant::now();
        if !self.is_due(asked) {
            return;
        }
        let (round_trip, handle) = (Arc::clone(self), handle.clone());
        tokio::spawn(async move {
            // It also ends when the session does.
            if handle.ping().await.is_ok() {
                round_trip.answered(asked, asked.elapsed());
            }
        });
    }

    /// Whether it is time to ask again; whoever is told so, asks.
    fn is_due(&self, now: Instant) -> bool {
        let mut answers = self.answers();
        let is_due = !answers.is_awaited
            && answers
                .asked
                .is_none_or(|at| now.saturating_duration_since(at) >= ROUND_TRIP_ASKED);
        if is_due {
            answers.asked = Some(now);
            answers.is_awaited = true;
        }
        is_due
    }

    pub(super) fn answered(&self, now: Instant, time: Duration) {
        let mut answers = self.answers();
        answers.is_awaited = false;
        match &mut answers.present {
            Some((began, shortest))
                if now.saturating_duration_since(*began) < ROUND_TRIP_REMEMBERED =>
            {
                *shortest = time.min(*shortest);
            }
            _ => {
                answers.before = answers.present.map(|(_, shortest)| shortest);
                answers.present = Some((now, time));
            }
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        // No change of it can be interrupted half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_that_waited_behind_data_does_not_make_the_path_longer() {
        let (round_trip, now) = (RoundTrip::default(), Instant::now());
        assert_eq!(round_trip.shortest(), Duration::ZERO);
        round_trip.answered(now, 100 * MS);
        round_trip.answered(now + MS, 340 * MS);
        assert_eq!(round_trip.shortest(), 100 * MS);
    }

    #[test]
    fn a_path_that_has_become_longer_is_known_after_a_while() {
        let (round_trip, now) = (RoundTrip::default(), Instant::now());
        round_trip.answered(now, 20 * MS);
        round_trip.answered(now + ROUND_TRIP_REMEMBERED, 120 * MS);
        assert_eq!(round_trip.shortest(), 20 * MS, "it may be a queue");
        round_trip.answered(now + 2 * ROUND_TRIP_REMEMBERED, 120 * MS);
        assert_eq!(round_trip.shortest(), 120 * MS);
    }

    #[test]
    fn it_is_asked_once_for_all_connections_of_a_session() {
        let (round_trip, now) = (RoundTrip::default(), Instant::now());
        assert!(round_trip.is_due(now));
        assert!(
            !round_trip.is_due(now + ROUND_TRIP_ASKED),
            "the answer is still to come"
        );
        round_trip.answered(now, MS);
        assert!(!round_trip.is_due(now + MS));
        assert!(round_trip.is_due(now + ROUND_TRIP_ASKED));
    }
}
