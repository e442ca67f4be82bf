//! A node that drains: its bastions go to another one, and nothing that runs through it is cut.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::DataSource;
use reqwest::StatusCode;
use rustix::process::Signal;

use super::cluster::{
    Balancer, Customer, LIMIT, LongConnection, SOON, holder, is_answered, node_state, nodes,
    of_name, of_node, readiness, two_nodes, with_flags,
};
use crate::support::lab::tunnel_of;
use crate::support::postgres::Postgres;
use crate::support::process;
use crate::support::server::Server;
use crate::support::wait;

/// A reconnect of ssh, on the busiest machine, and what other nodes need to see it.
const A_RECONNECT: Duration = Duration::from_secs(15);

/// Rows that somebody asks for ten times a second.
struct Rows {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Figures>,
}

struct Figures {
    asked: u32,
    failed: u32,
    /// The longest time without an answer.
    gap: Duration,
}

impl Rows {
    fn ask(address: &'static str, source: &DataSource) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let (stopped, source) = (Arc::clone(&stop), source.clone());
        let reader = std::thread::spawn(move || {
            let (mut asked, mut failed) = (0, 0);
            let (mut gap, mut last) = (Duration::ZERO, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                asked += 1;
                if is_answered(address, &source) {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                } else {
                    failed += 1;
                }
                std::thread::sleep(Duration::from_millis(100).saturating_sub(begun.elapsed()));
            }
            gap = gap.max(last.elapsed());
            Figures { asked, failed, gap }
        });
        Rows { stop, reader }
    }

    fn end(self) -> Figures {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.join().expect("it reads")
    }
}

fn is_let_in(server: &Server) -> bool {
    TcpStream::connect(&server.ssh).is_ok()
}

#[track_caller]
fn wait_until(nodes: [&Server; 2], what: &str, is_so: impl Fn() -> bool) {
    let evidence = || nodes.map(Server::log).join("\n");
    wait::until_true(what, LIMIT, evidence, is_so);
}

#[test]
fn a_rolling_restart_cuts_nothing_that_runs_and_costs_a_reconnect() {
    let (mut one, mut other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let port = tunnel_of(&source).remote_port.expect("a port");
    let balancer = Balancer::start(&one, &other, port);
    let ssh_port = balancer.ssh_port.to_string();
    let _ssh = customer.stay_connected([balancer.address, &ssh_port], &source);
    let everywhere = |one: &Server, other: &Server| {
        wait_until([one, other], "rows through each address", || {
            [balancer.address, "127.0.0.1", "127.0.0.2"]
                .iter()
                .all(|address| is_answered(address, &source))
        });
    };
    everywhere(&one, &other);
    let rows = Rows::ask(balancer.address, &source);
    // First the one that holds the tunnel, then the one to which it has gone.
    for _ in 0..2 {
        let name = holder(&one).expect("one that holds the tunnel");
        let (drained, stays) = match name.as_str() {
            "one" => (&mut one, &other),
            _ => (&mut other, &one),
        };
        // By way of both: one passes it on to the other.
        let mut long =
            ["127.0.0.1", "127.0.0.2"].map(|address| LongConnection::open(address, &source));
        drained.signal(Signal::TERM);
        wait_until([drained, stays], "nobody is let in", || !is_let_in(drained));
        assert_eq!(node_state(stays, &name).as_deref(), Some("draining"));
        assert_eq!(readiness(drained), StatusCode::SERVICE_UNAVAILABLE);
        let list = nodes(stays);
        assert_eq!(of_name(&list, &name)["state"], "draining", "{list:#}");
        assert_eq!(of_name(&list, &name)["tunnels"], 1, "it is not idle");
        for long in &mut long {
            assert!(long.is_answered(), "{}\n{}", drained.log(), stays.log());
        }
        drop(long);
        drained.wait(LIMIT).expect_code(0);
        assert_eq!(node_state(stays, &name).as_deref(), Some("stopped"));
        drained.start_again();
        everywhere(&one, &other);
    }
    let Figures { asked, failed, gap } = rows.end();
    println!("a rolling restart: {failed} of {asked} new connections failed, {gap:?} without rows");
    assert!(gap < A_RECONNECT, "{gap:?}");
}

#[test]
fn a_node_that_passes_connections_on_ends_after_them() {
    let (one, mut other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_until([&one, &other], "an answer by way of the other", || {
        is_answered("127.0.0.2", &source)
    });
    let mut long = LongConnection::open("127.0.0.2", &source);
    other.signal(Signal::TERM);
    wait_until([&one, &other], "its ports are closed", || {
        !is_answered("127.0.0.2", &source)
    });
    assert!(long.is_answered(), "{}", other.log());
    assert_eq!(node_state(&one, "other").as_deref(), Some("draining"));
    drop(long);
    other.wait(LIMIT).expect_code(0);
}

#[test]
fn a_second_signal_ends_a_node_at_once_that_drains() {
    for second in [Signal::TERM, Signal::INT] {
        let (mut one, other) = two_nodes(&Postgres::server_database());
        let customer = Customer::new();
        let source = customer.enroll(&one, "Shop");
        let _ssh = customer.connect(&one, &source);
        wait_until([&one, &other], "an answer", || {
            is_answered("127.0.0.2", &source)
        });
        let long = LongConnection::open("127.0.0.1", &source);
        one.signal(Signal::TERM);
        wait_until([&one, &other], "nobody is let in", || !is_let_in(&one));
        one.signal(second);
        one.wait(LIMIT).expect_code(0);
        assert!(long.wait_for_its_end(SOON));
        assert_eq!(node_state(&other, "one").as_deref(), Some("stopped"));
    }
}

#[test]
fn what_runs_on_is_cut_when_the_time_to_drain_is_over() {
    let database = Postgres::server_database();
    let flags = [&of_node("one", "127.0.0.1")[..], &["--drain-timeout", "2s"]].concat();
    let mut one = Server::start_on(&database, &flags);
    let other = one.start_beside(&of_node("other", "127.0.0.2"));
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_until([&one, &other], "an answer", || {
        is_answered("127.0.0.2", &source)
    });
    let long = LongConnection::open("127.0.0.1", &source);
    let asked = Instant::now();
    one.signal(Signal::TERM);
    assert!(long.wait_for_its_end(LIMIT));
    assert!(asked.elapsed() >= Duration::from_secs(2));
    one.wait(LIMIT).expect_code(0);
}

#[test]
fn a_node_without_another_ends_at_once() {
    // One of another region is none: bastions do not find it.
    let mut one = Server::start_on(&Postgres::server_database(), &of_node("one", "127.0.0.1"));
    let customer = Customer::new();
    let mut region = one.command("region");
    region.args(["add", "far", "--ssh-host", "far.example"]);
    process::run(&mut region, customer.folder.path(), "region").expect_code(0);
    let elsewhere = with_flags(&of_node("other", "127.0.0.2"), &["--region", "far"]);
    let other = one.start_beside(&elsewhere);
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_until([&one, &other], "an answer", || {
        is_answered("127.0.0.1", &source)
    });
    let long = LongConnection::open("127.0.0.1", &source);
    let mut drain = one.command("node");
    drain.args(["drain", "other"]);
    process::run(&mut drain, customer.folder.path(), "drain")
        .expect_code(0)
        .expect_words(&["no other node of its region", "node drain other --undo"]);
    one.stop().expect_code(0);
    assert!(long.wait_for_its_end(SOON));
}

#[test]
fn of_two_nodes_that_end_both_neither_waits_for_the_other() {
    let (mut one, mut other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_until([&one, &other], "an answer", || {
        is_answered("127.0.0.2", &source)
    });
    let long = LongConnection::open("127.0.0.1", &source);
    one.signal(Signal::TERM);
    wait_until([&one, &other], "nobody is let in", || !is_let_in(&one));
    other.signal(Signal::TERM);
    other.wait(LIMIT).expect_code(0);
    one.wait(LIMIT)
        .expect_code(0)
        .expect_words(&["can take the tunnels over any more"]);
    assert!(long.wait_for_its_end(SOON));
}

#[test]
fn a_node_that_is_asked_to_drain_sends_its_bastions_away_until_it_is_asked_not_to() {
    let (one, other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let ssh = customer.connect(&one, &source);
    wait_until([&one, &other], "an answer", || {
        is_answered("127.0.0.2", &source)
    });
    let ask = |arguments: &[&str]| {
        let mut node = other.command("node");
        node.arg("drain").args(arguments);
        process::run(&mut node, customer.folder.path(), "drain")
    };
    ask(&["one"]).expect_code(0).expect_words(&["one", "drain"]);
    // The bastion is told why, and finds another node.
    assert!(ssh.wait(LIMIT).output().contains("another one will take"));
    let _ssh = customer.connect(&other, &source);
    wait_until([&one, &other], "an answer by way of both", || {
        ["127.0.0.1", "127.0.0.2"]
            .iter()
            .all(|address| is_answered(address, &source))
    });
    assert!(!is_let_in(&one));
    assert_eq!(readiness(&one), StatusCode::SERVICE_UNAVAILABLE);

    ask(&["one", "--undo"])
        .expect_code(0)
        .expect_words(&["one", "not to drain"]);
    wait_until([&one, &other], "bastions are let in", || is_let_in(&one));
    assert_eq!(readiness(&one), StatusCode::OK);
    assert_eq!(node_state(&other, "one").as_deref(), Some("up"));
    ask(&["nobody", "--undo"])
        .expect_code(1)
        .expect_words(&["no node", "nobody"]);
}

#[test]
#[ignore = "takes a minute or two"]
fn a_rolling_restart_with_two_hundred_tunnels_sends_them_on_one_after_the_other() {
    const TUNNELS: i64 = 200;
    let database = Postgres::server_database();
    let ports = ["--ports", "19000-19199"];
    let mut one = Server::start_on(&database, &with_flags(&of_node("one", "127.0.0.1"), &ports));
    let mut other = one.start_beside(&with_flags(&of_node("other", "127.0.0.2"), &ports));
    let customer = Customer::new();
    let sources: Vec<_> = (0..TUNNELS)
        .map(|number| customer.enroll(&one, &format!("Shop {number}")))
        .collect();
    let first = &sources[0];
    let port = tunnel_of(first).remote_port.expect("a port");
    let balancer = Balancer::start(&one, &other, port);
    let ssh_port = balancer.ssh_port.to_string();
    let connect = |source| customer.stay_connected([balancer.address, &ssh_port], source);
    let _all: Vec<_> = sources.iter().map(connect).collect();
    let held = |server: &Server, query: &str| server.database().number(query);
    let all_are_held = |one: &Server, other: &Server| {
        wait_until([one, other], "all tunnels are held", || {
            held(other, "SELECT count(DISTINCT tunnel_id) FROM sessions") == TUNNELS
                && ["127.0.0.1", "127.0.0.2"]
                    .iter()
                    .all(|address| sources.iter().all(|source| is_answered(address, source)))
        });
    };
    all_are_held(&one, &other);
    let rows = Rows::ask(balancer.address, first);
    for name in ["one", "other"] {
        let (drained, stays) = match name {
            "one" => (&mut one, &other),
            _ => (&mut other, &one),
        };
        let here = format!("SELECT count(*) FROM sessions WHERE node = '{name}'");
        let tunnels = held(stays, &here);
        let mut long =
            ["127.0.0.1", "127.0.0.2"].map(|address| LongConnection::open(address, first));
        let asked = Instant::now();
        drained.signal(Signal::TERM);
        wait_until([drained, stays], "the idle ones have gone", || {
            held(stays, &here) <= 1
        });
        let took = asked.elapsed();
        for long in &mut long {
            assert!(long.is_answered(), "{}\n{}", drained.log(), stays.log());
        }
        println!("{tunnels} tunnels of {name} were sent on within {took:?}");
        let at_most = (tunnels - 1).max(0) as f64 / 200.0;
        assert!(took.as_secs_f64() > at_most, "more than 200 a second");
        drop(long);
        drained.wait(LIMIT).expect_code(0);
        drained.start_again();
        all_are_held(&one, &other);
    }
    let Figures { asked, failed, gap } = rows.end();
    println!("{failed} of {asked} new connections failed, {gap:?} without rows");
    assert!(gap < A_RECONNECT, "{gap:?}");
}
