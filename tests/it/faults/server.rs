//! The tunnel server ends, stands still, cannot be reached, or cannot write.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::faults::measure::{Aim, Fault};
use crate::faults::plain::Plain;
use crate::faults::world::{Beset, World, last, with_world};
use crate::support::server::Server;

#[test]
fn a_killed_server_that_starts_again_has_its_tunnels_back_within_seconds() {
    a_server_ends("server killed and started", Duration::ZERO, Server::kill);
}

#[test]
#[ignore = "the one above is alike"]
fn a_restarted_server_has_its_tunnels_back_within_seconds() {
    a_server_ends("server restarted", Duration::ZERO, |server| {
        server.stop().expect_code(0);
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_server_that_is_down_for_a_minute_has_its_tunnels_back_within_seconds() {
    a_server_ends(
        "server down for 60 s",
        Duration::from_secs(60),
        Server::kill,
    );
}

#[track_caller]
fn a_server_ends(name: &'static str, pause: Duration, end: impl Fn(&mut Server)) {
    Fault::of_all(name, Aim::Seen).happens(|world| {
        end(&mut world.server);
        world.plain.iter_mut().for_each(Plain::kill_sshd);
        std::thread::sleep(pause);
        world.start_server();
        Instant::now()
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_server_that_stood_still_for_a_minute_has_its_tunnels_back_within_seconds() {
    let signal = |world: &World, signal| {
        world.server.signal(signal);
        let plain = world.plain.iter();
        plain.for_each(|plain| plain.signal_sshd(signal));
    };
    Fault::of_all("server stands still for 60 s", Aim::Silent).happens(|world| {
        signal(world, Signal::STOP);
        let end = last(Duration::from_secs(60));
        signal(world, Signal::CONT);
        end
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_bastion_that_starts_while_the_server_cannot_be_reached_is_up_soon_after_it_can() {
    Fault::of_all("server unreachable while the bastion starts", Aim::Silent).happens(|world| {
        world.cut_power();
        world.vendor.cut();
        world.boot();
        let end = last(Duration::from_secs(40));
        world.vendor.mend();
        end
    });
}

#[test]
#[ignore = "has a server of its own"]
fn a_tunnel_is_back_within_seconds_while_the_servers_disk_is_full() {
    let name = "server's disk full, ssh killed";
    let mut is_full = false;
    with_world(&by_its_disk(), |world| {
        Fault::of_one(name, Aim::Seen).measure(world, |world| {
            let disk = world.server.disk.as_ref().expect("its own disk");
            if !is_full {
                disk.fill();
                is_full = true;
            }
            world.kill_ssh();
            Instant::now()
        });
    });
}

#[test]
#[ignore = "has a server of its own"]
fn a_tunnel_is_back_within_seconds_where_nobody_takes_the_servers_log() {
    let name = "server's log broken (nobody reads the pipe any more), ssh killed";
    with_world(&by_its_disk(), |world| {
        Fault::of_one(name, Aim::Seen).measure(world, |world| {
            world.log_reader = None;
            world.kill_ssh();
            Instant::now()
        });
    });
}

fn by_its_disk() -> Beset {
    Beset {
        by_its_disk: true,
        ..Beset::default()
    }
}
