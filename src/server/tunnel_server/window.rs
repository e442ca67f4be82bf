//! How much a bastion may send on a channel before the reader has taken it.
//!
//! The window decides three things. How fast one connection can be: a window per round trip. How
//! much a reader that stands still leaves in this server's memory. And how much the bastion's ssh
//! reads ahead of the line: OpenSSH keeps as much of the database's answer as the window allows, in
//! a buffer that it moves as a whole again and again, and crawls when that buffer is large. So the
//! window follows the path: it starts small, grows only where the sender was held up by it and not
//! by the reader, out of budgets, to what is under way in one round trip and a little more; and it shrinks
//! again when less is under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::limits::{WINDOW_AT_FIRST, WINDOW_BUDGET_PER_SESSION, WINDOW_COMMON, WINDOW_LARGEST};
use super::round_trip::RoundTrip;

/// The least that a window lets come beyond what is under way.
const MARGIN_LEAST: u64 = 1 << 20;

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
    /// The window that it is for.
    size: u32,
}

impl Lease {
    fn new(session: Arc<Budget>, in_all: Arc<Budget>) -> Self {
        Lease {
            session,
            in_all,
            size: WINDOW_AT_FIRST,
        }
    }

    /// What a window of this size takes out of the session's budget, and out of that of all.
    fn price(size: u32) -> (u64, u64) {
        (
            size.saturating_sub(WINDOW_COMMON).into(),
            size.saturating_sub(WINDOW_AT_FIRST).into(),
        )
    }

    /// Takes what a larger window needs, or nothing.
    fn extend(&mut self, size: u32) -> bool {
        let (held, held_of_all) = Self::price(self.size);
        let (session, in_all) = Self::price(size);
        if !self.session.take(session - held) {
            return false;
        }
        if !self.in_all.take(in_all - held_of_all) {
            self.session.give_back(session - held);
            return false;
        }
        self.size = size;
        true
    }

    /// Gives back what a smaller window does not need.
    fn shorten(&mut self, size: u32) {
        let (held, held_of_all) = Self::price(self.size);
        let (session, in_all) = Self::price(size);
        self.session.give_back(held - session);
        self.in_all.give_back(held_of_all - in_all);
        self.size = size;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shorten(WINDOW_AT_FIRST);
    }
}

/// How much of a channel is under way: what has arrived in the last round trip.
#[derive(Debug)]
struct UnderWay {
    /// How much had arrived when, a few for each round trip, the oldest first.
    marks: VecDeque<(Instant, u64)>,
    /// The most in one round trip, lately, and when that was.
    most: (Instant, u64),
}

impl UnderWay {
    /// How many marks there are in a round trip.
    const MARKS: u32 = 8;
    /// For how many round trips the most of them counts: a pause in the middle of a result is no
    /// reason to begin anew.
    const REMEMBERED: u32 = 8;
    /// Over less time than this a rate means nothing: bytes come in reads.
    const SHORTEST: Duration = Duration::from_millis(4);

    fn new(now: Instant) -> Self {
        UnderWay {
            marks: VecDeque::new(),
            most: (now, 0),
        }
    }

    /// Takes note of how much has arrived in all; says how much of it is under way in a round trip
    /// now.
    fn measure(&mut self, now: Instant, received: u64, round_trip: Duration) -> u64 {
        let span = round_trip.max(Self::SHORTEST);
        let since = |at: Instant| now.saturating_duration_since(at);
        if self
            .marks
            .back()
            .is_none_or(|&(at, _)| since(at) >= span / Self::MARKS)
        {
            self.marks.push_back((now, received));
        }
        // The first mark that stays is the last one from before the span.
        while self.marks.get(1).is_some_and(|&(at, _)| since(at) >= span) {
            self.marks.pop_front();
        }
        let before = self.marks.front().map_or(received, |&(_, bytes)| bytes);
        let share = round_trip.as_secs_f64() / span.as_secs_f64();
        let under_way = ((received - before) as f64 * share) as u64;
        if under_way >= self.most.1 || since(self.most.0) >= span * Self::REMEMBERED {
            self.most = (now, under_way);
        }
        under_way
    }
}

/// The receive window of one channel. Offsets count the channel's bytes from its beginning.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    lease: Lease,
    round_trip: Arc<RoundTrip>,
    under_way: UnderWay,
    /// How many bytes may be under way or waiting for the reader.
    size: u32,
    /// When it last grew.
    grown: Instant,
    /// How much was under way when as much again was last let come.
    doubled_at: u64,
    /// The offset up to which the peer may send.
    granted: u64,
    received: u64,
    consumed: u64,
    /// Former values of `granted` that the peer has not reached yet.
    edges: VecDeque<u64>,
    /// Whether the peer has stopped at one of them since the last grant was due.
    cut: bool,
}

impl ReceiveWindow {
    /// The window of a channel that was opened with [`WINDOW_AT_FIRST`].
    pub(super) fn new(
        session: Arc<Budget>,
        in_all: Arc<Budget>,
        round_trip: Arc<RoundTrip>,
    ) -> Self {
        let now = Instant::now();
        ReceiveWindow {
            lease: Lease::new(session, in_all),
            round_trip,
            under_way: UnderWay::new(now),
            grown: now,
            doubled_at: 0,
            size: WINDOW_AT_FIRST,
            granted: u64::from(WINDOW_AT_FIRST),
            received: 0,
            consumed: 0,
            edges: VecDeque::from([u64::from(WINDOW_AT_FIRST)]),
            cut: false,
        }
    }

    /// Takes note of a packet, and of whether it was the window that cut it off.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        while let Some(&edge) = self.edges.front()
            && edge <= self.received
        {
            self.edges.pop_front();
            self.cut |= edge == self.received;
        }
    }

    /// Takes note of bytes that the reader has taken.
    pub(super) fn consumed(&mut self, bytes: usize) {
        self.consumed += bytes as u64;
    }

    /// What the peer should be granted now, if it is worth a message. To be asked whenever the reader
    /// was given what there is, so that a reader who falls behind can be told from one who keeps up.
    pub(super) fn grant(&mut self, now: Instant) -> Option<u32> {
        self.follow_the_path(now);
        let due = (self.consumed + u64::from(self.size)).saturating_sub(self.granted);
        let due = u32::try_from(due).ok()?;
        if due < self.size / 8 {
            return None;
        }
        self.granted += u64::from(due);
        self.edges.push_back(self.granted);
        Some(due)
    }

    fn follow_the_path(&mut self, now: Instant) {
        let round_trip = self.round_trip.shortest();
        let span = round_trip.max(UnderWay::SHORTEST);
        let under_way = self.under_way.measure(now, self.received, round_trip);
        // What the last growth has let come arrives a round trip later.
        let since_growth = now.saturating_duration_since(self.grown);
        if std::mem::take(&mut self.cut) && since_growth >= round_trip && self.reader_keeps_up() {
            // While each step brings more, as much again is taken for granted: else a long path would
            // be slow for many round trips. Where it does not, the line is the bound, although the sender
            // looks cut off all the same: what the line does not carry waits in its ssh.
            let brings_more = under_way >= self.doubled_at + self.doubled_at / 2;
            let mut size = enough(under_way);
            if brings_more {
                self.doubled_at = under_way;
                size = size.max(within_bounds(under_way * 2));
            }
            self.grow(size, now);
        }
        let enough = enough(self.under_way.most.1);
        if since_growth >= span * 3 && self.size > enough + enough / 8 {
            self.doubled_at = self.under_way.most.1;
            self.size = enough;
        }
        if self.lease.size > self.size && self.granted - self.consumed <= u64::from(self.size) {
            self.lease.shorten(self.size);
        }
    }

    fn reader_keeps_up(&self) -> bool {
        self.received - self.consumed <= u64::from(self.size / 4)
    }

    fn grow(&mut self, size: u32, now: Instant) {
        if size > self.size && (size <= self.lease.size || self.lease.extend(size)) {
            self.size = size;
            self.grown = now;
        }
    }
}

/// The window for so much under way in a round trip: that and a little more, so that it can be seen
/// whether the line carries more.
fn enough(under_way: u64) -> u32 {
    within_bounds(under_way + (under_way / 8).clamp(MARGIN_LEAST, WINDOW_COMMON.into()))
}

fn within_bounds(size: u64) -> u32 {
    // Odd, as the bounds are: `limits` says why.
    u32::try_from(size)
        .unwrap_or(WINDOW_LARGEST)
        .clamp(WINDOW_COMMON, WINDOW_LARGEST)
        | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_ALL: u64 = 1 << 30;
    const MS: Duration = Duration::from_millis(1);
    const PACKET: usize = 32 << 10;

    fn over(round_trip: Duration) -> ReceiveWindow {
        let measured = RoundTrip::default();
        measured.answered(Instant::now(), round_trip);
        ReceiveWindow::new(
            Budget::per_session(),
            Budget::in_all(IN_ALL),
            Arc::new(measured),
        )
    }

    /// A bastion at the far end of a path: it sends what it may, but not more than `line` bytes in a
    /// round trip.
    struct Bastion {
        round_trip: Duration,
        line: usize,
        now: Instant,
    }

    impl Bastion {
        fn near() -> Self {
            Bastion::at(MS / 10, 300_000)
        }

        fn at(round_trip: Duration, line: usize) -> Self {
            Bastion {
                round_trip,
                line,
                now: Instant::now(),
            }
        }

        /// Sends for so many round trips to a reader who takes everything.
        fn send(&mut self, window: &mut ReceiveWindow, round_trips: usize) {
            for _ in 0..round_trips {
                let mut left = ((window.granted - window.received) as usize).min(self.line);
                while left > 0 {
                    let packet = left.min(PACKET);
                    window.received(packet);
                    window.consumed(packet);
                    left -= packet;
                }
                window.grant(self.now);
                self.now += self.round_trip;
            }
        }
    }

    #[test]
    fn a_near_bastion_has_never_more_than_the_common_window_and_what_is_under_way() {
        let mut window = over(MS / 10);
        Bastion::near().send(&mut window, 1_000);
        assert!(window.size >= WINDOW_COMMON, "{}", window.size);
        assert!(window.size <= WINDOW_COMMON + 700_000, "{}", window.size);
    }

    #[test]
    fn on_a_long_path_the_window_grows_to_the_largest_within_a_few_round_trips() {
        let mut window = over(100 * MS);
        let mut bastion = Bastion::at(100 * MS, usize::MAX);
        bastion.send(&mut window, 6);
        assert_eq!(window.size, WINDOW_LARGEST);
    }

    #[test]
    fn a_window_is_no_larger_than_what_the_line_carries_and_the_common_window() {
        let mut window = over(100 * MS);
        let line = 5 << 20;
        Bastion::at(100 * MS, line).send(&mut window, 40);
        assert!(window.size as usize >= line, "{}", window.size);
        let largest = (line + WINDOW_COMMON as usize) * 5 / 4;
        assert!(window.size as usize <= largest, "{}", window.size);
    }

    #[test]
    fn a_sender_that_always_looks_cut_off_is_not_given_what_the_line_does_not_carry() {
        let (mut window, line) = (over(100 * MS), 3 << 20);
        let mut bastion = Bastion::at(100 * MS, line);
        let largest = line + WINDOW_COMMON as usize + line / 4;
        for round_trip in 0..100 {
            // Its ssh has stopped at the window's edge, although the line carries no more.
            window.edges.push_front(window.received + PACKET as u64);
            bastion.send(&mut window, 1);
            let was_tried_once = round_trip >= 10;
            let is_small = window.size as usize <= largest;
            assert!(is_small || !was_tried_once, "{}", window.size);
        }
        // The line has become better, and is used.
        bastion.line = 8 << 20;
        bastion.send(&mut window, 30);
        assert!(window.size as usize >= 8 << 20, "{}", window.size);
    }

    #[test]
    fn a_window_shrinks_again_when_less_is_under_way_and_gives_back_its_budget() {
        let mut window = over(100 * MS);
        let mut bastion = Bastion::at(100 * MS, usize::MAX);
        bastion.send(&mut window, 10);
        assert_eq!(window.size, WINDOW_LARGEST);
        bastion.line = 1 << 20;
        bastion.send(&mut window, 50);
        assert!(window.size < 4 << 20, "{}", window.size);
        let left = window.lease.session.0.load(Ordering::Relaxed);
        assert!(left > WINDOW_BUDGET_PER_SESSION - (4 << 20), "{left}");
    }

    #[test]
    fn a_sender_with_little_to_say_keeps_the_first_window() {
        let mut window = over(MS);
        let now = Instant::now();
        for i in 0..10_000 {
            window.received(1_000);
            window.consumed(1_000);
            window.grant(now + i * MS);
        }
        assert_eq!(window.size, WINDOW_AT_FIRST);
    }

    #[test]
    fn full_packets_that_are_not_cut_off_do_not_enlarge_the_window() {
        let mut window = over(MS);
        let now = Instant::now();
        for i in 0..1_000 {
            window.received(PACKET);
            window.consumed(PACKET);
            window.grant(now + i * MS);
        }
        assert_eq!(window.size, WINDOW_AT_FIRST);
    }

    #[test]
    fn nothing_is_granted_to_the_sender_of_a_reader_that_stands_still() {
        let mut window = over(100 * MS);
        window.received(WINDOW_AT_FIRST as usize);
        let now = Instant::now();
        assert_eq!(window.grant(now), None);
        window.consumed(WINDOW_AT_FIRST as usize);
        assert_eq!(window.grant(now), Some(WINDOW_AT_FIRST));
        assert_eq!(
            window.size, WINDOW_AT_FIRST,
            "it was the reader, not the window"
        );
    }

    #[test]
    fn never_more_than_the_window_is_granted() {
        let mut window = over(100 * MS);
        let mut bastion = Bastion::at(100 * MS, usize::MAX);
        for _ in 0..20 {
            bastion.send(&mut window, 1);
            assert!(window.granted - window.consumed <= u64::from(window.size));
        }
    }

    #[test]
    fn the_windows_of_a_session_stay_within_its_budget() {
        let (session, in_all) = (Budget::per_session(), Budget::in_all(IN_ALL));
        let round_trip = Arc::new(RoundTrip::default());
        round_trip.answered(Instant::now(), 100 * MS);
        let mut windows: Vec<_> = (0..20)
            .map(|_| {
                ReceiveWindow::new(
                    Arc::clone(&session),
                    Arc::clone(&in_all),
                    Arc::clone(&round_trip),
                )
            })
            .collect();
        for window in &mut windows {
            Bastion::at(100 * MS, usize::MAX).send(window, 10);
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
        let mut window = ReceiveWindow::new(Arc::clone(&none), none, Arc::default());
        Bastion::near().send(&mut window, 10);
        assert_eq!(window.size, WINDOW_AT_FIRST);
    }
}
