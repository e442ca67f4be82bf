//! The days that are being written: what was seen of them so far, by this run and by those before it.
//!
//! They are kept as a level and not as a log: what is written is the whole day as it stands, so what could
//! not be written once is written the next time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::slots::{DAY_MS, Day, Slots, pieces};
use crate::protocol::TunnelId;
use crate::server::cluster::view::Others;
use crate::server::store::TunnelDay;
use crate::server::tunnel_server::{Span, TunnelActivity};

/// The days that are being written.
#[derive(Debug, Default)]
pub struct Tally {
    days: BTreeMap<Day, OneDay>,
    /// The tunnels that have been up before the present span.
    watched: HashSet<TunnelId>,
}

#[derive(Debug, Default)]
struct OneDay {
    /// Whether what earlier runs have written of it is in here.
    is_whole: bool,
    rows: HashMap<TunnelId, Row>,
}

/// A day of a tunnel.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    known_ms: i64,
    up_ms: i64,
    connections: i64,
    from_bastion: i64,
    to_bastion: i64,
    up: Slots,
    down: Slots,
    is_written: bool,
}

impl Tally {
    /// These tunnels have been up before: from now on, the time in which they are down counts.
    pub fn watch(&mut self, tunnels: impl IntoIterator<Item = TunnelId>) {
        self.watched = tunnels.into_iter().collect();
    }

    /// Adds what was seen in a span that ended then by the wall clock. `alive` are the tunnels that were ever
    /// up and are not removed, those of before where that is not known; from now on they are watched.
    ///
    /// Where there are several nodes, each adds what it knows itself: of a tunnel that another one held in the
    /// span, too, only for how long it was up here, since it may have been up there for the rest; and the time of
    /// those that nobody held is added by one node. What falls between is not known.
    pub fn add(
        &mut self,
        span: &Span,
        end: jiff::Timestamp,
        alive: Option<HashSet<TunnelId>>,
        others: &Others,
    ) {
        let alive = alive.unwrap_or_else(|| self.watched.clone());
        for activity in &span.tunnels {
            let tunnel = activity.tunnel;
            let may_be_elsewhere = !others.is_known || others.held.contains(&tunnel);
            let known = match (alive.contains(&tunnel), self.watched.contains(&tunnel)) {
                _ if may_be_elsewhere => activity.up,
                (true, true) => span.elapsed,
                (true, false) => activity.watched,
                // Removed meanwhile, or so new that it is not written down: it is not down since.
                (false, _) => activity.up,
            };
            self.add_one(activity, known, end);
        }
        let active: HashSet<_> = span.tunnels.iter().map(|one| one.tunnel).collect();
        let quiet = self.watched.intersection(&alive);
        let is_quiet = |one: &&TunnelId| {
            others.tells_of_silence && !active.contains(*one) && !others.held.contains(*one)
        };
        let quiet: Vec<_> = quiet.filter(is_quiet).copied().collect();
        for tunnel in quiet {
            self.add_one(&silent(tunnel), span.elapsed, end);
        }
        self.watched = alive;
    }

    fn add_one(&mut self, activity: &TunnelActivity, known: Duration, end: jiff::Timestamp) {
        let (known, up) = (milliseconds(known), milliseconds(activity.up));
        let up = up.min(known);
        for piece in pieces(end, known) {
            let row = self.row(piece.day, activity.tunnel);
            // Of a span over several slots nobody knows in which of them it was up: each has its share.
            let share = i128::from(up) * i128::from(piece.ms) / i128::from(known);
            row.known_ms += piece.ms;
            row.up_ms += i64::try_from(share).unwrap_or(piece.ms);
            if up > 0 {
                row.up.insert(piece.slot);
            }
            if up < known {
                row.down.insert(piece.slot);
            }
        }
        let row = self.row(Day::of(end), activity.tunnel);
        row.connections = plus(row.connections, activity.connections);
        row.from_bastion = plus(row.from_bastion, activity.bytes_from_bastion);
        row.to_bastion = plus(row.to_bastion, activity.bytes_to_bastion);
    }

    fn row(&mut self, day: Day, tunnel: TunnelId) -> &mut Row {
        let rows = &mut self.days.entry(day).or_default().rows;
        let row = rows.entry(tunnel).or_default();
        row.is_written = false;
        row
    }

    /// The days of which is not known yet what earlier runs have written.
    pub fn unknown_days(&self) -> BTreeSet<Day> {
        let days = self.days.iter();
        days.filter(|(_, day)| !day.is_whole)
            .map(|(day, _)| *day)
            .collect()
    }

    /// Adds all that earlier runs have written of a day.
    pub fn add_written(&mut self, day: Day, written: Vec<TunnelDay>) {
        let one = self.days.entry(day).or_default();
        if std::mem::replace(&mut one.is_whole, true) {
            return;
        }
        for written in written {
            one.rows
                .entry(written.tunnel)
                .or_insert(Row {
                    is_written: true,
                    ..Row::default()
                })
                .add_written(&written);
        }
    }

    /// What is to be written, of days of which all is known.
    pub fn unwritten(&self) -> Vec<TunnelDay> {
        let whole = self.days.iter().filter(|(_, day)| day.is_whole);
        let rows = whole.flat_map(|(day, one)| one.rows.iter().map(|row| (*day, row)));
        rows.filter(|(_, (_, row))| !row.is_written)
            .map(|(day, (tunnel, row))| row.to_write(day, *tunnel))
            .collect()
    }

    /// What [`Tally::unwritten`] gave has been written. Other days than this one are over.
    pub fn written(&mut self, today: Day) {
        self.days.retain(|day, one| *day == today || !one.is_whole);
        for one in self.days.values_mut().filter(|one| one.is_whole) {
            one.rows.values_mut().for_each(|row| row.is_written = true);
        }
    }
}

impl Row {
    fn add_written(&mut self, written: &TunnelDay) {
        self.known_ms += written.known_ms;
        self.up_ms += written.up_ms;
        self.connections = self.connections.saturating_add(written.connections);
        self.from_bastion = self.from_bastion.saturating_add(written.bytes_from_bastion);
        self.to_bastion = self.to_bastion.saturating_add(written.bytes_to_bastion);
        self.up.extend(Slots::from_bytes(&written.up_slots));
        self.down.extend(Slots::from_bytes(&written.down_slots));
    }

    fn to_write(self, day: Day, tunnel: TunnelId) -> TunnelDay {
        // Where the clock was set back, a day has more hours than it should.
        let known_ms = self.known_ms.min(DAY_MS);
        let lost = self.known_ms - self.up_ms;
        TunnelDay {
            day: day.0,
            tunnel,
            known_ms,
            up_ms: (known_ms - lost).max(0),
            connections: self.connections,
            bytes_from_bastion: self.from_bastion,
            bytes_to_bastion: self.to_bastion,
            up_slots: self.up.to_bytes(),
            down_slots: self.down.to_bytes(),
        }
    }
}

/// What a tunnel did that did nothing.
fn silent(tunnel: TunnelId) -> TunnelActivity {
    TunnelActivity {
        tunnel,
        up: Duration::ZERO,
        watched: Duration::ZERO,
        connections: 0,
        bytes_from_bastion: 0,
        bytes_to_bastion: 0,
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn plus(number: i64, more: u64) -> i64 {
    number.saturating_add(i64::try_from(more).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const ONE: TunnelId = TunnelId(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    fn alive() -> Option<HashSet<TunnelId>> {
        Some(HashSet::from([ONE]))
    }

    /// There is one server.
    fn alone() -> Others {
        Others {
            held: HashSet::new(),
            is_known: true,
            tells_of_silence: true,
        }
    }

    #[test]
    fn of_a_tunnel_that_another_node_held_too_nobody_counts_the_other_s_time() {
        let mut tally = watching(&[NOON]);
        let half = MINUTE / 2;
        let with_another = Others {
            held: HashSet::from([ONE]),
            ..alone()
        };
        let span_here = span(MINUTE, vec![up_for(half, MINUTE)]);
        tally.add(&span_here, at(NOON), alive(), &with_another);
        assert_eq!(seconds(&tally), [(30, 30)]);
        // It was there alone.
        let later = at("2026-11-29T12:02:00Z");
        tally.add(&span(MINUTE, vec![]), later, alive(), &with_another);
        assert_eq!(seconds(&tally), [(30, 30)]);
        // Nobody held it, and another node says so.
        let silent_here = Others {
            tells_of_silence: false,
            ..alone()
        };
        let later = at("2026-11-29T12:03:00Z");
        tally.add(&span(MINUTE, vec![]), later, alive(), &silent_here);
        assert_eq!(seconds(&tally), [(30, 30)]);
        // Nobody knows what the others do.
        let unknown = Others::default();
        let later = at("2026-11-29T12:04:00Z");
        tally.add(&span_here, later, alive(), &unknown);
        assert_eq!(seconds(&tally), [(60, 60)]);
    }

    fn nobody() -> Option<HashSet<TunnelId>> {
        Some(HashSet::new())
    }

    fn up_for(up: Duration, watched: Duration) -> TunnelActivity {
        TunnelActivity {
            up,
            watched,
            ..silent(ONE)
        }
    }

    fn span(elapsed: Duration, tunnels: Vec<TunnelActivity>) -> Span {
        Span {
            end: Instant::now(),
            elapsed,
            tunnels,
        }
    }

    /// A tally that watches tunnel 1 and knows that nothing was written before.
    fn watching(days: &[&str]) -> Tally {
        let mut tally = Tally::default();
        tally.watch([ONE]);
        for day in days {
            tally.add_written(Day::of(at(day)), Vec::new());
        }
        tally
    }

    fn seconds(tally: &Tally) -> Vec<(i64, i64)> {
        let rows = tally.unwritten();
        let rows = rows
            .iter()
            .map(|row| (row.up_ms / 1000, row.known_ms / 1000));
        rows.collect()
    }

    fn slots(bytes: &[u8]) -> Vec<usize> {
        let slots = Slots::from_bytes(bytes);
        (0..288).filter(|slot| slots.contains(*slot)).collect()
    }

    const NOON: &str = "2026-11-29T12:01:00Z";

    #[test]
    fn a_tunnel_is_not_down_before_its_first_connection_nor_after_its_removal() {
        let mut tally = Tally::default();
        tally.add_written(Day::of(at(NOON)), Vec::new());
        tally.add(&span(MINUTE, vec![]), at(NOON), nobody(), &alone());
        assert_eq!(seconds(&tally), []);
        let first = up_for(Duration::from_secs(10), Duration::from_secs(20));
        tally.add(
            &span(MINUTE, vec![first]),
            at("2026-11-29T12:02:00Z"),
            alive(),
            &alone(),
        );
        assert_eq!(seconds(&tally), [(10, 20)]);
        // Whether the database can be read or not.
        tally.add(
            &span(MINUTE, vec![]),
            at("2026-11-29T12:03:00Z"),
            None,
            &alone(),
        );
        assert_eq!(seconds(&tally), [(10, 80)]);
        let last = up_for(Duration::from_secs(5), MINUTE);
        tally.add(
            &span(MINUTE, vec![last]),
            at("2026-11-29T12:04:00Z"),
            nobody(),
            &alone(),
        );
        assert_eq!(seconds(&tally), [(15, 85)]);
        tally.add(
            &span(MINUTE, vec![]),
            at("2026-11-29T12:05:00Z"),
            nobody(),
            &alone(),
        );
        assert_eq!(seconds(&tally), [(15, 85)]);
    }

    #[test]
    fn time_in_which_the_server_did_not_run_is_neither_up_nor_down() {
        let mut tally = watching(&[NOON]);
        tally.add(
            &span(MINUTE, vec![up_for(MINUTE, MINUTE)]),
            at(NOON),
            alive(),
            &alone(),
        );
        // An hour later: the server was away, or the machine asleep.
        tally.add(
            &span(MINUTE, vec![]),
            at("2026-11-29T13:01:00Z"),
            alive(),
            &alone(),
        );
        let row = &tally.unwritten()[0];
        assert_eq!((row.up_ms, row.known_ms), (60_000, 120_000));
        assert_eq!(slots(&row.up_slots), [144]);
        assert_eq!(slots(&row.down_slots), [156]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_day_longer_and_no_time_negative() {
        let mut tally = watching(&[NOON]);
        let hours = |number: u64| Duration::from_secs(number * 3600);
        for _ in 0..4 {
            let all = up_for(hours(10), hours(10));
            tally.add(&span(hours(10), vec![all]), at(NOON), alive(), &alone());
        }
        tally.add(&span(hours(1), vec![]), at(NOON), alive(), &alone());
        assert_eq!(seconds(&tally), [(23 * 3600, 24 * 3600)]);
    }

    #[test]
    fn what_earlier_runs_wrote_is_added_once_whenever_it_can_be_read() {
        let mut tally = watching(&[]);
        let day = Day::of(at(NOON));
        tally.add(
            &span(MINUTE, vec![up_for(MINUTE, MINUTE)]),
            at(NOON),
            alive(),
            &alone(),
        );
        assert_eq!(tally.unwritten().len(), 0, "the day is not known yet");
        assert_eq!(tally.unknown_days(), BTreeSet::from([day]));
        let mut before = watching(&[NOON]);
        let mut carried = up_for(MINUTE, MINUTE);
        carried.connections = 3;
        before.add(
            &span(MINUTE * 2, vec![carried]),
            at("2026-11-29T11:02:00Z"),
            alive(),
            &alone(),
        );
        for _ in 0..2 {
            tally.add_written(day, before.unwritten());
        }
        assert_eq!(seconds(&tally), [(120, 180)]);
        let row = &tally.unwritten()[0];
        assert_eq!(row.connections, 3);
        assert_eq!(slots(&row.up_slots), [132, 144]);
        tally.written(day);
        assert_eq!(tally.unwritten().len(), 0);
    }

    #[test]
    fn at_midnight_both_days_are_written_and_the_former_one_is_let_go() {
        let (before, after) = ("2026-11-29T23:00:00Z", "2026-11-30T00:00:30Z");
        let mut tally = watching(&[before, after]);
        tally.add(
            &span(MINUTE, vec![up_for(MINUTE, MINUTE)]),
            at(after),
            alive(),
            &alone(),
        );
        assert_eq!(seconds(&tally), [(30, 30), (30, 30)]);
        tally.written(Day::of(at(after)));
        assert_eq!(tally.days.len(), 1);
    }
}
