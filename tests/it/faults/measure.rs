//! A fault, as often as it is brought about: how soon rows come again, and what is asked of that.

use std::time::{Duration, Instant};

use crate::faults::leftovers::{Had, LeftOver};
use crate::faults::plain::Plain;
use crate::faults::table;
use crate::faults::world::{OURS, PLAIN, SIBLING, World};
use crate::support::figures::say;

/// How long is waited for the plain command.
const PLAIN_LIMIT: Duration = Duration::from_secs(240);

/// What another customer's tunnel may miss: the machine is busy.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// What fails, and what is asked of the tunnel then.
pub struct Fault {
    /// For the table.
    pub name: &'static str,
    /// How soon rows are to come after its end.
    pub aim: Aim,
    /// Whether the other customer's tunnel may notice: it has the same server.
    pub sibling: Sibling,
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
pub enum Sibling {
    Undisturbed,
    Concerned,
}

impl Aim {
    fn limit(self) -> Duration {
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
    let turns = std::env::var("FAULTS_TURNS").ok();
    turns.map_or(1, |turns| turns.parse().expect("FAULTS_TURNS is a number"))
}

/// What all turns of a fault have given.
pub struct Measured {
    /// How soon rows came again, each time.
    pub back: Vec<Duration>,
    /// How soon through the plain command, the first time. `None`: not within the limit.
    pub plain: Option<Option<Duration>>,
    /// The longest time without a row through the other customer's tunnel.
    pub sibling: Duration,
    /// What was left over at most.
    pub left: LeftOver,
}

/// Brings a fault about in this world, again and again, and asks for what is aimed at. `bring` answers when the fault's
/// cause was over.
#[track_caller]
pub fn measure(world: &mut World, fault: &Fault, mut bring: impl FnMut(&mut World) -> Instant) {
    let mut measured: Option<Measured> = None;
    for turn in 0..turns() {
        let this = one_turn(world, fault, turn, &mut bring);
        measured = Some(this.after(measured));
    }
    let mut measured = measured.expect("a turn");
    measured.back.sort_unstable();
    table::add(fault.name, &measured);
    assert_aims(world, fault, &measured);
}

fn one_turn(
    world: &mut World,
    fault: &Fault,
    turn: usize,
    bring: &mut impl FnMut(&mut World) -> Instant,
) -> Measured {
    world.wait_until_steady(OURS);
    world.wait_until_steady(SIBLING);
    let is_compared = turn == 0 && world.plain.is_some();
    if is_compared {
        world.wait_until_steady(PLAIN);
    }
    let before = Had::now(world);
    let begun = Instant::now();
    let end = bring(world);
    world.wait_until_steady_after(OURS, end);
    let back = world.readers.back_after(OURS, end);
    let sibling = world.gap_of(SIBLING, begun);
    say(&format!(
        "{}: {:.1} s, the sibling's longest gap {:.1} s",
        fault.name,
        back.as_secs_f64(),
        sibling.as_secs_f64()
    ));
    let left = before.wait_until_as_before(world);
    let plain = is_compared.then(|| wait_for_plain(world, end));
    Measured {
        back: vec![back],
        plain,
        sibling,
        left,
    }
}

/// It is waited for once: from the second turn on it is not there.
fn wait_for_plain(world: &mut World, end: Instant) -> Option<Duration> {
    while !world.is_steady(PLAIN) && end.elapsed() < PLAIN_LIMIT {
        std::thread::sleep(Duration::from_millis(100));
    }
    let is_back = world.is_steady(PLAIN);
    let back = is_back.then(|| world.readers.back_after(PLAIN, end));
    world.plain.iter_mut().for_each(Plain::cut_power);
    world.plain = None;
    back
}

impl Measured {
    fn after(mut self, former: Option<Measured>) -> Measured {
        if let Some(former) = former {
            self.back.extend(former.back);
            self.plain = former.plain.or(self.plain);
            self.sibling = self.sibling.max(former.sibling);
            self.left = self.left.most(Some(former.left));
        }
        self
    }

    /// The one in the middle.
    pub fn median(&self) -> Duration {
        self.back[self.back.len() / 2]
    }

    /// The longest.
    pub fn worst(&self) -> Duration {
        self.back[self.back.len() - 1]
    }
}

#[track_caller]
fn assert_aims(world: &World, fault: &Fault, measured: &Measured) {
    let (name, limit) = (fault.name, fault.aim.limit());
    let worst = measured.worst();
    assert!(
        worst <= limit,
        "{name}: rows came after {worst:?}, and not within {limit:?}\n{}",
        world.describe()
    );
    if fault.sibling == Sibling::Undisturbed {
        let gap = measured.sibling;
        assert!(gap < UNDISTURBED, "{name}: the sibling missed {gap:?}");
    }
    assert!(measured.left.is_nothing(), "{name}: {}", measured.left);
}

impl World {
    /// The longest time without a row through this tunnel since then.
    pub fn gap_of(&self, name: &str, since: Instant) -> Duration {
        let missed = self.readers.missed_since(since);
        let own = missed.iter().find(|missed| missed.name == name);
        own.expect("a tunnel's name").gap
    }
}
