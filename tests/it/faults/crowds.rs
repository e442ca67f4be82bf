//! Many connections, of which the machine on the other side is gone, or which go through another tunnel.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::faults::measure::{Aim, Fault};
use crate::faults::plain;
use crate::faults::world::{Beset, SIBLING, VENDOR, World, with_world};
use crate::support::machines::Machine;
use crate::support::server::PublicPlace;
use crate::support::sql::Client;

const MANY: usize = 100;

#[test]
#[ignore = "takes a minute"]
fn a_hundred_connections_through_one_tunnel_do_not_notice_that_another_one_restarts() {
    let name = "ssh killed beside another tunnel with 100 connections";
    with_world(&Beset::default(), |world| {
        world.wait_until_steady(SIBLING);
        let inside = world.vendor.enter();
        let port = world.sibling.place().port;
        let login = world.sibling.database.login_without_password();
        let connect = || Client::connect(port, &login).expect("a connection");
        let mut clients: Vec<_> = (0..MANY).map(|_| connect()).collect();
        drop(inside);
        Fault::of_one(name, Aim::Seen).measure(world, |world| {
            world.kill_ssh();
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
    let name = "100 clients of the tunnel vanish";
    with_world(&Beset::default(), |world| {
        let programs = programs(world);
        let mut clients = Vec::new();
        Fault::of_one(name, Aim::Unnoticed).measure(world, |world| {
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
    let name = "ssh killed beside 100 half-open connections to the ssh server";
    with_world(&Beset::default(), |world| {
        let programs = programs(world);
        let mut half_open = Vec::new();
        Fault::of_one(name, Aim::Seen).measure(world, |world| {
            programs.mend_if(!half_open.is_empty());
            half_open.clear();
            let inside = programs.enter();
            let mut ports = vec![PublicPlace::SSH_PORT];
            ports.extend(world.plain.as_ref().map(|_| plain::SSH_PORT));
            for port in ports {
                let connect = || TcpStream::connect((VENDOR, port));
                half_open.extend((0..MANY).map(|_| connect().expect("a connection")));
            }
            drop(inside);
            programs.cut();
            world.kill_ssh();
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
    let login = world.ours.database.login_without_password();
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
