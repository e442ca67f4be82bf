//! The drawings of a tunnel's history, as the paths of an SVG.
//!
//! What state a time was in is told by height and place, and not by colour alone: up is a block of half the
//! height, down stands out above and below it, what is not known is a line in the middle, and what was not yet a
//! line at the foot.

use std::fmt::{self, Write as _};

use askama::filters::HtmlSafe;

use crate::server::domain::history::{DAY_MS, DayHistory, History, SLOTS, State};

/// The width of a day, with the gap after it.
const DAY: f64 = 20.0;

/// The width of a day without it.
const INK: f64 = 18.0;

/// How wide a day's only outage is at least, so that it can be seen; many share that width, so that a day that
/// flaps does not look like one that was down.
const LEAST: f64 = 2.0;

/// How wide each of many is at least.
const LEAST_OF_MANY: f64 = 0.3;

/// The slots that are one cell of what an outage is drawn upon.
const CELL: usize = 16;

/// The height of a drawing.
pub const HEIGHT: f64 = 48.0;

/// The width of a drawing of so many days.
pub fn width(days: usize) -> f64 {
    DAY * days as f64
}

/// The paths of a bar, or of the columns of a chart.
#[derive(Debug, Clone, Default)]
pub struct Shapes(Vec<(&'static str, String)>);

impl fmt::Display for Shapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (class, path) in self.0.iter().filter(|(_, path)| !path.is_empty()) {
            write!(f, "<path class=\"{class}\" d=\"{path}\"/>")?;
        }
        Ok(())
    }
}

// Classes are our own, and paths are numbers.
impl HtmlSafe for Shapes {}

/// Where a state is drawn: its class, and from which height to which.
fn band(state: State) -> Option<(&'static str, f64, f64)> {
    match state {
        State::Up => Some(("is-up", 12.0, 36.0)),
        State::Down => Some(("is-down", 0.0, HEIGHT)),
        State::Unknown => Some(("is-unknown", 22.0, 26.0)),
        State::NotYet => Some(("is-not-yet", 33.0, 36.0)),
        State::ToCome => None,
    }
}

/// A bar of up and down. Within a day, outages stand where they were.
pub fn bar(history: &History) -> Shapes {
    let mut paths = Paths::default();
    for (number, day) in history.days.iter().enumerate() {
        let left = DAY * number as f64;
        let cells: Vec<State> = day.states.chunks(CELL).map(ground).collect();
        for (state, from, until) in runs(&cells) {
            let scale = INK / cells.len() as f64;
            paths.add(
                state,
                left + from as f64 * scale,
                left + until as f64 * scale,
            );
        }
        for (from, until) in outages(day) {
            paths.add(State::Down, left + from, left + until);
        }
    }
    paths.shapes()
}

/// A small bar: a day is one block, with its outages as one, as long as they are together.
pub fn small_bar(history: &History) -> Shapes {
    let mut paths = Paths::default();
    for (number, day) in history.days.iter().enumerate() {
        let left = DAY * number as f64;
        paths.add(ground(&day.states), left, left + INK);
        let figures = &day.figures;
        let down = figures.known_ms - figures.up_ms;
        if down > 0 {
            let part = INK * down as f64 / DAY_MS as f64;
            paths.add(State::Down, left, left + part.clamp(LEAST * 3.0, INK));
        }
    }
    paths.shapes()
}

/// A chart with a column for each number.
pub fn columns(numbers: &[i64]) -> Shapes {
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let mut path = String::new();
    for (at, &number) in numbers
        .iter()
        .enumerate()
        .filter(|(_, number)| **number > 0)
    {
        let height = (HEIGHT * number as f64 / most as f64).max(LEAST);
        let left = DAY * at as f64;
        block(&mut path, (left, left + INK), (HEIGHT - height, HEIGHT));
    }
    Shapes(vec![("is-column", path)])
}

/// What outages are drawn upon, for a stretch of time: nothing where there is nothing else.
fn ground(states: &[State]) -> State {
    let others = [State::Up, State::Unknown, State::NotYet];
    let found = others.into_iter().find(|state| states.contains(state));
    found.unwrap_or(State::ToCome)
}

/// The outages of a day as places within its ink. Those that would touch are one.
fn outages(day: &DayHistory) -> Vec<(f64, f64)> {
    let scale = INK / SLOTS as f64;
    let times = day.down_times();
    let least = (LEAST / times.len().max(1) as f64).max(LEAST_OF_MANY);
    let mut outages: Vec<(f64, f64)> = Vec::new();
    for (from, until) in times {
        let (from, until) = (from as f64 * scale, until as f64 * scale);
        let more = ((least - (until - from)) / 2.0).max(0.0);
        let from = (from - more).clamp(0.0, INK - least);
        let until = (until + more).clamp(least, INK);
        match outages.last_mut() {
            Some((_, last)) if from - *last < LEAST_OF_MANY => *last = last.max(until),
            _ => outages.push((from, until)),
        }
    }
    outages
}

/// Stretches of one state: from a cell to before another.
fn runs(cells: &[State]) -> Vec<(State, usize, usize)> {
    let mut runs: Vec<(State, usize, usize)> = Vec::new();
    for (at, &state) in cells.iter().enumerate() {
        match runs.last_mut() {
            Some((last, _, until)) if *last == state => *until = at + 1,
            _ => runs.push((state, at, at + 1)),
        }
    }
    runs
}

/// A path for each state, in the order in which they are painted.
#[derive(Default)]
struct Paths(Vec<(&'static str, String)>);

impl Paths {
    fn add(&mut self, state: State, from: f64, until: f64) {
        let Some((class, top, foot)) = band(state) else {
            return;
        };
        let at = self.0.iter().position(|(known, _)| *known == class);
        let at = at.unwrap_or_else(|| {
            self.0.push((class, String::new()));
            self.0.len() - 1
        });
        block(&mut self.0[at].1, (from, until), (top, foot));
    }

    fn shapes(mut self) -> Shapes {
        // Outages are painted over what they interrupt.
        self.0.sort_by_key(|(class, _)| *class == "is-down");
        Shapes(self.0)
    }
}

/// Adds a block to a path.
fn block(path: &mut String, (from, until): (f64, f64), (top, foot): (f64, f64)) {
    let number = |number: f64| (number * 100.0).round() / 100.0;
    let (left, right) = (number(from), number(until));
    let (top, foot) = (number(top), number(foot));
    // Writing to a string does not fail.
    let _ = write!(path, "M{left} {top}H{right}V{foot}H{left}z");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::domain::history::{Day, Figures};

    fn day(is_down: impl Fn(usize) -> bool) -> DayHistory {
        DayHistory {
            day: Day(0),
            figures: Figures::default(),
            states: std::array::from_fn(|slot| {
                if is_down(slot) {
                    State::Down
                } else {
                    State::Up
                }
            }),
        }
    }

    #[test]
    fn an_outage_can_be_seen_however_short_and_stays_within_its_day() {
        for slot in [0, 100, SLOTS - 1] {
            let found = outages(&day(|at| at == slot));
            assert_eq!(found.len(), 1, "{slot}");
            let (from, until) = found[0];
            assert!(from >= 0.0 && until <= INK, "{found:?}");
            assert!(until - from >= LEAST / 2.0, "{found:?}");
        }
        assert_eq!(outages(&day(|_| true)), [(0.0, INK)]);
        assert_eq!(outages(&day(|_| false)), []);
    }

    #[test]
    fn a_day_that_flaps_does_not_look_like_one_that_was_down_nor_fill_the_page() {
        let hourly = outages(&day(|slot| slot % 12 == 6));
        let drawn: f64 = hourly.iter().map(|(from, until)| until - from).sum();
        assert!(drawn < INK / 2.0, "{drawn}");
        assert_eq!(hourly.len(), 24);
        assert!(outages(&day(|slot| slot % 2 == 0)).len() <= 60);
        let flapping = History {
            days: vec![day(|slot| slot % 2 == 0); 30],
        };
        assert!(bar(&flapping).to_string().len() < 60_000);
    }

    #[test]
    fn what_was_never_up_is_not_drawn_as_if_it_had_been() {
        let mut today = day(|_| true);
        today.figures.known_ms = 3_000;
        today.states[3..].fill(State::Unknown);
        let history = History { days: vec![today] };
        for shapes in [bar(&history), small_bar(&history)] {
            let drawn = shapes.to_string();
            assert!(!drawn.contains("is-up"), "{drawn}");
            assert!(drawn.contains("is-down") && drawn.contains("is-unknown"));
            assert!(!drawn.contains("H18V48"), "down for a part alone: {drawn}");
        }
    }

    #[test]
    fn each_state_has_a_height_of_its_own() {
        use State::{Down, NotYet, Unknown, Up};
        let bands = [Up, Down, Unknown, NotYet].map(|state| band(state).unwrap());
        for (at, one) in bands.iter().enumerate() {
            for other in &bands[at + 1..] {
                assert_ne!((one.1, one.2), (other.1, other.2));
                assert_ne!(one.0, other.0);
            }
        }
    }
}
