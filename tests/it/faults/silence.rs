//! Packets are swallowed, and nobody is told.

use std::time::Duration;

use crate::faults::measure::{Aim, Fault};
use crate::faults::world::{World, last};
use crate::support::machines::Way;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "takes minutes"]
fn after_a_minute_in_which_nothing_leaves_the_bastion_rows_come_within_seconds() {
    packets_are_swallowed("packets from the bastion swallowed for 60 s", &[Way::Out]);
}

#[test]
#[ignore = "takes minutes"]
fn after_a_minute_in_which_nothing_reaches_the_bastion_rows_come_within_seconds() {
    packets_are_swallowed("packets to the bastion swallowed for 60 s", &[Way::In]);
}

#[test]
#[ignore = "takes minutes"]
fn after_a_minute_of_silence_rows_come_within_seconds() {
    let both = [Way::In, Way::Out];
    packets_are_swallowed("packets of both ways swallowed for 60 s", &both);
}

#[track_caller]
fn packets_are_swallowed(name: &'static str, ways: &[Way]) {
    Fault::of_one(name, Aim::Silent).happens(|world| {
        let machine = &world.ours.machine;
        ways.iter().for_each(|way| machine.swallow(*way));
        let end = last(MINUTE);
        ways.iter().for_each(|way| machine.carry(*way));
        end
    });
}

#[test]
#[ignore = "takes minutes"]
fn after_a_minute_in_which_every_third_packet_is_lost_rows_come_within_seconds() {
    let name = "30 % of all packets lost for 60 s";
    Fault::of_one(name, Aim::Silent).happens(|world| {
        drop_of_bastion(world, "numgen random mod 100 < 30");
        let end = last(MINUTE);
        world.network.set_rules("");
        end
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_tunnel_that_began_to_connect_where_large_packets_are_lost_is_back_within_seconds_after_that() {
    let name = "packets of more than 1,000 bytes lost for 60 s, ssh killed meanwhile";
    Fault::of_one(name, Aim::Silent).happens(|world| {
        drop_of_bastion(world, "meta length > 1000");
        world.kill_ssh();
        let end = last(MINUTE);
        world.network.set_rules("");
        end
    });
}

/// Has the router drop what goes to the bastion and comes from it, if this holds.
fn drop_of_bastion(world: &World, if_so: &str) {
    let address = world.ours.machine.address;
    world.network.set_rules(&format!(
        "table ip faults {{ chain forward {{ type filter hook forward priority 0;
         ip saddr {address} {if_so} drop
         ip daddr {address} {if_so} drop
         }}
         }}\n"
    ));
}
