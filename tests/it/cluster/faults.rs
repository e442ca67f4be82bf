//! A part of the cluster fails, while rows are read through every tunnel.
//!
//! `CLUSTER_TURNS` says how often each fault is brought about (3), `CLUSTER_OUTAGE` for how many seconds PostgreSQL is
//! away (600).

use std::time::{Duration, Instant};

use crate::cluster::figures::{Cost, outage, say_shown, turns};
use crate::cluster::installation::{Cluster, REGIONS, WEB};

/// What a node that is lost may cost its tunnels.
const MOST_WITHOUT_ROWS: Duration = Duration::from_secs(15);

/// What may pass between two rows though nothing is lost: the machine is busy.
const UNDISTURBED: Duration = Duration::from_secs(2);

#[test]
#[ignore = "takes a few minutes"]
fn a_killed_tunnel_node_costs_its_tunnels_seconds_and_all_is_true_again() {
    a_tunnel_node_fails("killed tunnel node", Cluster::kill, Cluster::start_node);
}

#[test]
#[ignore = "takes a few minutes"]
fn a_tunnel_node_without_power_costs_its_tunnels_seconds_and_all_is_true_again() {
    a_tunnel_node_fails(
        "powered-off tunnel node",
        |cluster, node| {
            // Its line first, so that nobody hears the end of its process.
            cluster.nodes[node].machine.cut();
            cluster.kill(node);
        },
        |cluster, node| {
            cluster.nodes[node].machine.mend();
            cluster.start_node(node);
        },
    );
}

#[test]
#[ignore = "takes a few minutes"]
fn a_tunnel_node_that_is_cut_off_costs_its_tunnels_seconds_and_all_is_true_again() {
    a_tunnel_node_fails(
        "cut-off tunnel node",
        |cluster, node| cluster.nodes[node].machine.cut(),
        |cluster, node| cluster.nodes[node].machine.mend(),
    );
}

/// The node that holds tunnels fails, in each region in turn, until it is declared dead; then it returns.
fn a_tunnel_node_fails(
    fault: &'static str,
    fail: impl Fn(&mut Cluster, usize),
    return_: impl Fn(&mut Cluster, usize),
) {
    let mut cluster = Cluster::start(REGIONS);
    let mut cost = Cost::of(fault);
    for turn in 0..turns() {
        let region = turn % REGIONS.len();
        let node = cluster.holder_in(region);
        let held = cluster.held_by(node);
        let since = Instant::now();
        fail(&mut cluster, node);
        cluster.wait_until_found_dead(node);
        cluster.wait_for_rows();
        return_(&mut cluster, node);
        cluster.wait_until_all_is_true();
        cost.add(cluster.readers.missed_since(since), &held);
        if turn == 0 {
            say_shown(fault, &cluster.watcher.changes_since(since));
        }
    }
    cost.say();
    assert!(cost.worst() < MOST_WITHOUT_ROWS, "{:?}", cost.worst());
}

#[test]
#[ignore = "takes a few minutes"]
fn a_killed_web_node_costs_no_row() {
    let mut cluster = Cluster::start(REGIONS);
    let fault = "killed web node";
    let mut cost = Cost::of(fault);
    for turn in 0..turns() {
        let node = WEB[turn % WEB.len()];
        let since = Instant::now();
        cluster.kill(node);
        // It leaves no tunnels to be noted as down.
        cluster.wait_until_heard(node, false);
        cluster.start_node(node);
        cluster.wait_until_all_is_true();
        cost.add(cluster.readers.missed_since(since), &[]);
        if turn == 0 {
            say_shown(fault, &cluster.watcher.changes_since(since));
        }
    }
    cost.say();
    assert_undisturbed(&cost);
}

#[test]
#[ignore = "takes more than ten minutes"]
fn postgresql_that_is_away_for_ten_minutes_costs_no_row() {
    let mut cluster = Cluster::start(REGIONS);
    let fault = "PostgreSQL stopped";
    let mut cost = Cost::of(fault);
    let since = Instant::now();
    cluster.standby.0.crash();
    cluster.primary.0.crash();
    std::thread::sleep(outage());
    let until = Instant::now();
    cluster.start_primary();
    cluster.wait_until_all_is_true();
    cost.add(cluster.readers.missed_since(since), &[]);
    let shown = cluster.watcher.changes_since(since);
    say_shown(fault, &shown);
    say_shown("PostgreSQL back", &cluster.watcher.changes_since(until));
    assert!(
        shown.iter().any(|change| change.ends_with("API: 503")),
        "{shown:?}"
    );
    assert!(
        !shown.iter().any(|change| change.ends_with("API: 500")),
        "{shown:?}"
    );
    cost.say();
    assert_undisturbed(&cost);
    assert_nobody_was_found_dead(&cluster);
}

#[test]
#[ignore = "takes a few minutes"]
fn postgresql_that_is_killed_and_replaced_by_its_standby_costs_no_row() {
    let cluster = Cluster::start(REGIONS);
    let fault = "PostgreSQL killed, its standby promoted";
    let mut cost = Cost::of(fault);
    let since = Instant::now();
    cluster.primary.0.crash();
    // Somebody finds out, and decides. Meanwhile the nodes find one that can only be read.
    std::thread::sleep(outage().min(Duration::from_secs(30)));
    let until = Instant::now();
    cluster.standby.0.promote();
    cluster.wait_until_all_is_true();
    cost.add(cluster.readers.missed_since(since), &[]);
    say_shown(fault, &cluster.watcher.changes_since(since));
    say_shown(
        "its standby promoted",
        &cluster.watcher.changes_since(until),
    );
    cost.say();
    assert_undisturbed(&cost);
    assert_nobody_was_found_dead(&cluster);
}

#[track_caller]
fn assert_undisturbed(cost: &Cost) {
    assert!(cost.worst() < UNDISTURBED, "{:?}", cost.worst());
    assert_eq!(cost.lost(), 0, "no connection is lost");
}

#[track_caller]
fn assert_nobody_was_found_dead(cluster: &Cluster) {
    for node in &cluster.nodes {
        assert!(!node.log().contains("declared dead"), "{}", node.log());
    }
}
