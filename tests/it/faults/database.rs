//! The database ends, stands still, or cannot be reached; the tunnel itself is well.

use std::time::{Duration, Instant};

use crate::faults::measure::{Aim, Fault, Sibling, measure};
use crate::faults::world::{World, last, with_ordinary};

#[test]
fn rows_come_as_soon_as_a_restarted_database_takes_connections() {
    the_database_fails("database killed and started", |world| {
        world.ours.database.crash();
        let _inside = world.ours.database_machine.enter();
        world.ours.database.start_again(false);
        Instant::now()
    });
}

#[test]
#[ignore = "takes a minute"]
fn rows_come_as_soon_as_a_database_that_stood_still_goes_on() {
    the_database_fails("database stands still for 30 s", |world| {
        world.ours.database.freeze();
        let end = last(Duration::from_secs(30));
        world.ours.database.thaw();
        end
    });
}

#[test]
#[ignore = "takes minutes"]
fn rows_come_as_soon_as_the_bastion_reaches_the_database_again() {
    the_database_fails(
        "packets between bastion and database swallowed for 60 s",
        |world| {
            world.ours.database_machine.cut();
            let end = last(Duration::from_secs(60));
            world.ours.database_machine.mend();
            end
        },
    );
}

#[track_caller]
fn the_database_fails(name: &'static str, fail: impl FnMut(&mut World) -> Instant) {
    let fault = Fault {
        name,
        aim: Aim::Seen,
        sibling: Sibling::Undisturbed,
    };
    with_ordinary(|world| measure(world, &fault, fail));
}
