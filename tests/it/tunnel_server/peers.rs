//! Several nodes: a connection to any of them reaches the tunnel, whoever holds it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holistics_tunnel::server::cluster::holders::{Held, Holders, Peer};
use holistics_tunnel::server::cluster::peer_link::identity::Identity;
use holistics_tunnel::server::cluster::peer_link::listener::Refused;
use holistics_tunnel::server::tunnel_server::{Limits, Peering};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::tunnel_server::database::{Database, expected};
use crate::tunnel_server::vendor::{Tunnel, Vendor, connect, until};
use crate::tunnel_server::{SOON, assert_echo, assert_ends, assert_whole_flood};

/// One node. The first listens on 127.0.0.1, so that [`connect`] leads to it; no two on the same address.
struct Node {
    vendor: Vendor,
    holders: Holders,
    /// As others know it.
    peer: Arc<Peer>,
}

impl Node {
    async fn start(number: u8) -> Self {
        Self::start_with(number, Limits::default()).await
    }

    async fn start_with(number: u8, limits: Limits) -> Self {
        let address = IpAddr::from([127, 0, 0, number]);
        let vendor = Vendor::start_on_with(address, limits).await;
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let identity = Identity::load_or_create(&vendor.dir.path().join("peer-link")).unwrap();
        let peer = Arc::new(Peer {
            node: format!("node-{number}"),
            region: "here".to_owned(),
            address: listener.local_addr().unwrap().to_string(),
            certificate: identity.hash(),
            draining: false,
        });
        let holders = Holders::default();
        let running = vendor.server.peer(Peering {
            listener,
            identity,
            region: "here".to_owned(),
            holders: holders.clone(),
        });
        let (running, _) = running.expect("it is one of several");
        tokio::spawn(running);
        Node {
            vendor,
            holders,
            peer,
        }
    }

    /// Tells it that these nodes hold a tunnel.
    fn holds(&self, tunnel: &Tunnel, peers: &[&Arc<Peer>]) {
        self.holders.replace(vec![Held {
            tunnel: tunnel.id,
            port: tunnel.port,
            is_here: true,
            peers: peers.iter().map(|&peer| Arc::clone(peer)).collect(),
        }]);
    }

    /// Tells it which nodes there are.
    fn knows(&self, peers: &[&Node]) {
        let certificates = peers.iter().map(|node| node.peer.certificate);
        self.holders.replace_peers(certificates);
    }
}

/// The first node, and a second that holds the tunnels.
async fn two_nodes() -> (Node, Node) {
    two_nodes_with(Limits::default()).await
}

async fn two_nodes_with(limits: Limits) -> (Node, Node) {
    let (front, holder) = (Node::start(1).await, Node::start_with(2, limits).await);
    front.knows(&[&holder]);
    holder.knows(&[&front]);
    (front, holder)
}

/// Makes the first node listen for the second. Nothing is left of the connection that has shown it.
async fn front(front: &Node, holder: &Node, tunnel: &Tunnel) {
    let fronted = &front.vendor.server.counters().fronted;
    let came = || {
        let to_nothing = fronted.not_held.get() + fronted.full.get() + fronted.unanswered.get();
        fronted.passed_on.get() + to_nothing
    };
    let before = came();
    front.holds(tunnel, &[&holder.peer]);
    until("the port is listened on", SOON, || is_open(tunnel)).await;
    let connections = &holder.vendor.server.counters().connections;
    until("nothing is left", SOON, || {
        came() > before && fronted.open.get() == 0 && connections.get() == 0
    })
    .await;
}

fn is_open(tunnel: &Tunnel) -> bool {
    std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port)).is_ok()
}

async fn refused(tunnel: &Tunnel) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, tunnel.port));
    until("the port is closed", SOON, || {
        std::net::TcpStream::connect(address)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
}

/// Wants the connection to end by a reset: nothing may take it for a regular end.
async fn assert_reset(connection: &mut TcpStream, cut: &str) {
    let mut buffer = vec![0; 1 << 20];
    let started = Instant::now();
    let mut read = 0;
    while started.elapsed() < SOON {
        match timeout(SOON, connection.read(&mut buffer)).await {
            Ok(Ok(0)) => panic!("{cut}: it looks as if it were complete"),
            Ok(Ok(bytes)) => read += bytes,
            Ok(Err(error)) => {
                return assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{cut}");
            }
            Err(_) => break,
        }
    }
    panic!("{cut}: it should have ended and has not, after {read} bytes more");
}

/// Wants a new connection to come to nothing.
async fn assert_comes_to_nothing(tunnel: &Tunnel) {
    // It may end before the connect itself has returned.
    if let Ok(mut connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port)).await {
        assert_ends(&mut connection).await;
    }
}

// The bytes ------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_any_node_reaches_the_database_and_is_counted_where_the_tunnel_is() {
    let (one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    one.vendor.server.activity().take();
    two.vendor.server.activity().take();
    let fronted = &one.vendor.server.counters().fronted;
    let before = fronted.passed_on.get();

    let mut connection = connect(&tunnel).await;
    for round in 0..20 {
        assert_echo(&mut connection, &format!("select {round}")).await;
    }
    assert_eq!(fronted.passed_on.get(), before + 1);
    assert_eq!(fronted.open.get(), 1);
    assert!(!one.vendor.is_up(1), "it has no session of its own");
    drop(connection);
    until("nothing is left", SOON, || fronted.open.get() == 0).await;
    let connections = &two.vendor.server.counters().connections;
    until("nor there", SOON, || connections.get() == 0).await;

    assert!(one.vendor.server.activity().take().tunnels.is_empty());
    let at_holder = two.vendor.server.activity().take().tunnels;
    assert_eq!(at_holder.len(), 1);
    assert_eq!(at_holder[0].connections, 1);
    assert!(at_holder[0].bytes_to_bastion >= 20 * 8, "{at_holder:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_may_have_said_everything_first() {
    let (one, two) = two_nodes().await;
    let (count, goodbye) = (Database::count().await, Database::goodbye().await);
    let tunnel = two.vendor.enroll(1);
    let ssh = two.vendor.up(&tunnel, count.address).await;
    front(&one, &two, &tunnel).await;
    let mut connection = connect(&tunnel).await;
    connection.write_all(&vec![7; 3 << 20]).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    let read = timeout(SOON, connection.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(answer, "3145728 bytes");
    drop(ssh);
    until("the tunnel is down", SOON, || !two.vendor.is_up(1)).await;

    let _ssh = two.vendor.up(&tunnel, goodbye.address).await;
    let mut connection = connect(&tunnel).await;
    let mut answer = String::new();
    let read = timeout(SOON, connection.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(answer, "goodbye");
    connection.write_all(&vec![7; 3 << 20]).await.unwrap();
    drop(connection);
    until("all of it has arrived", SOON, || {
        goodbye.sent.load(Ordering::Relaxed) == 3 << 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_closes_ends_the_connection_to_another_node_too() {
    let (one, two) = two_nodes().await;
    let database = Database::goodbye_and_close().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    let mut connection = connect(&tunnel).await;
    let mut answer = String::new();
    let read = timeout(SOON, connection.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(answer, "goodbye");
    // The client has not closed its side, and finds nobody there when it says more.
    let fronted = &one.vendor.server.counters().fronted;
    until("nothing is left of it", SOON, || {
        let _ = connection.try_write(b"more");
        fronted.open.get() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_arrives_whole_through_another_node() {
    let (one, two) = two_nodes().await;
    let flood = Database::flood(50 << 20).await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, flood.address).await;
    front(&one, &two, &tunnel).await;
    assert_whole_flood(&mut connect(&tunnel).await, 50 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_arrives_whole_through_another_node() {
    let (one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    const BYTES: usize = 50 << 20;
    let (mut reader, mut writer) = connect(&tunnel).await.into_split();
    let sending = tokio::spawn(async move {
        let block: Vec<u8> = (0..64 << 10).map(expected).collect();
        for _ in 0..BYTES / block.len() {
            writer.write_all(&block).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        writer
    });
    let mut received = Vec::with_capacity(BYTES);
    let read = timeout(Duration::from_secs(60), reader.read_to_end(&mut received)).await;
    read.expect("it should go on").unwrap();
    sending.await.unwrap();
    assert_eq!(received.len(), BYTES);
    assert!((0..).zip(&received).all(|(at, &byte)| byte == expected(at)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_behind_another_node_holds_up_nobody_else() {
    let (one, two) = two_nodes().await;
    let flood = Database::flood(u64::MAX).await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, flood.address).await;
    front(&one, &two, &tunnel).await;
    let mut stalled = connect(&tunnel).await;
    until_still(&flood).await;
    let mut other = connect(&tunnel).await;
    let mut block = vec![0; 20 << 20];
    let read = timeout(SOON * 4, other.read_exact(&mut block)).await;
    read.expect("the other goes on").unwrap();
    let read = timeout(SOON * 4, stalled.read_exact(&mut block)).await;
    read.expect("it goes on when it is read").unwrap();
    assert!((0..).zip(&block).all(|(at, &byte)| byte == expected(at)));
}

/// Waits until a flood is stopped by those who do not read it.
async fn until_still(flood: &Database) {
    let mut sent = 0;
    for _ in 0..60 {
        let before = std::mem::replace(&mut sent, flood.sent.load(Ordering::Relaxed));
        if before > 0 && before == sent {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the database still sends");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_at_the_holder_never_looks_complete() {
    let (one, two) = two_nodes().await;
    let flood = Database::flood(u64::MAX).await;
    let tunnel = two.vendor.enroll(1);
    for cut in [
        "the bastion vanishes",
        "the tunnel is closed",
        "the node ends",
    ] {
        let mut ssh = two.vendor.up(&tunnel, flood.address).await;
        front(&one, &two, &tunnel).await;
        let mut connection = connect(&tunnel).await;
        connection.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        match cut {
            "the bastion vanishes" => ssh.signal(Signal::KILL),
            "the tunnel is closed" => two.vendor.server.close_tunnel(tunnel.id).await,
            _ => {
                until_still(&flood).await;
                drop(two);
                until("its bastion is ended", SOON * 4, || ssh.has_ended()).await;
                assert_reset(&mut connection, cut).await;
                return;
            }
        }
        assert_reset(&mut connection, cut).await;
        until("the tunnel is down", SOON, || !two.vendor.is_up(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_ends_its_connection_at_the_holder() {
    let (one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    let mut connection = connect(&tunnel).await;
    assert_echo(&mut connection, "before").await;
    let connections = &two.vendor.server.counters().connections;
    until("only this one is left", SOON, || connections.get() == 1).await;
    socket2::SockRef::from(&connection)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(connection);
    until("it has ended", SOON, || connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_said_last_arrives_though_the_client_still_talks_when_it_has_closed() {
    const BYTES: u64 = 1 << 20;
    let (one, two) = two_nodes().await;
    let database = Database::flood(BYTES).await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    let counters = two.vendor.server.counters();
    for (way, address) in [
        ("through another node", Ipv4Addr::new(127, 0, 0, 1)),
        ("at the node itself", Ipv4Addr::new(127, 0, 0, 2)),
    ] {
        until("nothing is left", SOON, || counters.connections.get() == 0).await;
        let before = counters.from_bastions.get();
        let connected = TcpStream::connect((address, tunnel.port)).await;
        let mut connection = connected.unwrap();
        until("everything is at the holder's system", SOON, || {
            counters.from_bastions.get() == before + BYTES
        })
        .await;
        // The bastion finds nobody at the database to say this to, and closes, too.
        for _ in 0..50 {
            let _ = connection.try_write(b"more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut result = Vec::new();
        let read = timeout(SOON * 4, connection.read_to_end(&mut result)).await;
        let read = read.unwrap_or_else(|_| panic!("{way}: it has not ended"));
        assert!(read.is_ok(), "{way}: {read:?} after {} bytes", result.len());
        assert_eq!(result.len() as u64, BYTES, "{way}");
    }
}

// Who is asked ---------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_nobody_holds_any_more_is_closed() {
    let (one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    let mut connection = connect(&tunnel).await;
    assert_echo(&mut connection, "before").await;
    drop(ssh);
    assert_ends(&mut connection).await;
    until("the tunnel is down", SOON, || !two.vendor.is_up(1)).await;

    // The table does not know it yet: the holder says so, and nobody else is asked.
    let fronted = &one.vendor.server.counters().fronted;
    assert_comes_to_nothing(&tunnel).await;
    until("it is counted", SOON, || fronted.not_held.get() > 0).await;
    one.holders.replace(Vec::new());
    refused(&tunnel).await;
}

/// Accepts connections and says nothing.
async fn silent_peer() -> (Peer, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            kept.push(socket);
        }
    });
    let peer = Peer {
        node: "silent".to_owned(),
        region: "here".to_owned(),
        address,
        certificate: [7; 32],
        draining: false,
    };
    (peer, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_costs_a_second_once_and_is_asked_last_then() {
    let (one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    let (silent, asked) = silent_peer().await;
    // It comes first by its region.
    let far = Arc::new(Peer {
        region: "elsewhere".to_owned(),
        ..Peer::clone(&two.peer)
    });
    let listening = Instant::now();
    one.holds(&tunnel, &[&Arc::new(silent), &far]);
    let mut connection = loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port)).await {
            Ok(connection) => break connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        assert!(listening.elapsed() < SOON);
    };
    let started = Instant::now();
    assert_echo(&mut connection, "first").await;
    let first = started.elapsed();
    assert!(first < Duration::from_millis(1_900), "{first:?}");
    assert!(asked.load(Ordering::Relaxed) > 0);
    assert_eq!(one.vendor.server.counters().suspects.get(), 1);
    for round in 0..20 {
        let started = Instant::now();
        assert_echo(&mut connect(&tunnel).await, "next").await;
        let next = started.elapsed();
        assert!(next < Duration::from_millis(700), "{round}: {next:?}");
    }
    // It is asked when there is nobody else, and answers nothing then either.
    drop(two);
    assert_comes_to_nothing(&tunnel).await;
    let fronted = &one.vendor.server.counters().fronted;
    until("it is counted", SOON, || fronted.unanswered.get() > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_the_region_and_those_that_stay_are_asked_first() {
    let (one, two) = two_nodes().await;
    let three = Node::start(3).await;
    three.knows(&[&one]);
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let key = tunnel.key.clone();
    three.vendor.enroll_as(1, key, tunnel.port);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    let _other_ssh = three.vendor.up(&tunnel, database.address).await;
    let accepted = |node: &Node| node.vendor.server.counters().by_peers.accepted.get();
    let but = |node: &Node, change: fn(&mut Peer)| {
        let mut peer = Peer::clone(&node.peer);
        change(&mut peer);
        Arc::new(peer)
    };
    let far: fn(&mut Peer) = |peer| peer.region = "elsewhere".to_owned();
    let draining: fn(&mut Peer) = |peer| peer.draining = true;
    for (worse, change) in [
        (&two, far),
        (&three, far),
        (&two, draining),
        (&three, draining),
    ] {
        let better = if std::ptr::eq(worse, &two) {
            &three
        } else {
            &two
        };
        one.holds(&tunnel, &[&but(worse, change), &better.peer]);
        until("the port is open", SOON, || is_open(&tunnel)).await;
        let before = (accepted(worse), accepted(better));
        for _ in 0..5 {
            assert_echo(&mut connect(&tunnel).await, "select 1").await;
        }
        assert_eq!(accepted(worse), before.0);
        assert!(accepted(better) >= before.1 + 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_full_refuses_what_another_node_passes_on_too() {
    let limits = Limits {
        forwarded_per_session: 1,
        ..Limits::default()
    };
    let (one, two) = two_nodes_with(limits).await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    let connections = &two.vendor.server.counters().connections;
    until("only the test is left", SOON, || connections.get() == 0).await;
    let mut first = connect(&tunnel).await;
    assert_echo(&mut first, "select 1").await;
    assert_comes_to_nothing(&tunnel).await;
    let fronted = &one.vendor.server.counters().fronted;
    until("it is counted", SOON, || fronted.full.get() == 1).await;
    assert_echo(&mut first, "select 2").await;
    assert_eq!(two.vendor.server.counters().refused.connections.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_holders_do_not_answer_has_a_bound_and_others_are_not_held_up() {
    let limits = Limits {
        forwarded_per_session: 8,
        ..Limits::default()
    };
    let (one, two) = (Node::start_with(1, limits).await, Node::start(2).await);
    two.knows(&[&one]);
    let database = Database::echo().await;
    let (tunnel, other) = (two.vendor.enroll(1), two.vendor.enroll(2));
    let _ssh = two.vendor.up(&other, database.address).await;
    let mut silent = Vec::new();
    for number in 0..4 {
        let peer = silent_peer().await.0;
        let certificate = [number; 32];
        silent.push(Arc::new(Peer {
            certificate,
            ..peer
        }));
    }
    let held = |tunnel: &Tunnel, peers: Vec<Arc<Peer>>| Held {
        is_here: true,
        tunnel: tunnel.id,
        port: tunnel.port,
        peers,
    };
    one.holders.replace(vec![
        held(&tunnel, silent),
        held(&other, vec![Arc::clone(&two.peer)]),
    ]);
    until("the ports are listened on", SOON, || {
        is_open(&tunnel) && is_open(&other)
    })
    .await;
    let fronted = &one.vendor.server.counters().fronted;
    let mut waiting = Vec::new();
    until("it has its fill", SOON, || {
        let address = (Ipv4Addr::LOCALHOST, tunnel.port);
        waiting.extend(std::net::TcpStream::connect(address));
        fronted.too_many.get() > 0
    })
    .await;
    for _ in 0..5 {
        assert_echo(&mut connect(&other).await, "select 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_know_each_other_carry_nothing() {
    let (one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;

    // The holder does not know the other.
    two.holders.replace_peers(Vec::new());
    front(&one, &two, &tunnel).await;
    assert_comes_to_nothing(&tunnel).await;
    let by_peers = &two.vendor.server.counters().by_peers;
    until("it is counted", SOON, || {
        by_peers.refused(Refused::Stranger).get() > 0
    })
    .await;
    assert_eq!(by_peers.accepted.get(), 0);

    // Somebody else answers at the holder's address.
    two.knows(&[&one]);
    let impostor = Arc::new(Peer {
        certificate: [7; 32],
        ..Peer::clone(&two.peer)
    });
    one.holds(&tunnel, &[&impostor]);
    assert_comes_to_nothing(&tunnel).await;
    assert_eq!(by_peers.accepted.get(), 0);

    // And with the right ones it works.
    one.holds(&tunnel, &[&two.peer]);
    assert_echo(&mut connect(&tunnel).await, "select 1").await;
}

// A port that passes over ----------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_port_passes_between_another_node_and_an_own_session_without_being_closed() {
    let (mut one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    one.vendor.enroll_as(1, tunnel.key.clone(), tunnel.port);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    front(&one, &two, &tunnel).await;
    let mut under_way = connect(&tunnel).await;
    assert_echo(&mut under_way, "before").await;

    let is_over = Arc::new(AtomicBool::new(false));
    let (stop, address) = (Arc::clone(&is_over), (Ipv4Addr::LOCALHOST, tunnel.port));
    let connections = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&connections);
    let connecting = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::net::TcpStream::connect(address)?;
            made.fetch_add(1, Ordering::Relaxed);
            // Often enough to meet a gap, and no flood: each costs a handshake.
            std::thread::sleep(Duration::from_millis(20));
        }
        std::io::Result::Ok(())
    });
    let mut turns = 0;
    while turns < 3 || (connections.load(Ordering::Relaxed) < 20 && !connecting.is_finished()) {
        turns += 1;
        let accepted = two.vendor.server.counters().by_peers.accepted.get();
        let own_ssh = one.vendor.up(&tunnel, database.address).await;
        let mut own = connect(&tunnel).await;
        assert_echo(&mut own, "by the own session").await;
        assert_echo(&mut under_way, "not cut by it").await;
        one.vendor.event().await;

        drop(own_ssh);
        assert_ends(&mut own).await;
        until("the own session is gone", SOON, || !one.vendor.is_up(1)).await;
        one.vendor.event().await;
        assert_echo(&mut connect(&tunnel).await, "by the other again").await;
        assert!(two.vendor.server.counters().by_peers.accepted.get() > accepted);
    }
    is_over.store(true, Ordering::Relaxed);
    let connected = connecting.join().unwrap();
    connected.unwrap_or_else(|error| panic!("{error} after {connections:?} connections"));
    assert_echo(&mut under_way, "to its end").await;
    one.holders.replace(Vec::new());
    refused(&tunnel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_accepted_before_the_session_moved_here_is_carried_by_it() {
    let one = Node::start(1).await;
    let database = Database::echo().await;
    let tunnel = one.vendor.enroll(1);
    let mut silent = Vec::new();
    for number in 0..4 {
        let peer = silent_peer().await.0;
        let certificate = [number; 32];
        silent.push(Arc::new(Peer {
            certificate,
            ..peer
        }));
    }
    one.holds(&tunnel, &silent.iter().collect::<Vec<_>>());
    until("the port is listened on", SOON, || is_open(&tunnel)).await;
    let mut connection = connect(&tunnel).await;
    let _ssh = one.vendor.up(&tunnel, database.address).await;
    assert_echo(&mut connection, "select 1").await;
    assert!(one.vendor.server.counters().fronted.own.get() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_program_uses_is_listened_on_when_it_is_free() {
    let (one, two) = two_nodes().await;
    let database = Database::echo().await;
    let tunnel = two.vendor.enroll(1);
    let _ssh = two.vendor.up(&tunnel, database.address).await;
    let squatter = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, tunnel.port)).unwrap();
    one.holds(&tunnel, &[&two.peer]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(squatter);
    until("the port is listened on", SOON, || is_open(&tunnel)).await;
    assert_echo(&mut connect(&tunnel).await, "select 1").await;
}
