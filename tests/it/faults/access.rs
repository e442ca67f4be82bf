//! The tunnel is taken away while it is up, and two machines have one key.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::faults::measure::{Aim, Fault, Sibling, measure};
use crate::faults::plain::Plain;
use crate::faults::supervisor::Supervised;
use crate::faults::table;
use crate::faults::world::{Beset, OURS, PLAIN, SIBLING, World, with_own};
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
#[ignore = "has a server of its own"]
fn a_tunnel_that_is_deleted_while_it_is_up_carries_nothing_any_more() {
    with_own(&Beset::default(), |world| {
        world.wait_until_steady(OURS);
        let begun = Instant::now();
        world.operator.delete_now(world.ours.source.id);
        world.plain.iter().for_each(Plain::revoke);
        world.wait_until_silent(OURS);
        let last = begun
            .elapsed()
            .saturating_sub(world.readers.silent_for(OURS));
        let gap = world.gap_of(SIBLING, begun);
        say(&format!(
            "the last row came {:.2} s after it was deleted",
            last.as_secs_f64()
        ));
        let plain = world
            .plain
            .is_some()
            .then(|| last_row_of_plain(world, begun));
        table::add_line(&[
            "tunnel deleted, its key taken away: seconds until the last row",
            &format!("{:.1}", last.as_secs_f64()),
            &format!("{:.1}", last.as_secs_f64()),
            &plain.unwrap_or_else(|| "–".to_owned()),
            &format!("{:.1}", gap.as_secs_f64()),
            "–",
        ]);
        assert!(last < ENDS_WITHIN, "{last:?}");
        // It goes on trying, and is not let in.
        std::thread::sleep(COPY_TRIES);
        assert!(world.readers.silent_for(OURS) > COPY_TRIES);
    });
}

fn last_row_of_plain(world: &World, begun: Instant) -> String {
    while begun.elapsed() < PLAIN_LIMIT && world.is_steady(PLAIN) {
        std::thread::sleep(Duration::from_millis(100));
    }
    if world.is_steady(PLAIN) {
        return format!("goes on (looked for {} s)", PLAIN_LIMIT.as_secs());
    }
    let last = begun
        .elapsed()
        .saturating_sub(world.readers.silent_for(PLAIN));
    format!("{:.1}", last.as_secs_f64())
}

#[test]
#[ignore = "has a server of its own"]
fn a_copy_of_the_machine_costs_the_one_that_has_the_tunnel_no_row() {
    let fault = Fault {
        name: "a copy of the bastion starts beside it",
        aim: Aim::Unnoticed,
        sibling: Sibling::Undisturbed,
    };
    with_own(&Beset::default(), |world| {
        world.plain = None;
        let mut copy = Copy::of(world);
        measure(world, &fault, |_| {
            let begun = Instant::now();
            copy.service.boot(&copy.machine);
            std::thread::sleep(COPY_TRIES);
            copy.service.cut_power();
            begun
        });
    });
}

#[test]
#[ignore = "has a server of its own"]
fn a_machine_takes_the_tunnel_over_from_one_that_hangs_within_three_seconds() {
    let fault = Fault {
        name: "bastion vanishes, a second machine with its key starts",
        aim: Aim::Takeover,
        sibling: Sibling::Undisturbed,
    };
    with_own(&Beset::default(), |world| {
        world.plain = None;
        let mut copy = Copy::of(world);
        let mut is_taken = false;
        measure(world, &fault, |world| {
            if is_taken {
                copy.service.cut_power();
                world.ours.machine.mend();
                world.wait_until_steady(OURS);
            }
            is_taken = true;
            world.ours.machine.cut();
            world.wait_until_silent(OURS);
            let end = Instant::now();
            copy.service.boot(&copy.machine);
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
}
