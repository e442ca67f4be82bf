//! What takes long, or is measured: `cargo test --test it -- --ignored tunnel_server::long::`, which
//! `scripts/test --full` does.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::tunnel_server::assert_echo;
use crate::tunnel_server::database::Database;
use crate::tunnel_server::misuse;
use crate::tunnel_server::vendor::{Vendor, connect, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute"]
async fn a_tunnel_whose_bastion_is_silent_is_down_within_half_a_minute() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let ssh = vendor.up(&tunnel, database.address).await;
    assert_echo(&mut connect(&tunnel).await, "select 1").await;
    ssh.signal(Signal::STOP);
    let started = Instant::now();
    until("the tunnel is down", Duration::from_secs(31), || {
        !vendor.is_up(1)
    })
    .await;
    assert!(started.elapsed() > Duration::from_secs(15), "too hasty");
    assert_eq!(vendor.server.counters().ended.silent.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn twenty_thousand_of_each_message_leave_no_memory_taken() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() >> 10
    };
    // Once, so that what is kept for later is there already.
    misuse::requests_and_channels_that_only_servers_have(1_000).await;
    let before = resident();
    misuse::for_channels_that_never_were(20_000).await;
    misuse::for_channels_that_are_closed(20_000).await;
    misuse::for_channels_that_are_not_confirmed(20_000).await;
    misuse::requests_and_channels_that_only_servers_have(20_000).await;
    let grown = resident().saturating_sub(before);
    println!("{before} MiB, and {grown} MiB more afterwards");
    assert!(grown < 16, "{grown} MiB more than {before} MiB");
}
