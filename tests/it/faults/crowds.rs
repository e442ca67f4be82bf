//! Many connections, of which the machine on the other side is gone, or which go through another tunnel.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::faults::measure::{Aim, Fault, Sibling, measure};
use crate::faults::world::{Beset, SIBLING, VENDOR, World, with_ordinary, with_own};
use crate::support::machines::Machine;
use crate::support::server::PublicPlace;
use crate::support::sql::Client;

const MANY: usize = 100;

#[test]
#[ignore = "takes a minute"]
fn a_hundred_connections_through_one_tunnel_do_not_notice_that_another_one_restarts() {
    let fault = Fault {
        name: "ssh killed beside another tunnel with 100 connections",
        aim: Aim::Seen,
        sibling: Sibling::Undisturbed,
    };
    with_ordinary(|world| {
        world.wait_until_steady(SIBLING);
        let inside = world.vendor.enter();
        let port = world.sibling.place().port;
        let login = world.sibling.database.login();
        let connect = || Client::connect(port, &login).expect("a connection");
        let mut clients: Vec<_> = (0..MANY).map(|_| connect()).collect();
        drop(inside);
        measure(world, &fault, |world| {
            world.kill_all();
            Instant::now()
        });
        for client in &mut clients {
            let one = client.number("SELECT 1::bigint");
            assert_eq!(one.expect("it is still connected"), 1);
        }
    });
}

#[test]
#[ignore = "takes minutes"]
fn of_a_hundred_clients_whose_machine_vanishes_nothing_is_left() {
    let fault = Fault {
        name: "100 clients of the tunnel vanish",
        aim: Aim::Unnoticed,
        sibling: Sibling::Undisturbed,
    };
    with_own(&Beset::default(), |world| {
        let programs = programs(world);
        let mut clients = Vec::new();
        measure(world, &fault, |world| {
            programs.mend_if(!clients.is_empty());
            clients.clear();
            clients.extend(clients_on(&programs, world));
            let begun = Instant::now();
            programs.cut();
            begun
        });
    });
}

#[test]
#[ignore = "takes a minute"]
fn a_tunnel_is_back_within_seconds_beside_a_hundred_half_open_connections_to_the_server() {
    let fault = Fault {
        name: "ssh killed beside 100 half-open connections to the ssh server",
        aim: Aim::Seen,
        sibling: Sibling::Undisturbed,
    };
    with_own(&Beset::default(), |world| {
        let programs = programs(world);
        let mut half_open = Vec::new();
        measure(world, &fault, |world| {
            programs.mend_if(!half_open.is_empty());
            half_open.clear();
            let inside = programs.enter();
            let connect = || TcpStream::connect((VENDOR, PublicPlace::SSH_PORT));
            half_open.extend((0..MANY).map(|_| connect().expect("a connection")));
            drop(inside);
            programs.cut();
            world.kill_all();
            Instant::now()
        });
    });
}

/// A machine of the vendor's beside the server.
fn programs(world: &World) -> Machine {
    let address = Ipv4Addr::new(10, 77, 0, 30);
    world.network.machine(&world.workspace, "programs", address)
}

/// Connections through the tunnel, logged in.
fn clients_on(machine: &Machine, world: &World) -> Vec<Client> {
    let login = world.ours.database.login();
    let options = PgConnectOptions::new_without_pgpass()
        .host(&VENDOR.to_string())
        .port(world.ours.place().port)
        .username(&login.username)
        .password(&login.password)
        .database(&login.database)
        .ssl_mode(PgSslMode::Disable);
    let _inside = machine.enter();
    let connect = || Client::connect_with(&options).expect("a connection");
    (0..MANY).map(|_| connect()).collect()
}
