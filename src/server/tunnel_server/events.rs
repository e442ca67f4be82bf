//! What happened to tunnels' sessions, until somebody has taken note of it.
//!
//! There is one entry for each tunnel, and of each kind of event the last one. So it cannot grow
//! with what a session does, and a tunnel that comes and goes without end pushes out nothing of
//! another one, nor is it served before it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem::discriminant;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::protocol::TunnelId;

/// What happened to a tunnel's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// A session listens on the tunnel's port.
    Up(TunnelId),
    /// The session that held the port is gone.
    Down(TunnelId),
    /// A new session took the port from a silent one, or from one whose key it replaces; `Up` holds
    /// throughout.
    TakenOver(TunnelId),
    /// A new session of the same key was refused, since the holder is alive.
    RefusedHeld(TunnelId),
}

impl SessionEvent {
    pub fn tunnel(self) -> TunnelId {
        let (Self::Up(tunnel)
        | Self::Down(tunnel)
        | Self::TakenOver(tunnel)
        | Self::RefusedHeld(tunnel)) = self;
        tunnel
    }
}

/// An event with what belongs to it.
#[derive(Debug, Clone)]
pub struct SessionNote {
    /// What happened.
    pub event: SessionEvent,
    /// When; it may be noted much later.
    pub at: jiff::Timestamp,
    /// The key of the session that got the port, in the form of
    /// [`KeyAuthority::grants`](super::KeyAuthority::grants).
    pub holder_key: Option<String>,
}

/// The events that nobody has taken note of. One reader at a time is meant to wait for them.
#[derive(Debug, Default)]
pub struct SessionEvents {
    pending: Mutex<Pending>,
    arrived: Notify,
    /// Held by whoever notes a batch.
    turn: tokio::sync::Mutex<()>,
    /// Told with each event, whether or not somebody notes it.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Pending {
    /// The tunnels that have an entry, the one that waits longest first.
    order: VecDeque<TunnelId>,
    notes: HashMap<TunnelId, Vec<SessionNote>>,
    /// Those that were said to be down before their sessions came to their end.
    ended: HashSet<TunnelId>,
}

impl SessionEvents {
    /// Adds an event. One of the same kind that is still pending gives way: what counts is the
    /// present state, that there was a change before it, and that somebody was refused.
    pub(in crate::server) fn announce(&self, event: SessionEvent, holder_key: Option<&str>) {
        let note = SessionNote {
            event,
            at: jiff::Timestamp::now(),
            holder_key: holder_key.map(str::to_owned),
        };
        let mut guard = self.pending();
        let Pending {
            order,
            notes,
            ended,
        } = &mut *guard;
        if matches!(event, SessionEvent::Down(tunnel) if ended.contains(&tunnel)) {
            return;
        }
        let notes = notes.entry(event.tunnel()).or_insert_with(|| {
            order.push_back(event.tunnel());
            Vec::new()
        });
        notes.retain(|earlier| !is_same_kind(earlier, &note));
        notes.push(note);
        drop(guard);
        self.arrived.notify_one();
        self.changed.send_replace(());
    }

    /// Says that these tunnels are down, whose sessions end with the process, and not once more when a session comes to that.
    pub fn end(&self, tunnels: Vec<TunnelId>) {
        for tunnel in &tunnels {
            self.announce(SessionEvent::Down(*tunnel), None);
        }
        self.pending().ended.extend(tunnels);
    }

    /// Tells when something happens, for those who look at what is and not at what happened.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until something is pending.
    pub async fn wait(&self) {
        while self.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.tunnels() == 0
    }

    /// Of how many tunnels something is pending.
    pub fn tunnels(&self) -> usize {
        self.pending().order.len()
    }

    /// How long the oldest of what is pending has waited.
    pub fn wait_of_oldest(&self) -> Duration {
        let pending = self.pending();
        let oldest = pending
            .order
            .front()
            .and_then(|tunnel| pending.notes.get(tunnel)?.first());
        let waited = oldest.map(|note| jiff::Timestamp::now().duration_since(note.at));
        waited
            .and_then(|waited| waited.try_into().ok())
            .unwrap_or_default()
    }

    /// What is pending of at most so many tunnels, those first that wait longest. It is pending
    /// again if the batch is dropped without [`Batch::noted`].
    pub fn take(&self, tunnels: usize) -> Batch<'_> {
        let mut guard = self.pending();
        let Pending { order, notes, .. } = &mut *guard;
        let tunnels = tunnels.min(order.len());
        let taken = order
            .drain(..tunnels)
            .filter_map(|tunnel| notes.remove(&tunnel))
            .flatten()
            .collect();
        Batch {
            events: self,
            notes: taken,
        }
    }

    /// Waits until nobody else notes a batch, and is the one who does while the guard lives.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn give_back(&self, notes: Vec<SessionNote>) {
        if notes.is_empty() {
            return;
        }
        let mut guard = self.pending();
        let Pending {
            order, notes: kept, ..
        } = &mut *guard;
        // Backwards, so that each stands before what has happened since.
        for note in notes.into_iter().rev() {
            let tunnel = note.event.tunnel();
            let later = kept.entry(tunnel).or_insert_with(|| {
                order.push_front(tunnel);
                Vec::new()
            });
            if !later.iter().any(|later| is_same_kind(later, &note)) {
                later.insert(0, note);
            }
        }
        drop(guard);
        self.arrived.notify_one();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing that is done under this lock can panic.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same_kind(one: &SessionNote, other: &SessionNote) -> bool {
    discriminant(&one.event) == discriminant(&other.event)
}

/// Events that are being noted: those of one tunnel stand together, in their order.
#[derive(Debug)]
pub struct Batch<'a> {
    events: &'a SessionEvents,
    notes: Vec<SessionNote>,
}

impl Batch<'_> {
    /// What happened.
    pub fn notes(&self) -> &[SessionNote] {
        &self.notes
    }

    /// They are noted for good; returns them.
    pub fn noted(mut self) -> Vec<SessionNote> {
        std::mem::take(&mut self.notes)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.events.give_back(std::mem::take(&mut self.notes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SessionEvent::{Down, RefusedHeld, TakenOver, Up};

    fn announced(all: &[SessionEvent]) -> SessionEvents {
        let events = SessionEvents::default();
        announce(&events, all);
        events
    }

    const ONE: TunnelId = TunnelId(1);
    const TWO: TunnelId = TunnelId(2);
    const THREE: TunnelId = TunnelId(3);

    fn announce(events: &SessionEvents, all: &[SessionEvent]) {
        for event in all {
            events.announce(*event, None);
        }
    }

    fn of(batch: &Batch<'_>) -> Vec<SessionEvent> {
        batch.notes().iter().map(|note| note.event).collect()
    }

    fn rest(events: &SessionEvents) -> Vec<SessionEvent> {
        of(&events.take(usize::MAX))
    }

    #[test]
    fn how_long_the_oldest_has_waited_is_known_while_it_is_pending() {
        let events = SessionEvents::default();
        assert_eq!(events.wait_of_oldest(), Duration::ZERO);
        events.announce(SessionEvent::Up(TunnelId(1)), None);
        std::thread::sleep(Duration::from_millis(5));
        events.announce(SessionEvent::Up(TunnelId(2)), None);
        assert!(events.wait_of_oldest() >= Duration::from_millis(5));
        events.take(2).noted();
        assert_eq!(events.wait_of_oldest(), Duration::ZERO);
    }

    #[test]
    fn a_session_that_flaps_its_port_pushes_out_nothing_of_another_tunnel() {
        let events = announced(&[Up(TWO)]);
        for _ in 0..33_000 {
            announce(&events, &[Up(ONE), Down(ONE)]);
        }
        announce(&events, &[Down(TWO), Up(ONE)]);
        assert_eq!(rest(&events), [Up(TWO), Down(TWO), Down(ONE), Up(ONE)]);
    }

    #[test]
    fn a_session_that_flaps_its_port_is_not_served_before_others() {
        let events = announced(&[Up(ONE), Up(TWO), Up(THREE)]);
        assert_eq!(of(&events.take(1)), [Up(ONE)]);
        events.take(1).noted();
        announce(&events, &[Down(ONE), Up(ONE)]);
        assert_eq!(rest(&events), [Up(TWO), Up(THREE), Down(ONE), Up(ONE)]);
    }

    #[test]
    fn what_is_merged_keeps_takeovers_refusals_and_the_last_state() {
        for (happened, seen) in [
            (vec![Up(ONE), Down(ONE)], vec![Up(ONE), Down(ONE)]),
            (vec![Up(ONE), Down(ONE), Up(ONE)], vec![Down(ONE), Up(ONE)]),
            (
                vec![Up(ONE), TakenOver(ONE), TakenOver(ONE), Down(ONE)],
                vec![Up(ONE), TakenOver(ONE), Down(ONE)],
            ),
            (
                vec![TakenOver(ONE), Down(ONE), Up(ONE), Down(ONE), Up(ONE)],
                vec![TakenOver(ONE), Down(ONE), Up(ONE)],
            ),
            (
                vec![
                    Up(ONE),
                    RefusedHeld(ONE),
                    RefusedHeld(ONE),
                    RefusedHeld(ONE),
                ],
                vec![Up(ONE), RefusedHeld(ONE)],
            ),
        ] {
            assert_eq!(rest(&announced(&happened)), seen, "{happened:?}");
        }
    }

    #[test]
    fn what_could_not_be_written_is_pending_again_before_what_came_since() {
        let events = announced(&[Up(ONE), TakenOver(ONE), Up(TWO), Up(THREE)]);
        let failed = events.take(2);
        announce(&events, &[Down(ONE), Up(ONE), Down(THREE)]);
        drop(failed);
        assert_eq!(
            rest(&events),
            [
                Up(TWO),
                Up(THREE),
                Down(THREE),
                TakenOver(ONE),
                Down(ONE),
                Up(ONE)
            ]
        );
    }

    #[tokio::test]
    async fn whoever_waits_is_told_and_what_is_noted_is_gone() {
        let events = announced(&[Up(ONE)]);
        events.wait().await;
        assert_eq!(events.take(10).noted().len(), 1);
        assert!(events.is_empty());
        tokio::join!(events.wait(), async { announce(&events, &[Down(ONE)]) });
        assert_eq!(rest(&events), [Down(ONE)]);
    }
}
