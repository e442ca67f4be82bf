//! How much a bastion may send on a channel before the reader has taken it.
//!
//! The window decides two things: how fast one connection can be (a window per round trip), and
//! how much a reader that stands still leaves in this server's memory. So it starts small, grows
//! only where the sender was held up by it and not by the reader, and grows out of budgets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::limits::{WINDOW_AT_FIRST, WINDOW_BUDGET_PER_SESSION, WINDOW_COMMON, WINDOW_LARGEST};

/// A number of bytes that windows may grow by, shared by many channels.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    /// The budget of the whole server.
    pub(super) fn in_all(bytes: u64) -> Arc<Self> {
        Arc::new(Budget(AtomicU64::new(bytes)))
    }

    /// The budget of one session.
    pub(super) fn per_session() -> Arc<Self> {
        Arc::new(Budget(AtomicU64::new(WINDOW_BUDGET_PER_SESSION)))
    }

    fn take(&self, bytes: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one channel has taken out of the budgets; given back when dropped.
#[derive(Debug)]
struct Lease {
    session: Arc<Budget>,
    in_all: Arc<Budget>,
    from_session: u64,
    from_all: u64,
}

impl Lease {
    /// Takes what it needs to go from one window to a larger one, or nothing.
    fn extend(&mut self, from: u32, to: u32) -> bool {
        let growth = u64::from(to - from);
        let above_common = u64::from(to.saturating_sub(from.max(WINDOW_COMMON)));
        if !self.session.take(above_common) {
            return false;
        }
        if !self.in_all.take(growth) {
            self.session.give_back(above_common);
            return false;
        }
        self.from_session += above_common;
        self.from_all += growth;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.session.give_back(self.from_session);
        self.in_all.give_back(self.from_all);
    }
}

/// The receive window of one channel. Offsets count the channel's bytes from its beginning.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    lease: Lease,
    /// How many bytes may be under way or waiting for the reader.
    size: u32,
    /// The offset up to which the peer may send.
    granted: u64,
    received: u64,
    consumed: u64,
    /// Former values of `granted` that the peer has not reached yet.
    edges: VecDeque<u64>,
}

impl ReceiveWindow {
    /// The window of a channel that was opened with [`WINDOW_AT_FIRST`].
    pub(super) fn new(session: Arc<Budget>, in_all: Arc<Budget>) -> Self {
        ReceiveWindow {
            lease: Lease {
                session,
                in_all,
                from_session: 0,
                from_all: 0,
            },
            size: WINDOW_AT_FIRST,
            granted: u64::from(WINDOW_AT_FIRST),
            received: 0,
            consumed: 0,
            edges: VecDeque::from([u64::from(WINDOW_AT_FIRST)]),
        }
    }

    /// Takes note of a packet, and enlarges the window if it was the window that cut it off.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        while let Some(&edge) = self.edges.front()
            && edge <= self.received
        {
            self.edges.pop_front();
            if edge == self.received && self.reader_keeps_up() {
                self.grow();
            }
        }
    }

    /// Takes note of bytes that the reader has taken.
    pub(super) fn consumed(&mut self, bytes: usize) {
        self.consumed += bytes as u64;
    }

    /// What the peer should be granted now, if it is worth a message.
    pub(super) fn grant(&mut self) -> Option<u32> {
        let due = (self.consumed + u64::from(self.size)).saturating_sub(self.granted);
        let due = u32::try_from(due).ok()?;
        if due < self.size / 8 {
            return None;
        }
        self.granted += u64::from(due);
        self.edges.push_back(self.granted);
        Some(due)
    }

    fn reader_keeps_up(&self) -> bool {
        self.received - self.consumed <= u64::from(self.size / 4)
    }

    fn grow(&mut self) {
        let larger = if self.size < WINDOW_COMMON {
            WINDOW_COMMON
        } else {
            self.size.saturating_mul(2).min(WINDOW_LARGEST)
        };
        if larger > self.size && self.lease.extend(self.size, larger) {
            self.size = larger;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_ALL: u64 = 1 << 30;

    fn window() -> ReceiveWindow {
        ReceiveWindow::new(Budget::per_session(), Budget::in_all(IN_ALL))
    }

    /// A sender that fills the window and a reader that takes all of it, `rounds` times.
    fn fill(window: &mut ReceiveWindow, rounds: usize) {
        for _ in 0..rounds {
            let room = (window.granted - window.received) as usize;
            let mut left = room;
            while left > 0 {
                let packet = left.min(32 << 10);
                window.received(packet);
                window.consumed(packet);
                left -= packet;
            }
            window.grant();
        }
    }

    #[test]
    fn a_sender_held_up_by_the_window_gets_the_largest() {
        let mut window = window();
        fill(&mut window, 10);
        assert_eq!(window.size, WINDOW_LARGEST);
    }

    #[test]
    fn a_sender_with_little_to_say_keeps_the_first_window() {
        let mut window = window();
        for _ in 0..10_000 {
            window.received(1_000);
            window.consumed(1_000);
            window.grant();
        }
        assert_eq!(window.size, WINDOW_AT_FIRST);
    }

    #[test]
    fn full_packets_that_are_not_cut_off_do_not_enlarge_the_window() {
        let mut window = window();
        for _ in 0..1_000 {
            window.received(32 << 10);
            window.consumed(32 << 10);
            window.grant();
        }
        assert_eq!(window.size, WINDOW_AT_FIRST);
    }

    #[test]
    fn nothing_is_granted_to_the_sender_of_a_reader_that_stands_still() {
        let mut window = window();
        window.received(WINDOW_AT_FIRST as usize);
        assert_eq!(window.grant(), None);
        assert_eq!(window.size, WINDOW_AT_FIRST);
    }

    #[test]
    fn never_more_than_the_window_is_under_way() {
        let mut window = window();
        for _ in 0..20 {
            fill(&mut window, 1);
            assert!(window.granted - window.consumed <= u64::from(window.size));
        }
    }

    #[test]
    fn the_windows_of_a_session_stay_within_its_budget() {
        let (session, in_all) = (Budget::per_session(), Budget::in_all(IN_ALL));
        let mut windows: Vec<_> = (0..20)
            .map(|_| ReceiveWindow::new(Arc::clone(&session), Arc::clone(&in_all)))
            .collect();
        for window in &mut windows {
            fill(window, 10);
        }
        let above_common: u64 = windows
            .iter()
            .map(|w| u64::from(w.size - WINDOW_COMMON))
            .sum();
        assert!(above_common <= WINDOW_BUDGET_PER_SESSION);
        assert!(
            windows.iter().all(|w| w.size >= WINDOW_COMMON),
            "the budget of a session is for what exceeds the common window"
        );

        drop(windows);
        assert_eq!(session.0.load(Ordering::Relaxed), WINDOW_BUDGET_PER_SESSION);
        assert_eq!(in_all.0.load(Ordering::Relaxed), IN_ALL);
    }

    #[test]
    fn without_a_budget_a_window_stays_as_it_is() {
        let none = Arc::new(Budget(AtomicU64::new(0)));
        let mut window = ReceiveWindow::new(Arc::clone(&none), none);
        fill(&mut window, 10);
        assert_eq!(window.size, WINDOW_AT_FIRST);
    }
}
