//! The bastion's line is down, and the bastion knows it.

use std::time::Duration;

use crate::faults::measure::{Aim, Fault};
use crate::faults::world::last;

#[test]
fn a_line_that_is_down_for_five_seconds_costs_no_more_than_a_few() {
    a_line_is_down("line down for 5 s", 5);
}

#[test]
#[ignore = "takes minutes"]
fn a_line_that_is_down_for_a_minute_costs_seconds_more() {
    a_line_is_down("line down for 60 s", 60);
}

#[test]
#[ignore = "takes minutes"]
fn a_line_that_is_down_for_five_minutes_costs_seconds_more() {
    a_line_is_down("line down for 5 min", 300);
}

#[track_caller]
fn a_line_is_down(name: &'static str, seconds: u64) {
    Fault::of_one(name, Aim::Seen).happens(|world| {
        world.ours.machine.unplug();
        let end = last(Duration::from_secs(seconds));
        world.ours.machine.plug_in();
        end
    });
}
