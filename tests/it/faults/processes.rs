//! The tunnel's own programs are killed.

use std::time::Instant;

use rustix::process::Signal;

use crate::faults::measure::{Aim, Fault, Sibling, measure};
use crate::faults::world::{World, with_ordinary};

#[test]
fn a_killed_ssh_is_back_within_seconds() {
    a_kill("ssh killed", |world| world.signal_all("ssh", Signal::KILL));
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
    let fault = Fault {
        name,
        aim: Aim::Seen,
        sibling: Sibling::Undisturbed,
    };
    with_ordinary(|world| {
        measure(world, &fault, |world| {
            kill(world);
            Instant::now()
        });
    });
}
