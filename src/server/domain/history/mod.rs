//! How a tunnel did on its last days: up, down, or not known, and what it carried.
//!
//! Not knowing is told apart from being down: of the time in which this server did not run nothing is known,
//! and before its first connection a tunnel is not down but not there yet.

mod slots;
mod tally;

use std::collections::HashMap;

pub use slots::{DAY_MS, Day, SLOTS};
pub use tally::Tally;

use self::slots::{Slots, slot_of};
use super::control_plane::ControlPlane;
use super::error::Result;
use crate::protocol::TunnelId;
use crate::server::store::TunnelDay;

/// How many days are kept, today among them.
pub const KEPT_DAYS: i32 = 35;

/// How many days are shown, today among them.
pub const SHOWN_DAYS: i32 = 30;

/// What is known of five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The tunnel was up throughout.
    Up,
    /// It was down, for all of them or a part.
    Down,
    /// The server did not run.
    Unknown,
    /// It was before the first connection, as far as that is kept.
    NotYet,
    /// They are not over.
    ToCome,
}

/// What was measured, of a day or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Milliseconds of which is known whether the tunnel was up.
    pub known_ms: i64,
    /// Those in which it was.
    pub up_ms: i64,
    /// Connections to its port.
    pub connections: i64,
    /// Bytes that came from its bastion.
    pub bytes_from_bastion: i64,
    /// Bytes that went to its bastion.
    pub bytes_to_bastion: i64,
}

/// A day of UTC.
#[derive(Debug, Clone)]
pub struct DayHistory {
    pub day: Day,
    /// What was measured.
    pub figures: Figures,
    /// What is known of each five minutes.
    pub states: [State; SLOTS],
}

/// The days that are shown, the oldest first and today last.
#[derive(Debug, Clone)]
pub struct History {
    /// The days; always [`SHOWN_DAYS`].
    pub days: Vec<DayHistory>,
}

impl Figures {
    /// The share of the known time in which the tunnel was up, in hundredths of a percent. It is rounded down:
    /// all of it is only what had no gap at all.
    pub fn share(&self) -> Option<u16> {
        if self.known_ms <= 0 {
            return None;
        }
        let share = i128::from(self.up_ms) * 10_000 / i128::from(self.known_ms);
        u16::try_from(share.clamp(0, 10_000)).ok()
    }

    /// Whole seconds in which it was up.
    pub fn up_seconds(&self) -> i64 {
        self.up_ms / 1000
    }

    /// Whole seconds of which is known whether it was up.
    pub fn known_seconds(&self) -> i64 {
        self.known_ms / 1000
    }

    fn add(&mut self, other: &Figures) {
        self.known_ms += other.known_ms;
        self.up_ms += other.up_ms;
        self.connections = self.connections.saturating_add(other.connections);
        self.bytes_from_bastion = self
            .bytes_from_bastion
            .saturating_add(other.bytes_from_bastion);
        self.bytes_to_bastion = self.bytes_to_bastion.saturating_add(other.bytes_to_bastion);
    }
}

impl DayHistory {
    /// The times in which it was down, to five minutes: from a slot to before another.
    pub fn down_times(&self) -> Vec<(usize, usize)> {
        let mut times: Vec<(usize, usize)> = Vec::new();
        for slot in (0..SLOTS).filter(|slot| self.states[*slot] == State::Down) {
            match times.last_mut() {
                Some((_, until)) if *until == slot => *until += 1,
                _ => times.push((slot, slot + 1)),
            }
        }
        times
    }

    /// Milliseconds of the day, as far as it is over, of which nothing is known though there is a history.
    pub fn unknown_ms(&self) -> i64 {
        let unknown = self.states.iter().filter(|state| **state == State::Unknown);
        unknown.count() as i64 * (DAY_MS / SLOTS as i64)
    }
}

impl History {
    /// The history of one tunnel from what is kept of it.
    fn of(rows: &[TunnelDay], now: jiff::Timestamp) -> Self {
        let begin = rows.iter().filter_map(first_slot).min();
        let (today, _) = slot_of(now);
        let days = (0..SHOWN_DAYS).rev().map(|ago| {
            let day = today.before(ago);
            let row = rows.iter().find(|row| row.day == day.0);
            day_history(day, row, begin, now)
        });
        History {
            days: days.collect(),
        }
    }

    /// What was measured on all the days together.
    pub fn total(&self) -> Figures {
        let mut total = Figures::default();
        for day in &self.days {
            total.add(&day.figures);
        }
        total
    }

    /// Whether there is anything to show.
    pub fn is_empty(&self) -> bool {
        self.days
            .iter()
            .all(|day| day.figures == Figures::default())
    }
}

impl ControlPlane {
    /// How each of these tunnels did.
    pub async fn histories(&self, tunnels: &[TunnelId]) -> Result<HashMap<TunnelId, History>> {
        let now = jiff::Timestamp::now();
        let today = Day::of(now);
        let days = today.before(KEPT_DAYS - 1).0..=today.0;
        let rows = self.store.tunnel_days(tunnels, days).await?;
        let mut of_tunnels: HashMap<TunnelId, Vec<TunnelDay>> = HashMap::new();
        for row in rows {
            of_tunnels.entry(row.tunnel).or_default().push(row);
        }
        let history = |&tunnel| {
            let rows = of_tunnels.get(&tunnel).map_or(&[][..], Vec::as_slice);
            (tunnel, History::of(rows, now))
        };
        Ok(tunnels.iter().map(history).collect())
    }

    /// How a tunnel did.
    pub async fn history(&self, tunnel: TunnelId) -> Result<History> {
        let mut found = self.histories(&[tunnel]).await?;
        let history = found.remove(&tunnel);
        Ok(history.unwrap_or_else(|| History::of(&[], jiff::Timestamp::now())))
    }
}

/// The first five minutes of which anything is known.
fn first_slot(row: &TunnelDay) -> Option<(Day, usize)> {
    let (up, down) = slots(row);
    let slot = (0..SLOTS).find(|&slot| up.contains(slot) || down.contains(slot))?;
    Some((Day(row.day), slot))
}

fn slots(row: &TunnelDay) -> (Slots, Slots) {
    let up = Slots::from_bytes(&row.up_slots);
    let down = Slots::from_bytes(&row.down_slots);
    (up, down)
}

fn day_history(
    day: Day,
    row: Option<&TunnelDay>,
    begin: Option<(Day, usize)>,
    now: jiff::Timestamp,
) -> DayHistory {
    let (up, down) = row.map(slots).unwrap_or_default();
    let present = slot_of(now);
    let states = std::array::from_fn(|slot| match (day, slot) {
        _ if down.contains(slot) => State::Down,
        _ if up.contains(slot) => State::Up,
        // The present one, too: what is known of it is written within a minute.
        at if at >= present => State::ToCome,
        at if begin.is_none_or(|begin| at < begin) => State::NotYet,
        _ => State::Unknown,
    });
    DayHistory {
        day,
        figures: row.map(figures).unwrap_or_default(),
        states,
    }
}

fn figures(row: &TunnelDay) -> Figures {
    Figures {
        known_ms: row.known_ms,
        up_ms: row.up_ms,
        connections: row.connections,
        bytes_from_bastion: row.bytes_from_bastion,
        bytes_to_bastion: row.bytes_to_bastion,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-29T12:02:00Z";

    fn row(days_ago: i32, up: &[usize], down: &[usize]) -> TunnelDay {
        let bits = |of: &[usize]| {
            let mut slots = Slots::default();
            of.iter().for_each(|slot| slots.insert(*slot));
            slots.to_bytes()
        };
        TunnelDay {
            day: Day::of(NOW.parse().unwrap()).before(days_ago).0,
            tunnel: TunnelId(1),
            known_ms: 300_000 * (up.len() + down.len()) as i64,
            up_ms: 300_000 * up.len() as i64,
            connections: 2,
            bytes_from_bastion: 3,
            bytes_to_bastion: 5,
            up_slots: bits(up),
            down_slots: bits(down),
        }
    }

    #[test]
    fn unknown_not_yet_and_to_come_are_told_apart_from_down() {
        let rows = [row(2, &[10, 11], &[12]), row(0, &[143], &[])];
        let history = History::of(&rows, NOW.parse().unwrap());
        assert_eq!(history.days.len(), 30);
        let states = |ago: usize, slots: &[usize]| {
            let day = &history.days[29 - ago];
            slots
                .iter()
                .map(|slot| day.states[*slot])
                .collect::<Vec<_>>()
        };
        use State::{Down, NotYet, ToCome, Unknown, Up};
        assert_eq!(states(3, &[0, 287]), [NotYet, NotYet]);
        assert_eq!(states(2, &[9, 10, 12, 13]), [NotYet, Up, Down, Unknown]);
        assert_eq!(states(1, &[0, 287]), [Unknown, Unknown]);
        assert_eq!(
            states(0, &[142, 143, 144, 145]),
            [Unknown, Up, ToCome, ToCome]
        );
        assert_eq!(history.days[27].down_times(), [(12, 13)]);
        assert_eq!(history.total().connections, 4);
        assert_eq!(history.total().share(), Some(7_500));
    }

    #[test]
    fn a_tunnel_that_was_never_up_has_an_empty_history() {
        let history = History::of(&[], NOW.parse().unwrap());
        assert!(history.is_empty());
        assert_eq!(history.total().share(), None);
        assert_eq!(history.days[0].states, [State::NotYet; SLOTS]);
    }

    #[test]
    fn what_had_a_gap_is_never_shown_as_all_of_the_time() {
        let figures = |up_ms, known_ms| Figures {
            up_ms,
            known_ms,
            ..Figures::default()
        };
        assert_eq!(figures(86_399_999, 86_400_000).share(), Some(9_999));
        assert_eq!(figures(86_400_000, 86_400_000).share(), Some(10_000));
        assert_eq!(figures(0, 5).share(), Some(0));
    }
}
