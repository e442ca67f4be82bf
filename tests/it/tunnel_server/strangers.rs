//! Those who have not logged in, and those who have and do nothing: how many, and who makes room.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::tunnel_server::{Limits, SessionEvent, TunnelServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tunnel_server::bastion::Key;
use crate::tunnel_server::database::Database;
use crate::tunnel_server::raw::{self, RawClient, RawKey, connect_from};
use crate::tunnel_server::vendor::{Tunnel, Vendor, connect, until};
use crate::tunnel_server::{SOON, assert_echo, log};

/// An address of this machine that counts as another peer.
fn address(c: u8, d: u8) -> IpAddr {
    Ipv4Addr::new(127, 10, c, d).into()
}

async fn silent(vendor: &Vendor, from: IpAddr, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let stream = connect_from(from, vendor.server.ssh_address()).await;
        all.push(stream.unwrap());
    }
    all
}

async fn talking(vendor: &Vendor, from: IpAddr) -> std::io::Result<RawClient> {
    RawClient::connect(connect_from(from, vendor.server.ssh_address()).await?).await
}

fn reason(server: &TunnelServer, name: &str) -> u64 {
    let reasons = server.counters().unfinished.by_reason();
    let found = reasons.iter().find(|(reason, _)| *reason == name);
    found.expect("a reason that there is").1
}

fn enroll(vendor: &Vendor, id: i64, key: &RawKey) -> Tunnel {
    vendor.enroll_key(id, key)
}

// Before the login -------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_of_one_address_keep_out_nobody_of_another() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let _silent = silent(&vendor, address(1, 1), 300).await;
    let _also = silent(&vendor, address(1, 2), 300).await;
    let tunnel = vendor.enroll(1);
    let _ssh = vendor.up(&tunnel, database.address).await;
    assert_echo(&mut connect(&tunnel).await, "select 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_gets_in_beside_three_hundred_silent_connections_of_its_own_address() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let _silent = silent(&vendor, Ipv4Addr::LOCALHOST.into(), 300).await;
    let tunnel = vendor.enroll(1);
    // Each time, since ssh tries once and autossh waits.
    for _ in 0..5 {
        let ssh = vendor.up(&tunnel, database.address).await;
        assert_echo(&mut connect(&tunnel).await, "select 1").await;
        drop(ssh);
        until("the tunnel is down", SOON, || !vendor.is_up(1)).await;
    }
    assert!(reason(&vendor.server, "made_room") >= 300 - 128);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_of_very_many_addresses_keep_out_nobody() {
    let vendor = Vendor::start_with(Limits {
        unauthenticated: 40,
        unauthenticated_per_address: 10,
        ..Limits::default()
    })
    .await;
    let database = Database::echo().await;
    let mut all = Vec::new();
    for number in 1..=100 {
        all.extend(silent(&vendor, address(2, number), 1).await);
    }
    let tunnel = vendor.enroll(1);
    let _ssh = vendor.up(&tunnel, database.address).await;
    assert_echo(&mut connect(&tunnel).await, "select 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_the_middle_of_a_login_is_not_cut_off_for_others() {
    log::keep();
    let vendor = Vendor::start_with(Limits {
        unauthenticated_per_address: 3,
        ..Limits::default()
    })
    .await;
    let key = RawKey::generate();
    enroll(&vendor, 1, &key);
    let from = address(3, 1);
    let mut three = Vec::new();
    for _ in 0..3 {
        let mut client = talking(&vendor, from).await.unwrap();
        client.exchange_keys().await.unwrap();
        three.push(client);
    }
    for _ in 0..100 {
        assert!(
            talking(&vendor, from).await.is_err(),
            "too many are waiting"
        );
    }
    for client in &mut three {
        client.authenticate(&key).await.unwrap();
    }
    talking(&vendor, from).await.unwrap();
    assert_eq!(vendor.server.counters().refused.ssh_connections.get(), 100);

    let lines = log::lines_about(from);
    assert!(
        lines.len() <= 6,
        "a hundred refusals are a few lines: {lines:?}"
    );
    assert!(lines[0].contains("too many SSH connections"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_address_fills_the_log_with_hides_no_line_about_another() {
    log::keep();
    let vendor = Vendor::start().await;
    for _ in 0..50 {
        let mut loud = silent(&vendor, address(4, 1), 1).await.remove(0);
        loud.write_all(b"hello\n").await.unwrap();
        let _ = loud.read_to_end(&mut Vec::new()).await;
    }
    let mut other = silent(&vendor, address(4, 2), 1).await.remove(0);
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = other.read_to_end(&mut Vec::new()).await;
    until("the line is there", SOON, || {
        log::lines_about(address(4, 2)).len() == 1
    })
    .await;
    assert_eq!(log::lines_about(address(4, 1)).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_to_no_login_leaves_a_line_and_a_count_with_the_reason() {
    log::keep();
    let vendor = Vendor::start_with(Limits {
        identification_time: Duration::from_secs(1),
        ..Limits::default()
    })
    .await;
    let cases: [(&str, &[u8], &str); 8] = [
        (
            "proxy_line",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY protocol",
        ),
        (
            "proxy_line",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
            "PROXY protocol",
        ),
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
        ("tls", b"\x16\x03\x01\x00\x05hello", "TLS"),
        (
            "other_protocol",
            b"\x1b[31mhello\n",
            "SSH: \\x1b[31mhello\\n",
        ),
        ("nothing_sent", b"", "nothing was sent"),
        ("late", b"SSH-2.0-slow", "SSH-2.0-slow"),
        ("hung_up", b"SSH-2.0-Go\r\n", "SSH-2.0-Go"),
    ];
    for (number, (name, bytes, line)) in (1..).zip(cases) {
        let before = reason(&vendor.server, name);
        let mut stream = silent(&vendor, address(5, number), 1).await.remove(0);
        stream.write_all(bytes).await.unwrap();
        if name == "hung_up" {
            stream.shutdown().await.unwrap();
        }
        let end = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{name}: it should have been ended");
        assert_left(&vendor, address(5, number), name, before, line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_leaves_what_it_offered() {
    log::keep();
    let vendor = Vendor::start().await;
    let from = address(6, 1);
    let mut client = talking(&vendor, from).await.unwrap();
    let old = RawClient::kexinit("diffie-hellman-group1-sha1,\x1b]0;title\x07");
    client.send(old).await.unwrap();
    client.ended().await;
    let offered = "diffie-hellman-group1-sha1,\\x1b]0;title\\x07); it is SSH-2.0-raw";
    assert_left(&vendor, from, "no_common_algorithm", 0, offered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_leaves_its_fingerprint_its_address_and_the_reason_in_the_log() {
    log::keep();
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let stranger = Key::generate(vendor.dir.path(), "stranger", &["-t", "ed25519"]);
    let shown = std::process::Command::new("ssh-keygen")
        .arg("-lf")
        .arg(&stranger.private)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let fingerprint = shown.split(' ').nth(1).unwrap();
    let from = address(9, 1);
    let listen = format!("127.0.0.1:{}", tunnel.port);
    let bound = format!("BindAddress={from}");
    let ssh = vendor.forward(&stranger, &listen, database.address, &["-o", &bound]);
    let (status, text) = ssh.output().await;
    assert_eq!(status, Some(255), "{text}");
    until("the line is there", SOON, || {
        log::lines_about(from).iter().any(|line| {
            line.contains(fingerprint) && line.contains("refused a login: the key is not enrolled")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_too_many_keys_leaves_one_more_line() {
    log::keep();
    let vendor = Vendor::start().await;
    let from = address(6, 2);
    let mut client = talking(&vendor, from).await.unwrap();
    client.exchange_keys().await.unwrap();
    for _ in 0..7 {
        let _ = client.offer(&RawKey::generate()).await;
    }
    client.ended().await;
    drop(client);
    assert_left(&vendor, from, "too_many_attempts", 0, "too many keys").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_about_an_enrolled_key_again_and_again_is_disconnected() {
    let vendor = Vendor::start().await;
    let key = RawKey::generate();
    enroll(&vendor, 1, &key);
    let mut client = talking(&vendor, address(6, 3)).await.unwrap();
    client.exchange_keys().await.unwrap();
    for _ in 0..1_000 {
        if client.ask_about(&key).await.is_err() {
            break;
        }
    }
    client.ended().await;
    assert!(vendor.lookups() <= 12, "{} lookups", vendor.lookups());
}

async fn assert_left(vendor: &Vendor, from: IpAddr, name: &str, before: u64, line: &str) {
    until("it is counted", SOON, || {
        reason(&vendor.server, name) == before + 1
    })
    .await;
    let ours = "an SSH connection ended before its login";
    until("the line is there", SOON, || {
        let lines = log::lines_about(from);
        lines.iter().filter(|line| line.contains(ours)).count() == 1
    })
    .await;
    let lines = log::lines_about(from);
    let found = lines.iter().find(|line| line.contains(ours)).unwrap();
    assert!(found.contains(line), "{found}");
    assert!(!found.contains(char::is_control), "{found:?}");
}

// After the login --------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_key_s_oldest_session_without_a_port_makes_room() {
    let vendor = Vendor::start_with(Limits {
        spare_sessions_per_key: 2,
        ..Limits::default()
    })
    .await;
    let key = RawKey::generate();
    let tunnel = enroll(&vendor, 1, &key);
    let to = vendor.server.ssh_address();
    let mut holder = RawClient::login(to, &key).await.unwrap();
    assert!(holder.forward(tunnel.port).await.unwrap());
    let mut oldest = RawClient::login(to, &key).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..400 {
        others.push(RawClient::login(to, &key).await.unwrap());
    }
    oldest.ended().await;
    assert!(vendor.is_up(1));
    holder.sync().await.expect("it still answers");
    let counters = vendor.server.counters();
    assert_eq!(counters.ended.replaced.get(), 399);
    until("the others have ended", SOON, || {
        counters.sessions.get() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_that_holds_a_port_is_ended_for_another_of_its_key() {
    let vendor = Vendor::start_with(Limits {
        spare_sessions_per_key: 1,
        ..Limits::default()
    })
    .await;
    let key = RawKey::generate();
    let tunnels = [1, 2, 3].map(|id| enroll(&vendor, id, &key));
    let to = vendor.server.ssh_address();
    let mut holders = Vec::new();
    for tunnel in &tunnels {
        let mut holder = RawClient::login(to, &key).await.unwrap();
        assert!(holder.forward(tunnel.port).await.unwrap());
        holders.push(holder);
    }
    // The bound is two now, and three sessions are there.
    vendor.forget(&tunnels[0]);
    vendor.forget(&tunnels[1]);
    assert!(RawClient::login(to, &key).await.is_err());
    assert_eq!(vendor.server.counters().refused.sessions.get(), 1);
    assert_eq!(vendor.server.tunnels_up(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_never_gets_a_port_is_ended_and_one_that_has_one_is_not() {
    let vendor = Vendor::start_with(Limits {
        unused_session_time: Duration::from_secs(1),
        ..Limits::default()
    })
    .await;
    let key = RawKey::generate();
    let tunnel = enroll(&vendor, 1, &key);
    let to = vendor.server.ssh_address();
    let mut holder = RawClient::login(to, &key).await.unwrap();
    assert!(holder.forward(tunnel.port).await.unwrap());
    let mut unused = RawClient::login(to, &key).await.unwrap();
    unused.ended().await;
    assert_eq!(vendor.server.counters().ended.unused.get(), 1);
    holder.sync().await.expect("it still answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_flaps_its_port_is_slowed_and_nobody_else_is() {
    let mut vendor = Vendor::start().await;
    let database = Database::echo().await;
    let key = RawKey::generate();
    let flapping = enroll(&vendor, 1, &key);
    let other = vendor.enroll(2);
    let mut client = RawClient::login(vendor.server.ssh_address(), &key)
        .await
        .unwrap();
    for _ in 0..5_000 {
        client.put(raw::forward(flapping.port));
        client.put(raw::cancel(flapping.port));
    }
    client.flush().await.unwrap();
    until("it has to wait", SOON, || {
        vendor.server.counters().paced.get() > 0
    })
    .await;
    let _ssh = vendor.up(&other, database.address).await;
    assert_echo(&mut connect(&other).await, "select 1").await;
    // Had it not been slowed, the other's event would have been pushed out of the queue.
    let mut flaps = 0;
    while vendor.event().await != SessionEvent::Up(TunnelId(2)) {
        flaps += 1;
    }
    assert!(flaps < 200, "{flaps} events of the one that flaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_with_many_forwards_starts_without_a_pause() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let first = vendor.enroll(1);
    let forwards: Vec<_> = (2..=50)
        .map(|id| {
            let tunnel = vendor.enroll_key(id, Key::clone(&first.key));
            format!("127.0.0.1:{}:{}", tunnel.port, database.address)
        })
        .collect();
    let options: Vec<_> = forwards.iter().flat_map(|f| ["-R", f.as_str()]).collect();
    let _ssh = vendor.up_with(&first, database.address, &options).await;
    until("all are up", SOON, || vendor.server.tunnels_up() == 50).await;
    assert_eq!(vendor.server.counters().paced.get(), 0);
}
