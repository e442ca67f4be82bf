//! The database ends, stands still, or cannot be reached; the tunnel itself is well.

use std::time::{Duration, Instant};

use crate::faults::measure::{Aim, Fault};
use crate::faults::world::last;

#[test]
fn rows_come_as_soon_as_a_restarted_database_takes_connections() {
    Fault::of_one("database killed and started", Aim::Seen).happens(|world| {
        world.ours.database.crash();
        let _inside = world.ours.database_machine.enter();
        world.ours.database.start_again(false);
        Instant::now()
    });
}

#[test]
#[ignore = "takes a minute"]
fn rows_come_as_soon_as_a_database_that_stood_still_goes_on() {
    Fault::of_one("database stands still for 30 s", Aim::Seen).happens(|world| {
        world.ours.database.freeze();
        let end = last(Duration::from_secs(30));
        world.ours.database.thaw();
        end
    });
}

#[test]
#[ignore = "takes minutes"]
fn rows_come_as_soon_as_the_bastion_reaches_the_database_again() {
    let name = "packets between bastion and database swallowed for 60 s";
    Fault::of_one(name, Aim::Seen).happens(|world| {
        world.ours.database_machine.cut();
        let end = last(Duration::from_secs(60));
        world.ours.database_machine.mend();
        end
    });
}
