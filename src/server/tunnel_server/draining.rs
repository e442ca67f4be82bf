//! Draining: each session is ended as soon as nothing goes through it, so that its bastion finds another node.
//!
//! They go one after the other, since all of them come back somewhere.

use std::collections::HashSet;
use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep};

use super::counters::Counters;
use super::key_sessions::KeySessions;

/// How far apart two of them are ended: so many are at most 200 a second.
const APART: Duration = Duration::from_millis(5);

/// How often those are looked at that were not idle.
const LOOK: Duration = Duration::from_millis(100);

/// What their bastions are told.
const REASON: &str = "this node drains; connect again, and another one will take the tunnel";

/// Ends sessions until none is left: those through which nothing goes, and from the deadline on any. `places` is how
/// many connections may go through one.
pub(super) async fn end_sessions(
    sessions: &KeySessions,
    places: usize,
    deadline: Instant,
    counters: &Counters,
) {
    let mut ended = HashSet::new();
    loop {
        let mut there = sessions.all();
        if there.is_empty() {
            return;
        }
        there.retain(|session| !ended.contains(&session.id));
        // Not by their keys: those of one customer would all be away at once.
        there.shuffle(&mut rand::rng());
        for session in there {
            if !session.close_to_connections(places) && Instant::now() < deadline {
                continue;
            }
            session.close(REASON);
            ended.insert(session.id);
            counters.ended.drained.inc();
            let jitter = rand::rng().random_range(Duration::ZERO..APART);
            sleep(APART + jitter).await;
        }
        sleep(LOOK).await;
    }
}
