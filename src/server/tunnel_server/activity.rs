//! What each tunnel did since somebody last asked: for how long it was up, and what it carried.
//!
//! Counting a packet is one atomic addition. Time is the monotonic clock's, so that nobody who sets the
//! machine's clock makes a tunnel's time longer or shorter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::TunnelId;

/// What is carried through a tunnel, since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Carried {
    connections: AtomicU64,
    from_bastion: AtomicU64,
    to_bastion: AtomicU64,
}

impl Carried {
    pub(super) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_from_bastion(&self, bytes: u64) {
        self.from_bastion.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_to_bastion(&self, bytes: u64) {
        self.to_bastion.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one tunnel did within a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelActivity {
    pub tunnel: TunnelId,
    /// For how long it was up.
    pub up: Duration,
    /// How long ago, at the span's end, it first came up in it; all of the span if it was up before.
    pub watched: Duration,
    /// Connections to its port.
    pub connections: u64,
    /// Bytes that came from its bastion.
    pub bytes_from_bastion: u64,
    /// Bytes that went to its bastion.
    pub bytes_to_bastion: u64,
}

/// What all tunnels did within a span. One that was down and carried nothing is not among them.
#[derive(Debug)]
pub struct Span {
    /// When it ended.
    pub end: Instant,
    /// How long it was.
    pub elapsed: Duration,
    pub tunnels: Vec<TunnelActivity>,
}

/// Since the last span's end.
#[derive(Debug)]
pub struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    since: Instant,
    /// From then on the time stands still.
    stopped: Option<Instant>,
    tunnels: HashMap<TunnelId, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// When it came to be here.
    begun: Instant,
    up_since: Option<Instant>,
    /// Before that, within this span.
    up: Duration,
    carried: Arc<Carried>,
}

impl Default for Activity {
    fn default() -> Self {
        Activity(Mutex::new(State {
            since: Instant::now(),
            stopped: None,
            tunnels: HashMap::new(),
        }))
    }
}

impl Activity {
    /// A tunnel is up from now on. What is carried through it is to be counted there.
    pub(super) fn up(&self, tunnel: TunnelId) -> Arc<Carried> {
        let mut state = self.state();
        let now = state.now();
        let entry = state.tunnels.entry(tunnel).or_insert_with(|| Entry {
            begun: now,
            up_since: None,
            up: Duration::ZERO,
            carried: Arc::default(),
        });
        entry.up_since.get_or_insert(now);
        Arc::clone(&entry.carried)
    }

    /// It is down from now on; connections through it may be counted a while longer.
    pub(super) fn down(&self, tunnel: TunnelId) {
        let mut state = self.state();
        let now = state.now();
        if let Some(entry) = state.tunnels.get_mut(&tunnel)
            && let Some(since) = entry.up_since.take()
        {
            entry.up += now.saturating_duration_since(since);
        }
    }

    /// The server is about to end: that its tunnels then go down is no outage of theirs.
    pub fn stop_the_clock(&self) {
        self.state().stopped.get_or_insert_with(Instant::now);
    }

    /// What happened since the last call, or the start. It is in no other answer.
    pub fn take(&self) -> Span {
        let mut state = self.state();
        let now = state.now();
        let elapsed = now.saturating_duration_since(state.since);
        state.since = now;
        let mut tunnels = Vec::with_capacity(state.tunnels.len());
        state.tunnels.retain(|&tunnel, entry| {
            let is_in_use = entry.up_since.is_some() || Arc::strong_count(&entry.carried) > 1;
            tunnels.extend(entry.take(tunnel, now, elapsed));
            is_in_use
        });
        Span {
            end: now,
            elapsed,
            tunnels,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> Instant {
        self.stopped.unwrap_or_else(Instant::now)
    }
}

impl Entry {
    fn take(
        &mut self,
        tunnel: TunnelId,
        now: Instant,
        elapsed: Duration,
    ) -> Option<TunnelActivity> {
        if let Some(since) = &mut self.up_since {
            self.up += now.saturating_duration_since(*since);
            *since = now;
        }
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let activity = TunnelActivity {
            tunnel,
            up: std::mem::take(&mut self.up),
            watched: now.saturating_duration_since(self.begun).min(elapsed),
            connections: take(&self.carried.connections),
            bytes_from_bastion: take(&self.carried.from_bastion),
            bytes_to_bastion: take(&self.carried.to_bastion),
        };
        let carried_nothing = (activity.connections, activity.bytes_from_bastion) == (0, 0)
            && activity.bytes_to_bastion == 0;
        let was_idle = activity.up.is_zero() && carried_nothing;
        (!was_idle).then_some(activity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TunnelId = TunnelId(1);

    fn only(span: &Span) -> TunnelActivity {
        assert_eq!(span.tunnels.len(), 1, "{span:?}");
        span.tunnels[0]
    }

    #[test]
    fn a_tunnel_that_stays_up_was_up_for_all_of_each_span() {
        let activity = Activity::default();
        activity.up(ONE);
        activity.take();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(2));
            let span = activity.take();
            assert!(span.elapsed >= Duration::from_millis(2));
            assert_eq!(only(&span).up, span.elapsed);
            assert_eq!(only(&span).watched, span.elapsed);
        }
    }

    #[test]
    fn one_that_flaps_was_up_for_less_and_is_watched_from_its_first_time_on() {
        let activity = Activity::default();
        std::thread::sleep(Duration::from_millis(2));
        activity.up(ONE);
        activity.down(ONE);
        std::thread::sleep(Duration::from_millis(2));
        activity.up(ONE);
        let first = activity.take();
        let found = only(&first);
        assert!(
            found.up + Duration::from_millis(2) <= found.watched,
            "{found:?}"
        );
        assert!(found.watched + Duration::from_millis(2) <= first.elapsed);
        activity.down(ONE);
        activity.take();
        assert!(activity.take().tunnels.is_empty(), "it is down");
    }

    #[test]
    fn what_is_carried_is_told_once_also_when_the_tunnel_is_down_by_then() {
        let activity = Activity::default();
        let carried = activity.up(ONE);
        activity.down(ONE);
        activity.take();
        carried.count_connection();
        carried.count_from_bastion(5);
        carried.count_to_bastion(7);
        let found = only(&activity.take());
        let numbers = (
            found.connections,
            found.bytes_from_bastion,
            found.bytes_to_bastion,
        );
        assert_eq!(numbers, (1, 5, 7));
        assert_eq!(found.up, Duration::ZERO);
        carried.count_to_bastion(1);
        drop(carried);
        assert_eq!(only(&activity.take()).bytes_to_bastion, 1);
        assert!(activity.state().tunnels.is_empty(), "it is forgotten");
    }

    #[test]
    fn when_the_clock_is_stopped_going_down_costs_no_time() {
        let activity = Activity::default();
        let carried = activity.up(ONE);
        activity.take();
        std::thread::sleep(Duration::from_millis(2));
        activity.stop_the_clock();
        std::thread::sleep(Duration::from_millis(2));
        activity.down(ONE);
        carried.count_to_bastion(1);
        let span = activity.take();
        assert_eq!(only(&span).up, span.elapsed);
        assert_eq!(only(&span).bytes_to_bastion, 1);
        assert_eq!(activity.take().elapsed, Duration::ZERO);
    }
}
