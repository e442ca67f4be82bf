//! The bastion has another address from one moment to the next: its own, or the one that its network shows outside.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::faults::measure::{Aim, Fault, Sibling, measure};
use crate::faults::world::{OURS, World, with_ordinary};

#[test]
#[ignore = "takes a minute"]
fn a_bastion_whose_network_shows_another_address_outside_is_back_within_half_a_minute() {
    let fault = Fault {
        name: "another address outside (NAT forgets all connections)",
        aim: Aim::Silent,
        sibling: Sibling::Undisturbed,
    };
    with_ordinary(|world| {
        shown_as(world, 60);
        world.kill_all();
        world.wait_until_steady(OURS);
        let mut outside = 60;
        measure(world, &fault, |world| {
            outside = 121 - outside;
            shown_as(world, outside);
            world.network.forget_connections();
            Instant::now()
        });
        world.network.set_rules("");
    });
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
    let fault = Fault {
        name: "another address of the bastion (DHCP), the old one gone",
        aim: Aim::Silent,
        sibling: Sibling::Undisturbed,
    };
    with_ordinary(|world| {
        let first = world.ours.machine.address;
        let second = Ipv4Addr::new(10, 77, 1, 51);
        let mut now = first;
        measure(world, &fault, |world| {
            let former = now;
            now = if former == first { second } else { first };
            let machine = &world.ours.machine;
            machine.add_address(now);
            machine.route_from(now);
            machine.remove_address(former);
            Instant::now()
        });
    });
}
