//! Every node is restarted, one after another, as for an upgrade.

use std::time::{Duration, Instant};

use crate::cluster::figures::{Cost, say_shown};
use crate::cluster::installation::{Cluster, REGIONS};
use crate::support::figures::say;

/// How long a node may take to end.
const END: Duration = Duration::from_secs(120);

/// What a restart may cost a tunnel.
const MOST_WITHOUT_ROWS: Duration = Duration::from_secs(15);

#[test]
#[ignore = "takes a few minutes"]
fn a_rolling_restart_of_all_nodes_costs_each_tunnel_seconds_at_most() {
    let mut cluster = Cluster::start(REGIONS);
    let fault = "rolling restart of all nodes";
    let mut cost = Cost::of(fault);
    let begun = Instant::now();
    for node in 0..cluster.nodes.len() {
        let held = cluster.held_by(node);
        let since = Instant::now();
        cluster.nodes[node].ask_to_end();
        cluster.nodes[node].wait_for_end(END).expect_code(0);
        say(&format!(
            "{} ended after {:.1} s",
            cluster.nodes[node].name(),
            since.elapsed().as_secs_f64()
        ));
        cluster.start_node(node);
        cluster.wait_until_all_is_true();
        cost.add(cluster.readers.missed_since(since), &held);
    }
    say_shown(fault, &cluster.watcher.changes_since(begun));
    cost.say();
    assert!(cost.worst() < MOST_WITHOUT_ROWS, "{:?}", cost.worst());
}
