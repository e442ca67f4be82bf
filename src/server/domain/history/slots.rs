//! Time as the history has it: days of UTC, each in slots of five minutes.

use jiff::civil::Date;

/// How long a day is.
pub const DAY_MS: i64 = 86_400_000;

/// How long a slot is.
const SLOT_MS: i64 = 300_000;

/// Slots of a day.
pub const SLOTS: usize = 288;

/// What is shorter than this belongs to the slot beside it: a clock does not strike to the millisecond.
const SHORTEST_MS: i64 = 1_000;

/// A day of UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// The day of a point in time.
    pub fn of(at: jiff::Timestamp) -> Self {
        let day = at.as_millisecond().div_euclid(DAY_MS);
        Day(i32::try_from(day).expect("jiff's years have four digits"))
    }

    /// So many days before.
    pub fn before(self, days: i32) -> Self {
        Day(self.0.saturating_sub(days))
    }

    pub fn date(self) -> Date {
        self.start(0).to_zoned(jiff::tz::TimeZone::UTC).date()
    }

    /// When its slot of this number begins; number [`SLOTS`] is the day's end.
    pub fn start(self, slot: usize) -> jiff::Timestamp {
        // A slot's number is below 289.
        let at = i64::from(self.0) * DAY_MS + slot as i64 * SLOT_MS;
        jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX)
    }
}

pub fn slot_of(at: jiff::Timestamp) -> (Day, usize) {
    let within = at.as_millisecond().rem_euclid(DAY_MS) / SLOT_MS;
    // Between 0 and 287.
    (Day::of(at), within as usize)
}

/// A set of a day's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots([u8; SLOTS / 8]);

impl Default for Slots {
    fn default() -> Self {
        Slots([0; SLOTS / 8])
    }
}

impl Slots {
    /// As they are kept; of another length, they were not written by this program, and none is in it.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        bytes.try_into().map(Slots).unwrap_or_default()
    }

    /// As they are kept.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Puts one in.
    pub fn insert(&mut self, slot: usize) {
        self.0[slot / 8] |= 1 << (slot % 8);
    }

    /// Whether it is in.
    pub fn contains(&self, slot: usize) -> bool {
        self.0[slot / 8] & (1 << (slot % 8)) != 0
    }

    /// Puts in what is in the other one.
    pub fn extend(&mut self, other: Slots) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own |= other;
        }
    }
}

/// A part of a span of time that lies within one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub day: Day,
    pub slot: usize,
    /// How long it is.
    pub ms: i64,
}

/// The span of this length that ended then, in pieces. They are as long together as the span.
pub fn pieces(end: jiff::Timestamp, length_ms: i64) -> Vec<Piece> {
    let end = end.as_millisecond();
    let mut at = end - length_ms;
    let mut pieces: Vec<Piece> = Vec::new();
    // What the next piece has to take in, since it was too short by itself.
    let mut carry = 0;
    while at < end {
        let next = end.min((at.div_euclid(SLOT_MS) + 1) * SLOT_MS);
        let ms = next - at;
        let is_short = ms < SHORTEST_MS;
        match pieces.last_mut() {
            Some(last) if is_short => last.ms += ms,
            None if is_short && next < end => carry += ms,
            _ => {
                let start = jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX);
                let (day, slot) = slot_of(start);
                pieces.push(Piece {
                    day,
                    slot,
                    ms: ms + std::mem::take(&mut carry),
                });
            }
        }
        at = next;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    fn of(end: &str, length_ms: i64) -> Vec<(i32, usize, i64)> {
        let pieces = pieces(at(end), length_ms);
        let first = pieces.first().map_or(0, |piece| piece.day.0);
        let shown = pieces.iter();
        shown.map(|p| (p.day.0 - first, p.slot, p.ms)).collect()
    }

    #[test]
    fn a_minute_lies_in_one_slot_though_the_clock_strikes_a_moment_late() {
        assert_eq!(of("2026-11-29T10:05:00.004Z", 60_000), [(0, 120, 60_000)]);
        assert_eq!(of("2026-11-29T10:05:59.500Z", 60_000), [(0, 121, 60_000)]);
        assert_eq!(of("2026-11-29T10:05:00.004Z", 4), [(0, 121, 4)]);
        assert_eq!(of("2026-11-29T10:05:00Z", 0), []);
    }

    #[test]
    fn a_long_span_is_divided_among_slots_and_days_and_nothing_of_it_is_lost() {
        let night = of("2026-11-30T00:02:00Z", 600_000);
        assert_eq!(
            night,
            [(0, 286, 180_000), (0, 287, 300_000), (1, 0, 120_000)]
        );
        let week = of("2026-11-30T00:02:00Z", 7 * DAY_MS);
        assert_eq!(week.iter().map(|(_, _, ms)| ms).sum::<i64>(), 7 * DAY_MS);
        assert_eq!(week.last(), Some(&(7, 0, 120_000)));
    }

    #[test]
    fn times_before_1970_have_days_and_slots_too() {
        assert_eq!(slot_of(at("1969-12-31T23:59:59Z")), (Day(-1), 287));
        assert_eq!(Day(-1).date(), jiff::civil::date(1969, 12, 31));
        assert_eq!(Day(0).start(SLOTS), Day(1).start(0));
    }

    #[test]
    fn slots_come_back_as_they_were_kept() {
        let mut slots = Slots::default();
        for slot in [0, 7, 8, 287] {
            slots.insert(slot);
        }
        let back = Slots::from_bytes(&slots.to_bytes());
        let within: Vec<_> = (0..SLOTS).filter(|slot| back.contains(*slot)).collect();
        assert_eq!(within, [0, 7, 8, 287]);
        assert_eq!(Slots::from_bytes(&[255; 3]), Slots::default());
    }
}
