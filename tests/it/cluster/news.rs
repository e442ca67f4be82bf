//! How soon all nodes know that a tunnel was removed, or that a bastion has a new key.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::API_BASE;
use reqwest::Method;
use russh::keys::PrivateKey;
use serde_json::json;

use crate::cluster::crowd::{Bastion, Crowd, new_key, public};
use crate::cluster::installation::{Cluster, REGIONS, WEB};
use crate::cluster::node::SSH_PORT;
use crate::support::figures::say;
use crate::support::lab::tunnel_of;

/// How often each is done.
const TIMES: usize = 8;

/// How soon all nodes know: usually, and where the word of PostgreSQL is lost.
const TOLD: Duration = Duration::from_secs(5);
const UNTOLD: Duration = Duration::from_secs(25);

const ALL_UP: Duration = Duration::from_secs(60);

/// As the server makes it, without telling anybody.
const TELL_NOBODY: &str =
    "CREATE OR REPLACE FUNCTION note_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         INSERT INTO key_changes (tunnel_id, version) VALUES (NEW.id, nextval('key_versions'))
             ON CONFLICT (tunnel_id) DO UPDATE SET version = excluded.version;
         RETURN NULL;
     END $$";

#[test]
#[ignore = "takes a few minutes"]
fn a_removal_and_a_new_key_are_known_to_all_nodes_within_seconds_also_if_nothing_is_told() {
    let cluster = Cluster::start(REGIONS);
    let mut crowd = Crowd::enroll(&cluster, 4 * TIMES);
    let at = IpAddr::from(cluster.regions[0].balancer.address());
    let begun = Instant::now();
    crowd.connect(SocketAddr::from((at, SSH_PORT)));
    crowd.wait_until_up_since(begun, ALL_UP);
    let bastions: Vec<_> = crowd.bastions().collect();
    let (told, untold) = bastions.split_at(2 * TIMES);
    all_know(&cluster, &crowd, "told", told, TOLD);
    cluster.as_stored().execute(TELL_NOBODY);
    all_know(&cluster, &crowd, "untold", untold, UNTOLD);
}

fn all_know(cluster: &Cluster, crowd: &Crowd, how: &str, bastions: &[&Bastion], limit: Duration) {
    let (removed, rotated) = bastions.split_at(TIMES);
    let (mut closed, mut confirmed) = (Vec::new(), Vec::new());
    for bastion in removed {
        let begun = Instant::now();
        cluster.operator.delete_now(bastion.source.id);
        wait_within(limit, "its session to be closed", || !bastion.is_up());
        closed.push(begun.elapsed());
        wait_until_all_know(cluster, bastion, limit);
        confirmed.push(begun.elapsed());
        assert_let_in(cluster, crowd, &bastion.key(), false);
    }
    say_times(&format!("removal, {how}: its session is closed"), closed);
    say_times(&format!("removal, {how}: all nodes know"), confirmed);

    let (mut announced, mut confirmed) = (Vec::new(), Vec::new());
    for bastion in rotated {
        let (old, new) = (bastion.key(), new_key());
        let begun = Instant::now();
        key_call(cluster, bastion, Method::PUT, "", &public(&new));
        wait_until_all_know(cluster, bastion, limit);
        announced.push(begun.elapsed());
        assert_let_in(cluster, crowd, &new, true);
        bastion.use_key(&new);
        wait_within(ALL_UP, "its session with the new key", || bastion.is_up());
        let begun = Instant::now();
        key_call(cluster, bastion, Method::POST, "/confirm", &public(&new));
        wait_until_all_know(cluster, bastion, limit);
        confirmed.push(begun.elapsed());
        assert_let_in(cluster, crowd, &old, false);
        assert_let_in(cluster, crowd, &new, true);
    }
    say_times(&format!("new key, {how}: all nodes know it"), announced);
    say_times(&format!("old key, {how}: no node takes it"), confirmed);
}

fn key_call(cluster: &Cluster, bastion: &Bastion, method: Method, rest: &str, key: &str) {
    let api = cluster.api();
    let tunnel = tunnel_of(&bastion.source).id;
    let url = format!("{}{API_BASE}/tunnels/{tunnel}/public-key{rest}", api.url);
    let request = api
        .client()
        .request(method, url)
        .bearer_auth(&bastion.token);
    let answer = request.json(&json!({ "public_key": key })).send();
    let answer = answer.expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
}

#[track_caller]
fn wait_until_all_know(cluster: &Cluster, bastion: &Bastion, limit: Duration) {
    let nodes = cluster.nodes.len() - WEB.len();
    wait_within(limit, "all nodes to confirm it", || {
        let now = cluster.operator.data_source(bastion.source.id);
        let tunnel = tunnel_of(&now);
        tunnel.key_pending_on.is_empty() && tunnel.key_confirmed_by.len() == nodes
    });
}

/// The nodes of the tunnel's region let it in, and no other does; or nobody does.
#[track_caller]
fn assert_let_in(cluster: &Cluster, crowd: &Crowd, key: &Arc<PrivateKey>, expected: bool) {
    let own = cluster.regions[0].nodes;
    for (number, node) in cluster.nodes.iter().enumerate().skip(WEB.len()) {
        let at = SocketAddr::from((IpAddr::from(node.address()), SSH_PORT));
        let is_to_be = expected && own.contains(&number);
        assert_eq!(crowd.is_let_in(key, at), is_to_be, "{}", node.log());
    }
}

/// As `wait::until_true`, with less of a pause: what is measured is short.
#[track_caller]
fn wait_within(limit: Duration, what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn say_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    say(&format!(
        "{what}: {:.3} s at the median, {:.3} s at worst of {}",
        times[times.len() / 2].as_secs_f64(),
        times[times.len() - 1].as_secs_f64(),
        times.len()
    ));
}
