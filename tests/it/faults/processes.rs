//! The tunnel's own programs are killed.

use std::time::Instant;

use rustix::process::Signal;

use crate::faults::measure::{Aim, Fault};
use crate::faults::world::World;

#[test]
fn a_killed_ssh_is_back_within_seconds() {
    a_kill("ssh killed", World::kill_ssh);
}

#[test]
fn a_killed_autossh_is_back_within_seconds() {
    a_kill("autossh killed", |world| {
        world.signal_all("autossh", Signal::KILL)
    });
}

#[test]
#[ignore = "the two above are alike"]
fn a_tunnel_all_of_whose_programs_are_killed_is_back_within_seconds() {
    a_kill("ssh and autossh killed at once", World::kill_all);
}

#[track_caller]
fn a_kill(name: &'static str, kill: impl Fn(&World)) {
    Fault::of_one(name, Aim::Seen).happens(|world| {
        kill(world);
        Instant::now()
    });
}
