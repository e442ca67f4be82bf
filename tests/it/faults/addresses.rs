//! The bastion has another address from one moment to the next: its own, or the one that its network shows outside.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::faults::measure::{Aim, Fault};
use crate::faults::world::{Beset, OURS, PLAIN, World, with_world};

#[test]
#[ignore = "takes a minute"]
fn a_bastion_whose_network_shows_another_address_outside_is_back_within_half_a_minute() {
    let name = "another address outside (NAT forgets all connections)";
    with_world(&Beset::default(), |world| {
        let mut outside = 60;
        shown_as(world, outside);
        // From now on their connections are the router's, too.
        begin_anew(world);
        Fault::of_one(name, Aim::Silent).measure(world, |world| {
            outside = 121 - outside;
            shown_as(world, outside);
            world.network.forget_connections();
            Instant::now()
        });
    });
}

fn begin_anew(world: &mut World) {
    world.kill_all();
    world.begin_plain_anew();
    world.wait_until_steady(OURS);
    if world.plain.is_some() {
        world.wait_until_steady(PLAIN);
    }
}

/// Has the router send what comes from the bastion as from this address.
fn shown_as(world: &World, last: u8) {
    let inside = world.ours.machine.address;
    world.network.set_rules(&format!(
        "table ip faults {{ chain out {{ type nat hook postrouting priority 100;
         ip saddr {inside} ip daddr 10.77.0.0/24 snat to 10.77.1.{last}
         }}
         }}\n"
    ));
}

#[test]
#[ignore = "takes a minute"]
fn a_bastion_that_is_given_another_address_is_back_within_half_a_minute() {
    let name = "another address of the bastion (DHCP), the old one gone";
    let second = Ipv4Addr::new(10, 77, 1, 51);
    let mut now = None;
    Fault::of_one(name, Aim::Silent).happens(|world| {
        let machine = &world.ours.machine;
        let former = now.unwrap_or(machine.address);
        let next = if former == second {
            machine.address
        } else {
            second
        };
        now = Some(next);
        machine.add_address(next);
        machine.route_from(next);
        machine.remove_address(former);
        Instant::now()
    });
}
