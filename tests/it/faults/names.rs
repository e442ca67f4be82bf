//! The vendor's name is not known, is slow to be told, or stands for another address.

use std::time::{Duration, Instant};

use crate::faults::measure::{Aim, Fault};
use crate::faults::resolver::Answers;
use crate::faults::world::{Beset, OTHER_VENDOR, VENDOR, known_at, last, with_world};

#[test]
#[ignore = "takes a minute"]
fn a_bastion_that_starts_while_names_cannot_be_looked_up_is_up_soon_after_they_can() {
    let name = "name server says that it cannot, while the bastion starts";
    names_are_not_told(name, Answers::Failing, Aim::Seen);
}

#[test]
#[ignore = "takes a minute"]
fn a_bastion_that_starts_while_the_name_server_is_silent_is_up_soon_after_it_answers() {
    let name = "name server silent while the bastion starts";
    names_are_not_told(name, Answers::Never, Aim::Silent);
}

#[track_caller]
fn names_are_not_told(name: &'static str, how: Answers, aim: Aim) {
    Fault::of_one(name, aim).happens(|world| {
        world.cut_power();
        world.resolver.answer(how);
        world.boot();
        let end = last(Duration::from_secs(40));
        world.resolver.answer(known_at(VENDOR));
        end
    });
}

#[test]
#[ignore = "takes a minute"]
fn a_bastion_whose_name_server_is_slow_is_up_within_half_a_minute() {
    let name = "name server takes 4 s for an answer, ssh killed";
    with_world(&Beset::default(), |world| {
        let slow = Duration::from_secs(4);
        world.resolver.answer(Answers::With(VENDOR, slow));
        Fault::of_one(name, Aim::Silent).measure(world, |world| {
            world.kill_ssh();
            Instant::now()
        });
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_vendor_that_moves_to_another_address_is_found_there_within_half_a_minute() {
    let name = "vendor at another address, the old one gone";
    let mut at = VENDOR;
    Fault::of_all(name, Aim::Silent).happens(|world| {
        let former = at;
        at = if former == VENDOR {
            OTHER_VENDOR
        } else {
            VENDOR
        };
        world.vendor.add_address(at);
        world.vendor.route_from(at);
        world.resolver.answer(known_at(at));
        world.vendor.remove_address(former);
        Instant::now()
    });
}
