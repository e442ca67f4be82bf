//! The tunnel server as a bastion's OpenSSH and the vendor's programs see it.

mod bastion;
mod database;
mod exchanges;
mod log;
mod long;
mod memory;
mod misuse;
mod peers;
mod proxies;
mod raw;
mod strangers;
mod vendor;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::tunnel_server::SessionEvent;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use bastion::{Key, Ssh};
use database::{Database, expected};
use vendor::{Vendor, connect, until};

use crate::support::ports::{free_port, is_free};

const SOON: Duration = Duration::from_secs(5);

/// Sends a line and wants it back.
async fn assert_echo(connection: &mut TcpStream, line: &str) {
    connection.write_all(line.as_bytes()).await.unwrap();
    let mut answer = vec![0; line.len()];
    timeout(SOON, connection.read_exact(&mut answer))
        .await
        .expect("an answer should have come")
        .unwrap();
    assert_eq!(answer, line.as_bytes());
}

/// Wants the connection to end, one way or the other.
async fn assert_ends(connection: &mut TcpStream) {
    let end = timeout(SOON, connection.read(&mut [0; 16])).await;
    assert!(
        matches!(end, Ok(Ok(0) | Err(_))),
        "the connection should have ended: {end:?}"
    );
}

// What a tunnel is for -------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn the_database_answers_on_the_tunnels_own_port() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let _ssh = vendor.up(&tunnel, database.address).await;
    assert_echo(&mut connect(&tunnel).await, "select 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_the_forward_address_works_and_no_other_does() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    for name in ["*:", "localhost:", "127.0.0.1:", ""] {
        let listen = format!("{name}{}", tunnel.port);
        let ssh = vendor.forward(&tunnel.key, &listen, database.address, &[]);
        until("the tunnel is up", SOON, || vendor.is_up(1)).await;
        assert_echo(&mut connect(&tunnel).await, "select 1").await;
        drop(ssh);
        until("the tunnel is down", SOON, || !vendor.is_up(1)).await;
    }
    for name in ["0.0.0.0:", "10.1.2.3:", "db.example.com:", "[::1]:"] {
        let listen = format!("{name}{}", tunnel.port);
        let ssh = vendor.forward(&tunnel.key, &listen, database.address, &[]);
        let (status, text) = ssh.output().await;
        assert_eq!(status, Some(255), "{name} {text}");
        assert!(text.contains("remote port forwarding failed"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_listens_elsewhere_knows_that_address_too() {
    let database = Database::echo().await;
    for (forward, name, connect_to) in [
        ("::1", "[::1]", Ipv6Addr::LOCALHOST.into()),
        ("::1", "*", Ipv6Addr::LOCALHOST.into()),
        ("0.0.0.0", "0.0.0.0", IpAddr::from(Ipv4Addr::LOCALHOST)),
        ("127.0.0.2", "127.0.0.2", [127, 0, 0, 2].into()),
    ] {
        let vendor = Vendor::start_on(forward.parse().unwrap()).await;
        let tunnel = vendor.enroll(1);
        let listen = format!("{name}:{}", tunnel.port);
        let _ssh = vendor.forward(&tunnel.key, &listen, database.address, &[]);
        until(name, SOON, || vendor.is_up(1)).await;
        let mut connection = TcpStream::connect((connect_to, tunnel.port)).await.unwrap();
        assert_echo(&mut connection, "select 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_that_bastions_have_are_accepted() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let kinds: [(&str, &[&str]); 4] = [
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("ed25519", &["-t", "ed25519"]),
        ("ecdsa-256", &["-t", "ecdsa", "-b", "256"]),
        ("ecdsa-384", &["-t", "ecdsa", "-b", "384"]),
    ];
    for (id, (name, arguments)) in (1..).zip(kinds) {
        let key = Key::generate(vendor.dir.path(), name, arguments);
        let tunnel = vendor.enroll_key(id, key);
        let _ssh = vendor.up(&tunnel, database.address).await;
        assert_echo(&mut connect(&tunnel).await, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_few_algorithms_can_connect() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    for options in [
        // OpenSSH 7.4 offers these first.
        "KexAlgorithms=curve25519-sha256@libssh.org Ciphers=chacha20-poly1305@openssh.com",
        // A host in FIPS mode.
        "KexAlgorithms=ecdh-sha2-nistp256 Ciphers=aes256-gcm@openssh.com HostKeyAlgorithms=ecdsa-sha2-nistp256",
        "KexAlgorithms=diffie-hellman-group14-sha256 Ciphers=aes128-ctr MACs=hmac-sha2-256 HostKeyAlgorithms=ecdsa-sha2-nistp256",
        "Ciphers=aes128-gcm@openssh.com",
    ] {
        let options: Vec<&str> = options.split(' ').flat_map(|o| ["-o", o]).collect();
        let ssh = vendor.up_with(&tunnel, database.address, &options).await;
        assert_echo(&mut connect(&tunnel).await, "select 1").await;
        drop(ssh);
        until("the tunnel is down", SOON, || !vendor.is_up(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tunnels_of_one_bastion_are_independent() {
    let vendor = Vendor::start().await;
    let (one, two) = (Database::echo().await, Database::echo().await);
    let first = vendor.enroll(1);
    let second = vendor.enroll_key(2, first.key.clone());
    let _ssh_one = vendor.up(&first, one.address).await;
    let _ssh_two = vendor.up(&second, two.address).await;
    let mut held_open = connect(&second).await;
    assert_echo(&mut held_open, "before").await;

    vendor.server.close_tunnel(TunnelId(1)).await;
    assert!(!vendor.is_up(1));
    assert!(vendor.is_up(2));
    assert_echo(&mut held_open, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tunnels_through_one_ssh_are_independent() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let first = vendor.enroll(1);
    let second = vendor.enroll_key(2, first.key.clone());
    let forward = format!("127.0.0.1:{}:{}", second.port, database.address);
    let mut ssh = vendor
        .up_with(&first, database.address, &["-R", &forward])
        .await;
    until("both are up", SOON, || vendor.is_up(2)).await;
    let mut held_open = connect(&second).await;
    assert_echo(&mut held_open, "before").await;

    vendor.server.close_tunnel(TunnelId(1)).await;
    assert_echo(&mut held_open, "after").await;
    assert!(!ssh.has_ended());

    vendor.server.close_tunnel(TunnelId(2)).await;
    assert_ends(&mut held_open).await;
    until("ssh ends with its last tunnel", SOON, || ssh.has_ended()).await;
}

// What is refused ------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn another_port_than_the_keys_own_is_refused() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let (mine, other) = (vendor.enroll(1), vendor.enroll(2));
    for port in [other.port, 22, 0] {
        let listen = format!("127.0.0.1:{port}");
        let ssh = vendor.forward(&mine.key, &listen, database.address, &[]);
        let (status, text) = ssh.output().await;
        assert_eq!(status, Some(255), "port {port}: {text}");
    }
    assert!(!vendor.is_up(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_enrolled_is_refused() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let stranger = Key::generate(vendor.dir.path(), "stranger", &["-t", "ed25519"]);
    let listen = format!("127.0.0.1:{}", tunnel.port);
    let started = Instant::now();
    let ssh = vendor.forward(&stranger, &listen, database.address, &[]);
    let (status, text) = ssh.output().await;
    assert_eq!(status, Some(255));
    assert!(text.contains("Permission denied (publickey)"), "{text}");
    assert!(started.elapsed() < SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_name_is_refused() {
    let vendor = Vendor::start().await;
    let tunnel = vendor.enroll(1);
    let mut command = vendor.ssh("ssh", &tunnel.key, &["-N"]);
    command.arg("root@127.0.0.1");
    let (status, text) = Ssh::spawn(command).output().await;
    assert_eq!(status, Some(255));
    assert!(text.contains("Permission denied (publickey)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_may_not_sign_with_sha1() {
    let vendor = Vendor::start().await;
    let key = Key::generate(vendor.dir.path(), "rsa", &["-t", "rsa", "-b", "2048"]);
    let tunnel = vendor.enroll_key(1, key);
    let options = ["-N", "-o", "PubkeyAcceptedAlgorithms=ssh-rsa"];
    let mut command = vendor.ssh("ssh", &tunnel.key, &options);
    command.arg("tunnel@127.0.0.1");
    let (status, text) = Ssh::spawn(command).output().await;
    assert_eq!(status, Some(255));
    assert!(
        text.contains("Permission denied") || text.contains("no mutual"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_remote_forwarding_is_offered() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let socket = vendor.dir.path().join("socket").display().to_string();
    let stdio_forward = database.address.to_string();
    let stream_local = format!("{socket}:{}", database.address);
    let attempts: [&[&str]; 6] = [
        &["tunnel@127.0.0.1"],
        &["-tt", "tunnel@127.0.0.1"],
        &["tunnel@127.0.0.1", "id"],
        &["-s", "tunnel@127.0.0.1", "sftp"],
        &["-W", &stdio_forward, "tunnel@127.0.0.1"],
        &["-N", "-R", &stream_local, "tunnel@127.0.0.1"],
    ];
    for attempt in attempts {
        let mut command = vendor.ssh("ssh", &tunnel.key, &[]);
        command.args(attempt);
        let (status, text) = Ssh::spawn(command).output().await;
        assert_eq!(status, Some(255), "{attempt:?}: {text}");
        assert!(!text.contains("uid="), "{attempt:?}: {text}");
    }
    assert!(!std::path::Path::new(&socket).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_forward_into_the_vendors_network_carries_nothing() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let local_port = free_port();
    let forward = format!("127.0.0.1:{local_port}:{}", database.address);
    let _ssh = vendor
        .up_with(&tunnel, database.address, &["-L", &forward])
        .await;
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, local_port))
        .await
        .unwrap();
    let _ = connection.write_all(b"select 1").await;
    assert_ends(&mut connection).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_used_by_another_program_is_refused() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let _squatter = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, tunnel.port)).unwrap();
    let listen = format!("127.0.0.1:{}", tunnel.port);
    let ssh = vendor.forward(&tunnel.key, &listen, database.address, &[]);
    let (status, text) = ssh.output().await;
    assert_eq!(status, Some(255), "{text}");
    assert!(!vendor.is_up(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_authenticate_is_closed() {
    let vendor = Vendor::start().await;
    let mut connection = TcpStream::connect(vendor.server.ssh_address())
        .await
        .unwrap();
    let mut greeting = Vec::new();
    let end = timeout(
        Duration::from_secs(25),
        connection.read_to_end(&mut greeting),
    )
    .await;
    assert!(end.is_ok(), "it should have been closed");
    assert!(greeting.starts_with(b"SSH-2.0-"));
}

// One port, one holder -------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_bastion_loses_its_port_to_the_next_one_within_seconds() {
    let mut vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let frozen = vendor.up(&tunnel, database.address).await;
    assert_eq!(vendor.event().await, SessionEvent::Up(TunnelId(1)));
    let mut old_connection = connect(&tunnel).await;
    assert_echo(&mut old_connection, "before").await;

    frozen.signal(Signal::STOP);
    let started = Instant::now();
    let listen = format!("127.0.0.1:{}", tunnel.port);
    let mut newcomer = vendor.forward(&tunnel.key, &listen, database.address, &[]);
    assert_eq!(vendor.event().await, SessionEvent::TakenOver(TunnelId(1)));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert!(vendor.is_up(1));
    assert_echo(&mut connect(&tunnel).await, "after").await;
    assert_ends(&mut old_connection).await;
    assert!(!newcomer.has_ended());

    frozen.signal(Signal::CONT);
    let (status, _) = frozen.output().await;
    assert_eq!(
        status,
        Some(255),
        "the frozen one finds itself disconnected"
    );
    assert!(vendor.is_up(1));
    assert!(!vendor.has_event(), "no event in between");
    assert_eq!(vendor.server.counters().takeovers.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_s_session_gets_the_port_at_once_and_the_old_key_s_does_not_get_it_back() {
    let mut vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let next = vendor.enroll_next_key(&tunnel);
    let first = vendor.up(&tunnel, database.address).await;
    assert_eq!(vendor.event().await, SessionEvent::Up(TunnelId(1)));
    assert_echo(&mut connect(&tunnel).await, "before").await;

    let listen = format!("127.0.0.1:{}", tunnel.port);
    let started = Instant::now();
    let mut second = vendor.forward(&next, &listen, database.address, &[]);
    assert_eq!(vendor.event().await, SessionEvent::TakenOver(TunnelId(1)));
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "the holder was asked for a sign of life: {:?}",
        started.elapsed()
    );
    assert_eq!(first.output().await.0, Some(255));
    assert_echo(&mut connect(&tunnel).await, "after").await;
    assert_eq!(
        vendor.server.holder(TunnelId(1)).unwrap().public_key,
        next.public
    );

    let old = vendor.forward(&tunnel.key, &listen, database.address, &[]);
    assert_eq!(old.output().await.0, Some(255));
    assert_eq!(vendor.event().await, SessionEvent::RefusedHeld(TunnelId(1)));
    assert_echo(&mut connect(&tunnel).await, "still").await;
    assert!(!second.has_ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloned_bastion_is_refused_while_the_first_one_lives() {
    let mut vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let mut first = vendor.up(&tunnel, database.address).await;
    assert_eq!(vendor.event().await, SessionEvent::Up(TunnelId(1)));
    let mut held_open = connect(&tunnel).await;
    assert_echo(&mut held_open, "before").await;

    let listen = format!("127.0.0.1:{}", tunnel.port);
    let clone = vendor.forward(&tunnel.key, &listen, database.address, &[]);
    let (status, text) = clone.output().await;
    assert_eq!(status, Some(255));
    assert!(text.contains("remote port forwarding failed"), "{text}");
    assert_eq!(vendor.event().await, SessionEvent::RefusedHeld(TunnelId(1)));
    assert_echo(&mut held_open, "after").await;
    assert!(!first.has_ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_down_as_soon_as_its_ssh_is_killed() {
    let mut vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let ssh = vendor.up(&tunnel, database.address).await;
    assert_eq!(vendor.event().await, SessionEvent::Up(TunnelId(1)));
    let mut connection = connect(&tunnel).await;
    assert_echo(&mut connection, "select 1").await;

    ssh.signal(Signal::KILL);
    assert_eq!(vendor.event().await, SessionEvent::Down(TunnelId(1)));
    assert!(!vendor.is_up(1));
    assert_ends(&mut connection).await;
    until("the port is closed", SOON, || {
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port)).is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_comes_back_at_once_again_and_again() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    for _ in 0..10 {
        let ssh = vendor.up(&tunnel, database.address).await;
        assert_echo(&mut connect(&tunnel).await, "select 1").await;
        ssh.signal(Signal::KILL);
        until("the tunnel is down", SOON, || !vendor.is_up(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn autossh_brings_a_tunnel_back() {
    let mut vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let forward = format!("127.0.0.1:{}:{}", tunnel.port, database.address);
    let mut command = vendor.ssh("autossh", &tunnel.key, &["-M", "0", "-N", "-R", &forward]);
    command.env("AUTOSSH_GATETIME", "0").arg("tunnel@127.0.0.1");
    let _autossh = Ssh::spawn(command);
    assert_eq!(vendor.event().await, SessionEvent::Up(TunnelId(1)));
    assert_echo(&mut connect(&tunnel).await, "before").await;

    vendor.server.close_tunnel(TunnelId(1)).await;
    assert_eq!(vendor.event().await, SessionEvent::Down(TunnelId(1)));
    assert_eq!(vendor.event().await, SessionEvent::Up(TunnelId(1)));
    assert_echo(&mut connect(&tunnel).await, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tunnel_ends_at_once_and_does_not_come_back() {
    let mut vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let mut ssh = vendor.up(&tunnel, database.address).await;
    assert_eq!(vendor.event().await, SessionEvent::Up(TunnelId(1)));
    let mut connection = connect(&tunnel).await;
    assert_echo(&mut connection, "select 1").await;

    vendor.forget(&tunnel);
    vendor.server.close_tunnel(TunnelId(1)).await;
    assert!(!vendor.is_up(1));
    assert_eq!(vendor.event().await, SessionEvent::Down(TunnelId(1)));
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port))
            .await
            .is_err(),
        "the port is closed when close_tunnel returns"
    );
    assert_ends(&mut connection).await;
    until("ssh has ended", SOON, || ssh.has_ended()).await;

    let listen = format!("127.0.0.1:{}", tunnel.port);
    let ssh = vendor.forward(&tunnel.key, &listen, database.address, &[]);
    let (status, text) = ssh.output().await;
    assert_eq!(status, Some(255));
    assert!(text.contains("Permission denied"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_given_up_through_the_control_socket_is_down() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let socket = vendor.dir.path().join("control").display().to_string();
    let mut ssh = vendor
        .up_with(&tunnel, database.address, &["-M", "-S", &socket])
        .await;
    let forward = format!("127.0.0.1:{}:{}", tunnel.port, database.address);
    let mut command = vendor.ssh("ssh", &tunnel.key, &["-S", &socket]);
    command.args(["-O", "cancel", "-R", &forward, "tunnel@127.0.0.1"]);
    let (status, text) = Ssh::spawn(command).output().await;
    assert_eq!(status, Some(0), "{text}");
    until("the tunnel is down", SOON, || !vendor.is_up(1)).await;
    assert!(!ssh.has_ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_asked_for_twice_by_one_session_is_refused_as_sshd_does() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let again = format!("localhost:{}:{}", tunnel.port, database.address);
    let listen = format!("127.0.0.1:{}", tunnel.port);
    let ssh = vendor.forward(&tunnel.key, &listen, database.address, &["-R", &again]);
    let (status, text) = ssh.output().await;
    assert_eq!(status, Some(255), "{text}");
    assert!(text.contains("remote port forwarding failed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_given_up_may_be_asked_for_again_in_the_same_session() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let socket = vendor.dir.path().join("control").display().to_string();
    let _ssh = vendor
        .up_with(&tunnel, database.address, &["-M", "-S", &socket])
        .await;
    let forward = format!("127.0.0.1:{}:{}", tunnel.port, database.address);
    for order in ["cancel", "forward"] {
        let mut command = vendor.ssh("ssh", &tunnel.key, &["-S", &socket]);
        command.args(["-O", order, "-R", &forward, "tunnel@127.0.0.1"]);
        let (status, text) = Ssh::spawn(command).output().await;
        assert_eq!(status, Some(0), "{order}: {text}");
    }
    assert!(vendor.is_up(1));
    assert_echo(&mut connect(&tunnel).await, "select 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_removed_while_its_bastion_takes_the_port_does_not_stay_up() {
    let database = Database::echo().await;
    for can_answer in [true, false] {
        let vendor = Vendor::start().await;
        let tunnel = vendor.enroll(1);
        let port = tunnel.port;
        vendor.answer_by(move |grants| {
            if is_free(port) {
                return Ok(grants);
            }
            anyhow::ensure!(can_answer, "the database is away");
            Ok(Vec::new())
        });
        let listen = format!("127.0.0.1:{port}");
        let ssh = vendor.forward(&tunnel.key, &listen, database.address, &[]);
        let (status, text) = ssh.output().await;
        assert_eq!(status, Some(255), "{text}");
        assert!(text.contains("remote port forwarding failed"), "{text}");
        assert!(!vendor.is_up(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_one_session_frees_its_port_for_the_next() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let first = vendor.enroll(1);
    let second = vendor.enroll_key(2, first.key.clone());
    let socket = vendor.dir.path().join("control").display().to_string();
    let _ssh = vendor
        .up_with(&first, database.address, &["-M", "-S", &socket])
        .await;
    vendor.answer_by(|_| panic!("a bug"));
    let forward = format!("127.0.0.1:{}:{}", second.port, database.address);
    let mut command = vendor.ssh("ssh", &first.key, &["-S", &socket]);
    command.args(["-O", "forward", "-R", &forward, "tunnel@127.0.0.1"]);
    let (status, text) = Ssh::spawn(command).output().await;
    assert_ne!(status, Some(0), "{text}");
    until("the port is free", SOON, || !vendor.is_up(1)).await;

    vendor.answer_by(Ok);
    let _next = vendor.up(&first, database.address).await;
    assert_echo(&mut connect(&first).await, "select 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_leaves_nothing_open() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let mut ssh = vendor.up(&tunnel, database.address).await;
    let mut connection = connect(&tunnel).await;
    assert_echo(&mut connection, "select 1").await;
    let ssh_address = vendor.server.ssh_address();

    drop(vendor);
    assert_ends(&mut connection).await;
    until("ssh has ended", SOON, || ssh.has_ended()).await;
    until("the ports are closed", SOON, || {
        std::net::TcpStream::connect(ssh_address).is_err()
            && std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port)).is_err()
    })
    .await;
}

// How connections behave -----------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_everything_still_gets_the_answer() {
    let vendor = Vendor::start().await;
    let database = Database::count().await;
    let tunnel = vendor.enroll(1);
    let _ssh = vendor.up(&tunnel, database.address).await;
    let mut connection = connect(&tunnel).await;
    connection.write_all(&vec![7; 3 << 20]).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, connection.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, "3145728 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_said_everything_still_gets_the_rest() {
    let vendor = Vendor::start().await;
    let database = Database::goodbye().await;
    let tunnel = vendor.enroll(1);
    let _ssh = vendor.up(&tunnel, database.address).await;
    let mut connection = connect(&tunnel).await;
    let mut answer = String::new();
    timeout(SOON, connection.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, "goodbye");
    connection.write_all(&vec![7; 3 << 20]).await.unwrap();
    drop(connection);
    until("all of it has arrived", SOON, || {
        database.sent.load(Ordering::Relaxed) == 3 << 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_reached_is_seen_at_once() {
    let vendor = Vendor::start().await;
    let tunnel = vendor.enroll(1);
    // Bound and not listening: nobody else can take the port, and nobody answers there.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    nobody.bind(&address.into()).unwrap();
    let address = nobody.local_addr().unwrap().as_socket().unwrap();
    let _ssh = vendor.up(&tunnel, address).await;
    // It may end before the connect itself has returned.
    if let Ok(mut connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, tunnel.port)).await {
        assert_ends(&mut connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_arrives_whole() {
    let vendor = Vendor::start().await;
    let database = Database::flood(64 << 20).await;
    let tunnel = vendor.enroll(1);
    let _ssh = vendor.up(&tunnel, database.address).await;
    assert_whole_flood(&mut connect(&tunnel).await, 64 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_arrives_whole_while_keys_are_exchanged() {
    let vendor = Vendor::start().await;
    let database = Database::flood(64 << 20).await;
    let tunnel = vendor.enroll(1);
    let _ssh = vendor
        .up_with(&tunnel, database.address, &["-o", "RekeyLimit=1M"])
        .await;
    assert_whole_flood(&mut connect(&tunnel).await, 64 << 20).await;
}

/// Reads a flood to its end and checks every byte.
async fn assert_whole_flood(connection: &mut TcpStream, bytes: usize) {
    let mut buffer = vec![0; 256 << 10];
    let mut offset = 0;
    loop {
        let n = timeout(Duration::from_secs(20), connection.read(&mut buffer))
            .await
            .expect("the flood should go on")
            .unwrap();
        if n == 0 {
            break;
        }
        let right = (offset..)
            .zip(&buffer[..n])
            .all(|(at, &byte)| byte == expected(at));
        assert!(right, "a byte differs between {offset} and {}", offset + n);
        offset += n;
    }
    assert_eq!(offset, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_holds_up_nobody_else_and_little_memory() {
    let vendor = Vendor::start().await;
    let flood = Database::flood(u64::MAX).await;
    let echo = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let second = vendor.enroll_key(2, tunnel.key.clone());
    let forward = format!("127.0.0.1:{}:{}", second.port, echo.address);
    let _ssh = vendor
        .up_with(&tunnel, flood.address, &["-R", &forward])
        .await;
    until("both are up", SOON, || vendor.is_up(2)).await;

    // One reader that never reads, and one that reads first, so that its window grows.
    let _never = connect(&tunnel).await;
    let mut stalled = connect(&tunnel).await;
    let mut buffer = vec![0; 1 << 20];
    let mut read = 0;
    while read < 200 << 20 {
        read += stalled.read(&mut buffer).await.unwrap();
    }

    // Its other connections go on, and the databases are stopped.
    let mut quiet = connect(&second).await;
    let mut sent = 0;
    let mut unchanged = 0;
    for round in 0..100 {
        assert_echo(&mut quiet, &format!("round {round}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent_before = std::mem::replace(&mut sent, flood.sent.load(Ordering::Relaxed));
        unchanged = if sent == sent_before {
            unchanged + 1
        } else {
            0
        };
        if unchanged == 10 {
            break;
        }
    }
    assert_eq!(unchanged, 10, "the databases still send");
    // The largest window, and what the kernel keeps for two connections over three sockets each.
    let outstanding = sent - read as u64;
    assert!(outstanding < 160 << 20, "{outstanding} bytes are under way");

    assert_echo(&mut quiet, "afterwards").await;
    let mut rest = vec![0; 200 << 20];
    timeout(Duration::from_secs(20), stalled.read_exact(&mut rest))
        .await
        .expect("the flood should go on")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_at_once() {
    let vendor = Vendor::start().await;
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let _ssh = vendor.up(&tunnel, database.address).await;
    let clients: Vec<_> = (0..200)
        .map(|i| {
            let tunnel = tunnel.clone();
            tokio::spawn(async move {
                let mut connection = connect(&tunnel).await;
                for round in 0..5 {
                    assert_echo(&mut connection, &format!("{i}, round {round}")).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}
