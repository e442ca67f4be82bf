//! Thousands of tunnels lose their node at the same moment.
//!
//! `CLUSTER_MANY` says how many (2,000). What is measured means something where the programs are optimized
//! (`cargo test --release`).

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::cluster::costs::Costs;
use crate::cluster::crowd::{Bastion, Crowd};
use crate::cluster::figures::{Cost, many};
use crate::cluster::installation::{Cluster, LIMIT, REGIONS};
use crate::cluster::node::SSH_PORT;
use crate::support::figures::say;
use crate::support::wait;

/// How long so many may take on two processors, with programs that are not optimized.
const ALL_UP: Duration = Duration::from_secs(600);

/// For how long is measured what idle tunnels cost: their history is written twice in it.
const IDLE: Duration = Duration::from_secs(120);

/// Until PostgreSQL has counted what was before.
const SETTLED: Duration = Duration::from_secs(15);

/// Every so many a tunnel is tried with bytes.
const TRIED_EVERY: usize = 40;

#[test]
#[ignore = "takes a few minutes"]
fn two_thousand_tunnels_of_a_killed_node_are_all_soon_back_at_the_other_one() {
    let number = many();
    let mut cluster = Cluster::with_ports(&REGIONS[..1], "20000-22999");
    let [one, other] = cluster.regions[0].nodes;
    let begun = Instant::now();
    let mut crowd = Crowd::enroll(&cluster, number);
    let enrolled = number as f64 / begun.elapsed().as_secs_f64();
    say(&format!(
        "{number} data sources created and enrolled, {enrolled:.0} a second"
    ));

    say_idle_costs(&cluster, "no tunnel of them is up");

    // All at one.
    cluster.kill(other);
    cluster.wait_until_heard(other, false);
    let empty = cluster.nodes[one].memory();
    let begun = Instant::now();
    let at = IpAddr::from(cluster.regions[0].balancer.address());
    crowd.connect(SocketAddr::from((at, SSH_PORT)));
    say_times(
        "all come for the first time",
        &crowd.wait_until_up_since(begun, ALL_UP),
    );
    let grown = cluster.nodes[one].memory().saturating_sub(empty);
    say(&format!(
        "memory of a tunnel in its node: {} KiB",
        grown / number as u64
    ));
    cluster.start_node(other);
    cluster.wait_until_heard(other, true);
    wait_for_tunnels(&cluster, one, number);
    say(&format!(
        "memory of the node that holds none of {number} tunnels: {} MiB",
        cluster.nodes[other].memory() >> 10
    ));
    cluster.wait_for_rows();
    say_idle_costs(&cluster, "all are up at one node");

    let (since, failed) = (Instant::now(), crowd.failures());
    cluster.kill(one);
    let times = crowd.wait_until_up_since(since, ALL_UP);
    say_times("all return at once", &times);
    say(&format!(
        "attempts that failed meanwhile: {}",
        crowd.failures() - failed
    ));
    let told = wait_for_tunnels(&cluster, other, number).duration_since(since);
    say(&format!(
        "all nodes could know of all after {:.1} s",
        told.as_secs_f64()
    ));
    cluster.wait_for_rows();
    let mut cost = Cost::of("all return at once");
    cost.add(cluster.readers.missed_since(since), &[]);
    cost.say();
    for port in crowd.bastions().map(Bastion::port).step_by(TRIED_EVERY) {
        assert!(
            is_answered(SocketAddr::from((at, port))),
            "{port}\n{}",
            cluster.describe()
        );
    }
}

fn say_idle_costs(cluster: &Cluster, when: &str) {
    std::thread::sleep(SETTLED);
    let begun = Costs::of(cluster);
    std::thread::sleep(IDLE);
    say(&format!("while {when}: {}", begun.until_now(cluster)));
}

fn say_times(what: &str, times: &[Duration]) {
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64();
    say(&format!(
        "{what}: up after {:.1} s at the median, {:.1} s for 99 %, {:.1} s the last",
        at(0.5),
        at(0.99),
        at(1.0)
    ));
}

/// Waits until the database says that this node holds so many tunnels, or more.
fn wait_for_tunnels(cluster: &Cluster, node: usize, number: usize) -> Instant {
    let held = || {
        let list = cluster.node_list();
        let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let name = cluster.nodes[node].name();
        let own = all.iter().find(|one| one["name"] == name);
        own.and_then(|own| own["tunnels"].as_u64())
            .unwrap_or_default()
    };
    wait::until_true(
        "the database to know of all tunnels",
        LIMIT,
        || format!("{} are known\n{}", held(), cluster.describe()),
        || held() >= number as u64,
    );
    Instant::now()
}

fn is_answered(address: SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect_timeout(&address, LIMIT) else {
        return false;
    };
    let mut answer = [0; 5];
    let limited = connection.set_read_timeout(Some(LIMIT));
    let asked = limited.and_then(|()| connection.write_all(b"hello"));
    asked.is_ok() && connection.read_exact(&mut answer).is_ok() && &answer == b"hello"
}
