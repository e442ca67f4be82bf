//! The tunnel or its key is taken away, or the key replaced, while it is up; and two machines have one key.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::faults::measure::{self, Aim, Fault};
use crate::faults::plain::Plain;
use crate::faults::supervisor::Supervised;
use crate::faults::table::{self, Line};
use crate::faults::world::{Beset, OURS, PLAIN, SIBLING, World, with_world};
use crate::support::bastion::Bastion;
use crate::support::figures::say;
use crate::support::machines::Machine;
use crate::support::workspace::Workspace;

/// How soon a tunnel that was taken away carries nothing any more.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// How long is looked whether the plain command's session ends.
const PLAIN_LIMIT: Duration = Duration::from_secs(60);

/// How long the copy of a machine tries.
const COPY_TRIES: Duration = Duration::from_secs(20);

#[test]
#[ignore = "has servers of its own"]
fn a_tunnel_that_is_deleted_while_it_is_up_carries_nothing_any_more() {
    let mut deleted: Vec<_> = (0..measure::turns())
        .map(|_| with_world(&Beset::default(), deleted_in))
        .collect();
    deleted.sort_by_key(|deleted| deleted.last);
    let (median, worst) = (measure::median(&deleted), measure::worst(&deleted));
    let siblings = deleted.iter().map(|deleted| deleted.sibling);
    let sibling = siblings.max().expect("a turn");
    let mut plain: Vec<_> = deleted.iter().filter_map(|one| one.plain).collect();
    plain.sort_unstable();
    table::add(&Line {
        fault: "tunnel deleted, its key taken away: seconds until the last row".to_owned(),
        aim: ENDS_WITHIN.as_secs().to_string(),
        median: seconds(median.last),
        worst: seconds(worst.last),
        turns: deleted.len(),
        plain_median: OfPlain::text(measure::median_of(&plain)),
        plain_worst: OfPlain::text(plain.last()),
        plain_turns: plain.len(),
        sibling: seconds(sibling),
        left: "–".to_owned(),
    });
    assert!(worst.last < ENDS_WITHIN, "{:?}", worst.last);
}

/// What came of it.
struct Deleted {
    /// When the last row came.
    last: Duration,
    plain: Option<OfPlain>,
    /// The other customer's longest time without a row.
    sibling: Duration,
}

/// How the plain command fared whose key was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OfPlain {
    LastRow(Duration),
    GoesOn,
}

impl OfPlain {
    fn text(of: Option<&Self>) -> String {
        match of {
            None => "–".to_owned(),
            Some(OfPlain::LastRow(last)) => seconds(*last),
            Some(OfPlain::GoesOn) => format!("goes on for {} s at least", PLAIN_LIMIT.as_secs()),
        }
    }
}

fn deleted_in(world: &mut World) -> Deleted {
    world.wait_until_steady(OURS);
    world.wait_until_steady(SIBLING);
    if world.plain.is_some() {
        world.wait_until_steady(PLAIN);
    }
    let begun = Instant::now();
    world.operator.delete_now(world.ours.source.id);
    world.plain.iter().for_each(Plain::revoke);
    world.wait_until_silent(OURS);
    let last = last_row(world, OURS, begun);
    let sibling = world.gap_of(SIBLING, begun);
    say(&format!(
        "the last row came {} s after it was deleted",
        seconds(last)
    ));
    let is_compared = world.plain.is_some();
    let plain = is_compared.then(|| last_row_of_plain(world, begun));
    // It goes on trying, and is not let in.
    std::thread::sleep(COPY_TRIES);
    assert!(world.readers.silent_for(OURS) > COPY_TRIES);
    Deleted {
        last,
        plain,
        sibling,
    }
}

fn last_row_of_plain(world: &World, begun: Instant) -> OfPlain {
    while begun.elapsed() < PLAIN_LIMIT && world.is_steady(PLAIN) {
        std::thread::sleep(Duration::from_millis(100));
    }
    if world.is_steady(PLAIN) {
        OfPlain::GoesOn
    } else {
        OfPlain::LastRow(last_row(world, PLAIN, begun))
    }
}

/// When the last row came, where none does any more.
fn last_row(world: &World, name: &str, begun: Instant) -> Duration {
    let silent = world.readers.silent_for(name);
    begun.elapsed().saturating_sub(silent)
}

fn seconds(long: Duration) -> String {
    format!("{:.1}", long.as_secs_f64())
}

#[test]
#[ignore = "takes a minute"]
fn a_key_that_is_rotated_while_the_tunnel_is_up_costs_one_reconnect() {
    let name = "key rotated by `rotate-key`: from the last row before the reconnect";
    with_world(&Beset::default(), |world| {
        // The plain command has nothing of the kind.
        world.end_plain();
        world.ours.hand_to_service_script(&world.names);
        Fault::of_one(name, Aim::Seen).measure(world, |world| {
            let begun = Instant::now();
            world.ours.rotate_key(&world.names);
            world.readers.longest_gap_since(OURS, begun)
        });
    });
}

#[test]
#[ignore = "has a server of its own"]
fn a_copy_of_the_machine_costs_the_one_that_has_the_tunnel_no_row() {
    let fault = Fault::of_one("a copy of the bastion starts beside it", Aim::Unnoticed);
    with_world(&Beset::default(), |world| {
        let mut copy = Copy::of(world);
        fault.measure(world, |world| {
            let begun = Instant::now();
            copy.boot(world);
            std::thread::sleep(COPY_TRIES);
            copy.service.cut_power();
            world.plain.iter_mut().for_each(Plain::cut_power_of_last);
            begun
        });
    });
}

#[test]
#[ignore = "has a server of its own"]
fn a_machine_takes_the_tunnel_over_from_one_that_hangs_within_three_seconds() {
    let name = "bastion vanishes, a second machine with its key starts";
    let fault = Fault::of_one(name, Aim::Takeover);
    with_world(&Beset::default(), |world| {
        let mut copy = Copy::of(world);
        let mut is_taken = false;
        fault.measure(world, |world| {
            if is_taken {
                copy.service.cut_power();
                world.ours.machine.mend();
                // Rows that came through the copy say nothing of the first one.
                world.wait_until_steady_after(OURS, Instant::now());
            }
            is_taken = true;
            world.ours.machine.cut();
            world.wait_until_silent(OURS);
            let end = Instant::now();
            copy.boot(world);
            end
        });
    });
}

/// A second machine with the bastion's disk.
struct Copy {
    service: Supervised,
    machine: Machine,
    _bastion: Bastion,
    _folder: Workspace,
}

impl Copy {
    fn of(world: &World) -> Self {
        let folder = Workspace::new();
        let bastion = world.ours.bastion.clone_machine();
        let service = world.ours.clone_service(&bastion, &folder, &world.names);
        let address = Ipv4Addr::new(10, 77, 3, 50);
        let machine = world.network.machine(&world.workspace, "copy", address);
        Copy {
            service,
            machine,
            _bastion: bastion,
            _folder: folder,
        }
    }

    /// It starts, the plain command with it.
    fn boot(&mut self, world: &mut World) {
        self.service.boot(&self.machine);
        if let Some(plain) = &mut world.plain {
            plain.boot(&self.machine);
        }
    }
}
