//! A fault, as often as it is brought about: how soon rows come again, and what is asked of that.

use std::time::{Duration, Instant};

use crate::faults::leftovers::{Had, LeftOver};
use crate::faults::plain::Plain;
use crate::faults::table::{self, Line};
use crate::faults::world::{Beset, OURS, PLAIN, SIBLING, World, with_world};
use crate::support::figures::say;
use crate::support::rows::Missed;

/// How long is waited for the plain command.
pub const PLAIN_LIMIT: Duration = Duration::from_secs(240);

/// What a tunnel may miss that is to notice nothing, as another customer's: the machine is busy.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// What fails, and what is asked of the tunnel then.
pub struct Fault {
    /// For the table.
    name: &'static str,
    /// How soon rows are to come after its end.
    aim: Aim,
    /// Whether the other customer's tunnel may notice: it has the same server.
    sibling: Sibling,
}

/// How soon rows are to come.
#[derive(Clone, Copy)]
pub enum Aim {
    /// TCP sees what has happened.
    Seen,
    /// Packets are swallowed, and nobody is told.
    Silent,
    /// A session takes the place of one that hangs.
    Takeover,
    /// The tunnel does not notice.
    Unnoticed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sibling {
    Undisturbed,
    Concerned,
}

impl Aim {
    pub fn limit(self) -> Duration {
        match self {
            Aim::Seen => Duration::from_secs(5),
            Aim::Silent => Duration::from_secs(30),
            Aim::Takeover => Duration::from_secs(3),
            Aim::Unnoticed => Duration::ZERO,
        }
    }
}

/// How often each fault is brought about.
pub fn turns() -> usize {
    number_in("FAULTS_TURNS").unwrap_or(1)
}

/// In how many of these turns the plain command is waited for.
fn plain_turns() -> usize {
    number_in("FAULTS_PLAIN_TURNS").unwrap_or_else(turns)
}

fn number_in(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is a number")))
}

impl Fault {
    /// One customer's alone: the other one must not notice.
    pub fn of_one(name: &'static str, aim: Aim) -> Self {
        let sibling = Sibling::Undisturbed;
        Fault { name, aim, sibling }
    }

    /// The server's, which both have.
    pub fn of_all(name: &'static str, aim: Aim) -> Self {
        let sibling = Sibling::Concerned;
        Fault { name, aim, sibling }
    }

    /// Brings it about in a world of its own: see [`Fault::measure`].
    #[track_caller]
    pub fn happens(&self, bring: impl FnMut(&mut World) -> Instant) {
        with_world(&Beset::default(), |world| self.measure(world, bring));
    }

    /// Brings it about in this world, again and again, and asks for what is aimed at. `bring` answers when the
    /// fault's cause was over.
    #[track_caller]
    pub fn measure(&self, world: &mut World, mut bring: impl FnMut(&mut World) -> Instant) {
        let mut measured = Measured::default();
        for _ in 0..turns() {
            measured.add(self.one_turn(world, measured.waits_for_plain(), &mut bring));
        }
        measured.sort();
        table::add(&measured.line(self));
        self.assert_aims(world, &measured);
    }

    fn one_turn(
        &self,
        world: &mut World,
        is_compared: bool,
        bring: &mut impl FnMut(&mut World) -> Instant,
    ) -> Turn {
        if !is_compared {
            world.end_plain();
        }
        world.wait_until_steady(OURS);
        world.wait_until_steady(SIBLING);
        if let Some(plain) = &world.plain {
            plain.settle();
            world.wait_until_steady(PLAIN);
        }
        let before = Had::now(world);
        let begun = Instant::now();
        let end = bring(world);
        world.wait_until_steady_after(OURS, end);
        let back = match self.aim {
            Aim::Unnoticed if world.has_noticed_nothing(OURS, begun) => Duration::ZERO,
            _ => world.readers.back_after(OURS, end),
        };
        let sibling = world.gap_of(SIBLING, begun);
        say(&format!(
            "{}: {:.1} s, the sibling's longest gap {:.1} s",
            self.name,
            back.as_secs_f64(),
            sibling.as_secs_f64()
        ));
        let left = before.wait_until_as_before(world);
        let plain = world.plain.is_some().then(|| wait_for_plain(world, end));
        if let Some(plain) = plain {
            say(&format!("{}: the plain command: {plain:?}", self.name));
        }
        Turn {
            back,
            plain,
            sibling,
            left,
        }
    }

    #[track_caller]
    fn assert_aims(&self, world: &World, measured: &Measured) {
        let (name, limit) = (self.name, self.aim.limit());
        let worst = worst(&measured.back);
        assert!(
            *worst <= limit,
            "{name}: rows came after {worst:?}, and not within {limit:?}\n{}",
            world.describe()
        );
        if self.sibling == Sibling::Undisturbed {
            let gap = measured.sibling;
            assert!(gap < UNDISTURBED, "{name}: the sibling missed {gap:?}");
        }
        for left in &measured.left {
            assert!(left.is_nothing(), "{name}: {left}");
        }
    }
}

/// How the plain command fared, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OfPlain {
    /// Rows came again, so long after.
    Back(Duration),
    /// They did not within [`PLAIN_LIMIT`].
    NotInTime,
    /// Its programs have ended, and nothing starts them again.
    Ended,
}

impl OfPlain {
    fn text(self) -> String {
        match self {
            OfPlain::Back(back) => seconds(back),
            OfPlain::NotInTime => format!("not within {} s", PLAIN_LIMIT.as_secs()),
            OfPlain::Ended => "never: it has ended".to_owned(),
        }
    }
}

/// Where it is not back, it begins anew for the next turn.
fn wait_for_plain(world: &mut World, end: Instant) -> OfPlain {
    let is_there = |world: &World| world.plain.iter().any(Plain::is_running);
    while !world.is_steady(PLAIN) && is_there(world) && end.elapsed() < PLAIN_LIMIT {
        std::thread::sleep(Duration::from_millis(200));
    }
    if world.is_steady(PLAIN) {
        return OfPlain::Back(world.readers.back_after(PLAIN, end));
    }
    let how = if is_there(world) {
        OfPlain::NotInTime
    } else {
        OfPlain::Ended
    };
    world.begin_plain_anew();
    how
}

/// What one turn has given.
struct Turn {
    back: Duration,
    plain: Option<OfPlain>,
    sibling: Duration,
    left: LeftOver,
}

/// What all turns of a fault have given.
#[derive(Default)]
struct Measured {
    /// How soon rows came again, each time.
    back: Vec<Duration>,
    /// The same of the plain command, where it was compared.
    plain: Vec<OfPlain>,
    /// The longest time without a row through the other customer's tunnel.
    sibling: Duration,
    /// What was left over.
    left: Vec<LeftOver>,
}

impl Measured {
    /// Where it is not back in time, one such wait says enough.
    fn waits_for_plain(&self) -> bool {
        self.plain.len() < plain_turns() && !self.plain.contains(&OfPlain::NotInTime)
    }

    fn add(&mut self, turn: Turn) {
        self.back.push(turn.back);
        self.plain.extend(turn.plain);
        self.sibling = self.sibling.max(turn.sibling);
        self.left.push(turn.left);
    }

    fn sort(&mut self) {
        self.back.sort_unstable();
        self.plain.sort_unstable();
        self.left.sort_by_key(LeftOver::memory);
    }

    fn line(&self, fault: &Fault) -> Line {
        let plain = |of: Option<&OfPlain>| of.map_or_else(|| "–".to_owned(), |of| of.text());
        let unusual = self.left.iter().find(|left| !left.is_nothing());
        let left = unusual.or(self.left.last()).expect("a turn");
        Line {
            fault: fault.name.to_owned(),
            aim: match fault.aim {
                Aim::Unnoticed => "no row missed".to_owned(),
                aim => aim.limit().as_secs().to_string(),
            },
            median: seconds(*median(&self.back)),
            worst: seconds(*worst(&self.back)),
            turns: self.back.len(),
            plain_median: plain(median_of(&self.plain)),
            plain_worst: plain(self.plain.last()),
            plain_turns: self.plain.len(),
            sibling: match fault.sibling {
                Sibling::Undisturbed => format!("{:.1}", self.sibling.as_secs_f64()),
                Sibling::Concerned => {
                    format!("{:.1}, it has the same server", self.sibling.as_secs_f64())
                }
            },
            left: left.to_string(),
        }
    }
}

/// The one in the middle of what is sorted.
pub fn median<T>(sorted: &[T]) -> &T {
    &sorted[sorted.len() / 2]
}

/// The same of what may be nothing.
pub fn median_of<T>(sorted: &[T]) -> Option<&T> {
    (!sorted.is_empty()).then(|| median(sorted))
}

/// The longest.
pub fn worst<T>(sorted: &[T]) -> &T {
    sorted.last().expect("a turn")
}

/// As it stands in the table.
fn seconds(back: Duration) -> String {
    match back {
        Duration::ZERO => "not noticed".to_owned(),
        back => format!("{:.1}", back.as_secs_f64()),
    }
}

impl World {
    /// The longest time without a row through this tunnel since then.
    pub fn gap_of(&self, name: &str, since: Instant) -> Duration {
        self.missed_by(name, since).gap
    }

    /// Whether no connection through this tunnel was lost since then, and no row came late.
    fn has_noticed_nothing(&self, name: &str, since: Instant) -> bool {
        let missed = self.missed_by(name, since);
        missed.lost == 0 && missed.gap < UNDISTURBED
    }

    fn missed_by(&self, name: &str, since: Instant) -> Missed {
        let mut missed = self.readers.missed_since(since).into_iter();
        let own = missed.find(|missed| missed.name == name);
        own.expect("a tunnel's name")
    }
}
