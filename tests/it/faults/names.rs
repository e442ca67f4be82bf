//! The vendor's name is not known, is slow to be told, or stands for another address.

use std::time::{Duration, Instant};

use crate::faults::measure::{Aim, Fault, Sibling, measure};
use crate::faults::resolver::Answers;
use crate::faults::world::{Beset, OTHER_VENDOR, VENDOR, known_at, last, with_ordinary, with_own};

#[test]
#[ignore = "takes a minute"]
fn a_bastion_that_starts_while_names_cannot_be_looked_up_is_up_soon_after_they_can() {
    names_are_not_told(
        "name server says that it cannot, while the bastion starts",
        Answers::Failing,
        Aim::Seen,
    );
}

#[test]
#[ignore = "takes a minute"]
fn a_bastion_that_starts_while_the_name_server_is_silent_is_up_soon_after_it_answers() {
    names_are_not_told(
        "name server silent while the bastion starts",
        Answers::Never,
        Aim::Silent,
    );
}

#[track_caller]
fn names_are_not_told(name: &'static str, how: Answers, aim: Aim) {
    let fault = undisturbing(name, aim);
    with_ordinary(|world| {
        measure(world, &fault, |world| {
            world.cut_power();
            world.resolver.answer(how);
            world.boot();
            let end = last(Duration::from_secs(40));
            world.resolver.answer(known_at(VENDOR));
            end
        });
    });
}

#[test]
#[ignore = "takes a minute"]
fn a_bastion_whose_name_server_is_slow_is_up_within_half_a_minute() {
    let fault = undisturbing(
        "name server takes 4 s for an answer, ssh killed",
        Aim::Silent,
    );
    with_own(&Beset::default(), |world| {
        let slow = Duration::from_secs(4);
        world.resolver.answer(Answers::With(VENDOR, slow));
        measure(world, &fault, |world| {
            world.kill_all();
            Instant::now()
        });
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_vendor_that_moves_to_another_address_is_found_there_within_half_a_minute() {
    let fault = Fault {
        name: "vendor at another address, the old one gone",
        aim: Aim::Silent,
        sibling: Sibling::Concerned,
    };
    with_own(&Beset::default(), |world| {
        let mut at = VENDOR;
        measure(world, &fault, |world| {
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
    });
}

fn undisturbing(name: &'static str, aim: Aim) -> Fault {
    Fault {
        name,
        aim,
        sibling: Sibling::Undisturbed,
    }
}
