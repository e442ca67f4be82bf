//! How much the web bears, and what it costs the others: clients that never finish, idle connections by
//! the thousand, and whatever is too long or too slow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::support::hosts::certificate;
use crate::support::lab::Lab;
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

/// By then everything that stands still has been ended, on a slow machine too.
const ENDED: Duration = Duration::from_secs(240);

/// How long something may take that is done at once on an idle machine.
const SOON: Duration = Duration::from_secs(10);

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection from this address of loopback.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    socket.bind(&from.into()).expect("an address of loopback");
    socket.connect(&to.into()).expect("a connection");
    socket.into()
}

#[test]
fn three_thousand_idle_web_connections_keep_nobody_out() {
    let all = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: all.maximum,
        ..all
    };
    setrlimit(Resource::Nofile, raised).expect("descriptors for this test");
    let lab = Lab::with(Server::start_with_descriptors(2_000));
    let source = lab.active_data_source("Shop");
    let mut rows = lab.login_through(&source).expect("a login");

    let mut idle = Vec::new();
    let (mut read_last, mut longest) = (Instant::now(), Duration::ZERO);
    for number in 0..3_000_u32 {
        // Of one address, and of thirty.
        let from = if number % 2 == 0 {
            1
        } else {
            2 + (number / 2 % 30) as u8
        };
        let mut connection = connect_from(from, lab.server.web_address());
        // Each has had an answer, and then wants nothing, or never says what.
        let sent = match number % 3 {
            0 => HEALTH.as_bytes().to_vec(),
            1 => [HEALTH, "GET / HTTP/1.1\r\nX-Half: "].concat().into_bytes(),
            _ => stream("/healthz", 5),
        };
        // It may have been ended already.
        let _ = connection.write_all(&sent);
        idle.push(connection);
        if number % 50 == 0 {
            let orders = rows.number("SELECT count(*) FROM orders");
            assert!(orders.is_ok_and(|orders| orders > 0));
            longest = longest.max(read_last.elapsed());
            read_last = Instant::now();
        }
    }
    println!("the longest gap between two reads through the tunnel: {longest:?}");
    // What they have just asked is work: until it is done, none of them is idle, and a newcomer may be refused.
    wait::until_true(
        "an answer",
        SOON,
        || lab.server.log(),
        || {
            let health = lab.operator.call_beside(Method::GET, "/healthz").send();
            health.is_ok_and(|answer| answer.status() == 200)
        },
    );
    let second = lab.active_data_source("Billing");
    let mut client = lab.login_through(&second).expect("a login");
    assert!(client.number("SELECT count(*) FROM orders").is_ok());
    assert!(rows.number("SELECT count(*) FROM orders").is_ok());
}

/// What a client sends, and whether it goes on sending so byte by byte.
struct Unfinished {
    what: &'static str,
    sent: Vec<u8>,
    drip: bool,
    /// What is in the answer, if one comes.
    answer: &'static str,
}

fn unfinished(what: &'static str, sent: impl AsRef<[u8]>) -> Unfinished {
    Unfinished {
        what,
        sent: sent.as_ref().to_vec(),
        drip: false,
        answer: "",
    }
}

/// HTTP/2: the preface, the settings, and a request with these flags: 4 if its body is to come, 5 if it
/// has none.
fn stream(path: &str, flags: u8) -> Vec<u8> {
    let method = if flags == 4 { 0x83 } else { 0x82 };
    let mut head = vec![method, 0x86];
    for (name, value) in [(4, path), (1, "x")] {
        head.extend([name, value.len() as u8]);
        head.extend(value.as_bytes());
    }
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    sent.extend([0, 0, head.len() as u8, 1, flags, 0, 0, 0, 1]);
    sent.extend(head);
    sent
}

#[test]
fn whoever_never_finishes_is_ended() {
    let folder = Workspace::new();
    let certified = certificate::for_name("vendor.example", folder.path());
    let servers = [
        Server::start(),
        Server::start_called("vendor.example", Some(&certified), &[]),
    ];
    let post =
        "POST /api/v1/data-sources HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let mut clients = vec![
        unfinished("nothing", ""),
        Unfinished {
            drip: true,
            ..unfinished("a head byte by byte", "GET / HTTP/1.1\r\nX: ")
        },
        Unfinished {
            answer: "200 OK",
            ..unfinished(
                "no second request",
                "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            )
        },
        Unfinished {
            answer: "408 Request Timeout",
            ..unfinished("half a body", format!("{post}Content-Length: 9\r\n\r\n{{"))
        },
        Unfinished {
            drip: true,
            answer: "408 Request Timeout",
            ..unfinished(
                "a body byte by byte",
                format!("{post}Content-Length: 9999\r\n\r\n"),
            )
        },
        Unfinished {
            answer: "408 Request Timeout",
            ..unfinished(
                "chunks without an end",
                format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n"),
            )
        },
        unfinished("half a preface", "PRI * HTTP/2.0\r\n"),
        unfinished("the preface alone", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        unfinished("a stream without an end", stream("/api/v1/data-sources", 4)),
        unfinished("no second stream", stream("/healthz", 5)),
    ];
    let plain = clients.len();
    clients.push(unfinished("half a handshake", b"\x16\x03\x01\x02\0\x01"));
    clients.push(unfinished("no handshake", ""));
    let mut open: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| {
            let server = &servers[usize::from(number >= plain)];
            let mut connection = connect_from(1, server.web_address());
            connection.write_all(&client.sent).expect("it is sent");
            connection.set_nonblocking(true).expect("a setting");
            (client, connection, Vec::new())
        })
        .collect();
    let left = std::cell::RefCell::new(String::new());
    let open = std::cell::RefCell::new(&mut open);
    wait::until_true(
        "everybody is ended",
        ENDED,
        || left.borrow().clone(),
        || {
            let mut still = Vec::new();
            for (client, connection, answer) in open.borrow_mut().iter_mut() {
                if client.drip {
                    let _ = connection.write(b"1");
                }
                let mut bytes = [0; 4096];
                match connection.read(&mut bytes) {
                    Ok(0) => {}
                    Ok(read) => {
                        answer.extend_from_slice(&bytes[..read]);
                        still.push(client.what);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        still.push(client.what);
                    }
                    Err(_) => {}
                }
            }
            *left.borrow_mut() = format!("still open: {still:?}");
            still.is_empty()
        },
    );
    for (client, _, answer) in open.borrow().iter() {
        let answer = String::from_utf8_lossy(answer);
        assert!(answer.contains(client.answer), "{}: {answer}", client.what);
        assert!(!answer.contains(" 500 "), "{}: {answer}", client.what);
    }
    // And nobody else noticed.
    for server in &servers[..1] {
        let health = server
            .operator()
            .call_beside(Method::GET, "/healthz")
            .send();
        assert_eq!(health.expect("an answer").status(), 200);
    }
}

/// The answer to a request that is written down whole.
fn answer_to(server: &Server, request: &[u8]) -> String {
    let mut connection = connect_from(1, server.web_address());
    // Whoever refuses what is too long need not read all of it.
    let _ = connection.write_all(request);
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_at_a_bound_is_taken_and_what_is_beyond_it_is_refused_with_the_reason() {
    let server = Server::start();
    let status = |request: String| {
        let answer = answer_to(&server, request.as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or("none").to_owned();
        (status, answer)
    };
    let headers = |count: usize| {
        let headers: String = (0..count).map(|n| format!("X-{n}: 1\r\n")).collect();
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
    };
    assert_eq!(status(headers(98)).0, "200");
    assert_eq!(status(headers(99)).0, "431");
    let long_header = |length: usize| {
        let value = "a".repeat(length);
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {value}\r\n\r\n")
    };
    assert_eq!(status(long_header(16 << 10)).0, "200");
    assert_eq!(status(long_header(1 << 20)).0, "431");
    let path = "a".repeat(70_000);
    let long_path = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(status(long_path).0, "414");

    let operator = server.operator();
    let create = |name: &str, before: &str, length: usize| {
        let body = serde_json::json!({
            "display_name": name, "database_type": "postgresql", "host": "db.internal", "port": 5432,
        });
        let body = format!("{before}{body}");
        let room = length.saturating_sub(body.len());
        let call = operator.call(Method::POST, "/data-sources");
        let call = call.header("content-type", "application/json");
        let answer = call.body(format!("{body}{}", " ".repeat(room))).send();
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().expect("a body"))
    };
    let limit = 64 << 10;
    for (name, before, length, expected, words) in [
        ("Sales", "", limit, 201, "enrollment"),
        ("Sales", "", limit + 1, 413, "at most 65536 bytes"),
        ("Sales", "\u{FEFF}", 0, 201, "enrollment"),
        ("Sales", "\u{FEFF}\u{FEFF}", 0, 422, "detail"),
        (&"é".repeat(200), "", 0, 201, "enrollment"),
        (&"é".repeat(201), "", 0, 422, "at most 200 characters"),
        ("Sales\u{202E}BD", "", 0, 422, "invisible character"),
        ("Sal\u{200B}es", "", 0, 422, "invisible character"),
    ] {
        let (status, body) = create(name, before, length);
        assert_eq!(status, expected, "{body}");
        assert!(body.contains(words), "{body}");
    }
}
