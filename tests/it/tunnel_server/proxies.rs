//! Bastions behind a load balancer that speaks the PROXY protocol, and those who only pretend to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use holistics_tunnel::server::tunnel_server::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::ports::free_port;
use crate::tunnel_server::bastion::Ssh;
use crate::tunnel_server::database::Database;
use crate::tunnel_server::raw::{RawClient, RawKey, connect_from};
use crate::tunnel_server::vendor::{Vendor, connect, until};
use crate::tunnel_server::{SOON, assert_echo, log};

/// HAProxy in front of the tunnel server. Dropped, it ends.
struct Haproxy {
    address: SocketAddr,
    _process: Child,
}

impl Haproxy {
    /// One that says whose connections it hands on in this way.
    async fn start(vendor: &Vendor, says: &str) -> Self {
        let port = free_port();
        let conf = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 1h\n timeout server 1h\n\
             listen ssh\n bind 127.0.0.1:{port}\n server one {} {says}\n",
            vendor.server.ssh_address()
        );
        let file = vendor.dir.path().join(format!("haproxy-{port}.cfg"));
        std::fs::write(&file, conf).unwrap();
        let process = Command::new("/usr/sbin/haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        until("HAProxy listens", SOON, || {
            std::net::TcpStream::connect(address).is_ok()
        })
        .await;
        Haproxy {
            address,
            _process: process,
        }
    }
}

/// An address of this machine that counts as another peer.
fn address(d: u8) -> IpAddr {
    Ipv4Addr::new(127, 20, 1, d).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_behind_a_load_balancer_brings_its_tunnel_up_by_either_version() {
    let vendor = Vendor::start_behind(&["127.0.0.1"], Limits::default()).await;
    let database = Database::echo().await;
    for (id, says) in [(1, "send-proxy"), (2, "send-proxy-v2"), (3, "")] {
        let haproxy = Haproxy::start(&vendor, says).await;
        let tunnel = vendor.enroll(id);
        let alias = format!(
            "HostKeyAlias=[127.0.0.1]:{}",
            vendor.server.ssh_address().port()
        );
        let port = haproxy.address.port();
        let mut command = vendor.ssh_to(port, "ssh", &tunnel.key, &["-o", &alias, "-N"]);
        let forward = format!("127.0.0.1:{}:{}", tunnel.port, database.address);
        command.args(["-R", &forward, "tunnel@127.0.0.1"]);
        let _ssh = Ssh::spawn(command);
        until(says, SOON, || vendor.is_up(id)).await;
        assert_echo(&mut connect(&tunnel).await, "select 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_address_may_is_counted_by_the_bastion_and_not_by_the_load_balancer() {
    log::keep();
    let limits = Limits {
        unauthenticated_per_address: 2,
        ..Limits::default()
    };
    let vendor = Vendor::start_behind(&["127.0.0.1"], limits).await;
    let key = RawKey::generate();
    vendor.enroll_key(1, &key);
    let haproxy = Haproxy::start(&vendor, "send-proxy-v2").await;
    let mut talking = Vec::new();
    for _ in 0..2 {
        let stream = connect_from(address(1), haproxy.address).await.unwrap();
        talking.push(RawClient::connect(stream).await.unwrap());
    }
    let third = connect_from(address(1), haproxy.address).await.unwrap();
    assert!(RawClient::connect(third).await.is_err());
    let lines = log::lines_about(address(1));
    assert!(lines[0].contains("too many SSH connections"), "{lines:?}");

    let other = connect_from(address(2), haproxy.address).await.unwrap();
    let mut other = RawClient::connect(other).await.unwrap();
    other.exchange_keys().await.unwrap();
    other.authenticate(&key).await.unwrap();
}

/// How many connections came to no login for this reason.
fn reason(vendor: &Vendor, name: &str) -> u64 {
    let reasons = vendor.server.counters().unfinished.by_reason();
    let found = reasons.iter().find(|(reason, _)| *reason == name);
    found.expect("a reason that there is").1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_broken_slow_or_missing_ends_in_time_and_is_told() {
    log::keep();
    let proxy = address(10);
    let limits = Limits {
        identification_time: Duration::from_secs(1),
        ..Limits::default()
    };
    let vendor = Vendor::start_behind(&["127.20.1.10"], limits).await;
    for (name, sent) in [
        ("proxy_line", &b"PROXY TCP4 here there 1 2\r\n"[..]),
        (
            "proxy_line",
            &[b"PROXY TCP4 ".as_slice(), &[b'1'; 8_000]].concat(),
        ),
        ("late", b"PROXY TCP4 203.0.113.7 "),
        ("late", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
        ("nothing_sent", b""),
        ("late", b"PRO"),
    ] {
        let before = reason(&vendor, name);
        let mut stream = connect_from(proxy, vendor.server.ssh_address())
            .await
            .unwrap();
        stream.write_all(sent).await.unwrap();
        let end = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{}: it should have ended", sent.escape_ascii());
        until(name, SOON, || reason(&vendor, name) == before + 1).await;
    }
    assert!(!log::lines_about(proxy).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_header_that_waits_for_the_server_s_first_word_gets_it() {
    let vendor = Vendor::start_behind(&["127.20.1.13"], Limits::default()).await;
    let mut stream = connect_from(address(13), vendor.server.ssh_address())
        .await
        .unwrap();
    let mut greeting = [0; 8];
    let heard = timeout(SOON, stream.read_exact(&mut greeting)).await;
    heard.expect("a greeting should have come").unwrap();
    assert_eq!(&greeting, b"SSH-2.0-");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_header_is_refused_and_moves_nobody_s_count() {
    log::keep();
    let vendor = Vendor::start_behind(&["127.20.1.10"], Limits::default()).await;
    let stranger = address(11);
    let mut stream: TcpStream = connect_from(stranger, vendor.server.ssh_address())
        .await
        .unwrap();
    let sent = b"PROXY TCP4 127.20.1.12 127.0.0.1 1 2\r\nSSH-2.0-x\r\n";
    stream.write_all(sent).await.unwrap();
    let end = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "it should have ended");
    until("it is counted", SOON, || reason(&vendor, "proxy_line") == 1).await;
    let lines = log::lines_about(stranger);
    assert!(lines[0].contains("--trusted-proxy"), "{lines:?}");
    assert!(log::lines_about(address(12)).is_empty());
}
