//! What stands in a database's place and sends without an end, or claims that it will.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use holistics_tunnel::protocol::ConnectionTestResult;
use serde_json::json;

use crate::connections::{ALLOW_LOOPBACK, answer};
use crate::support::server::Server;

/// What a test hears, and what the kernels between hold at most.
const MOST_BYTES: usize = 24 << 20;
/// By how much a server may grow for a test, in KiB.
const MOST_GROWTH: usize = 48 << 10;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// A login accepted, and ready for a query.
const POSTGRES_READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const POSTGRES_COLUMN: &[u8] =
    b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
const MYSQL_GREETING: &[u8] =
    b"\x49\0\0\0\x0a8.4.0\0\x08\0\0\0abcdefgh\0\x0d\xa2\xff\x02\0\x18\0\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_native_password\0";
const MYSQL_OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";
const MYSQL_COLUMN: &[u8] =
    b"\x01\0\0\x01\x01\x17\0\0\x02\x03def\0\0\0\x01n\0\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0\x05\0\0\x03\xfe\0\0\x02\0";
const TDS_PRELOGIN: &[u8] =
    b"\x04\x01\0\x1a\0\0\x01\0\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\x10\0\x10\x0e\0\0\x02";

/// It runs until the test's process ends.
struct Flood {
    port: u16,
    sent: Arc<AtomicUsize>,
}

impl Flood {
    /// One that comes, on each connection, to the end of `begin`, and then sends this again and again.
    fn of(
        begin: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
        wave: &[u8],
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sent = Arc::<AtomicUsize>::default();
        let begin = Arc::new(begin);
        let wave = wave.repeat(64 * 1024 / wave.len() + 1);
        let count = Arc::clone(&sent);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (begin, wave, sent) = (Arc::clone(&begin), wave.clone(), Arc::clone(&count));
                thread::spawn(move || -> io::Result<()> {
                    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                    begin(&mut stream)?;
                    loop {
                        let written = stream.write(&wave)?;
                        sent.fetch_add(written, Ordering::Relaxed);
                    }
                });
            }
        });
        Flood { port, sent }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Hears something, and says that.
fn after_a_question(stream: &mut TcpStream, words: &[u8]) -> io::Result<()> {
    let mut heard = [0; 4096];
    match stream.read(&mut heard)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count if heard[..count] == SSL_REQUEST => {
            stream.write_all(b"N")?;
            after_a_question(stream, words)
        }
        _ => stream.write_all(words),
    }
}

fn test(server: &Server, database_type: &str, port: u16) -> ConnectionTestResult {
    let operator = server.operator();
    let new = json!({
        "display_name": "Flood", "database_type": database_type, "connection": "direct",
        "host": "127.0.0.1", "port": port,
    });
    let source: holistics_tunnel::protocol::DataSource = answer(
        operator
            .call(reqwest::Method::POST, "/data-sources")
            .json(&new),
    );
    let login = json!({"database": "shop", "username": "reader", "password": "open sesame", "tls": "disable"});
    let path = format!("/data-sources/{}/test", source.id);
    answer(operator.call(reqwest::Method::POST, &path).json(&login))
}

/// Tests it, and sees that it ends in this stage with such words, having heard and kept little.
#[track_caller]
fn ends_in(server: &Server, database_type: &str, flood: &Flood, stage: &str, words: &str) {
    let before = server.peak_memory();
    let result = test(server, database_type, flood.port);
    let last = result.stages.last().expect("a stage");
    assert_eq!(last.name, stage, "{database_type}: {result:#?}");
    assert!(last.detail.contains(words), "{database_type}: {result:#?}");
    let sent = flood.sent();
    assert!(sent < MOST_BYTES, "{database_type}: {sent} bytes");
    let growth = server.peak_memory() - before;
    assert!(growth < MOST_GROWTH, "{database_type}: {growth} KiB");
}

fn server() -> Server {
    let server = Server::start_with(10, &[ALLOW_LOOPBACK]);
    // What the first request takes is no growth.
    server.operator().create("Shop", 5432);
    server
}

const WITHOUT_AN_END: &str = "sends without an end";

#[test]
fn a_postgresql_that_never_ends_its_login_or_its_rows_is_left() {
    let server = server();
    // "A parameter of the session is now …".
    let in_login = Flood::of(
        |stream| after_a_question(stream, b"R\0\0\0\x08\0\0\0\0"),
        b"S\0\0\0\x08n\0v\0",
    );
    ends_in(&server, "postgresql", &in_login, "login", WITHOUT_AN_END);
    let in_rows = Flood::of(
        |stream| {
            after_a_question(stream, POSTGRES_READY)?;
            after_a_question(stream, POSTGRES_COLUMN)
        },
        b"D\0\0\0\x0b\0\x01\0\0\0\x011",
    );
    ends_in(&server, "redshift", &in_rows, "query", WITHOUT_AN_END);
}

#[test]
fn a_postgresql_whose_one_message_never_ends_is_left() {
    let server = server();
    let flood = Flood::of(
        |stream| after_a_question(stream, b"R\x7f\xff\xff\xff"),
        &[0; 1024],
    );
    let before = server.peak_memory();
    let result = test(&server, "postgresql", flood.port);
    assert_eq!(
        result.stages.last().expect("a stage").name,
        "login",
        "{result:#?}"
    );
    assert!(!result.ok && flood.sent() < MOST_BYTES, "{result:#?}");
    assert!(server.peak_memory() - before < MOST_GROWTH);
}

#[test]
fn a_mysql_that_never_ends_its_login_or_its_rows_is_left() {
    let server = server();
    let greet = |stream: &mut TcpStream| stream.write_all(MYSQL_GREETING);
    // One answer, in as many packets as it likes.
    let whole = [&b"\xff\xff\xff\x02"[..], &vec![1; 0xff_ff_ff]].concat();
    let in_login = Flood::of(
        move |stream| {
            greet(stream)?;
            after_a_question(stream, b"")
        },
        &whole,
    );
    ends_in(&server, "mysql", &in_login, "login", WITHOUT_AN_END);
    let in_rows = Flood::of(
        move |stream| {
            greet(stream)?;
            after_a_question(stream, MYSQL_OK)?;
            after_a_question(stream, MYSQL_COLUMN)
        },
        b"\x02\0\0\x04\x011",
    );
    ends_in(&server, "mariadb", &in_rows, "query", WITHOUT_AN_END);
}

#[test]
fn a_mysql_that_claims_a_billion_columns_costs_the_server_nothing() {
    let server = server();
    let flood = Flood::of(
        |stream| {
            stream.write_all(MYSQL_GREETING)?;
            after_a_question(stream, MYSQL_OK)?;
            after_a_question(stream, b"\x09\0\0\x01\xfe\0\0\0\x40\0\0\0\0")?;
            // Waits for the end.
            after_a_question(stream, b"")
        },
        b"\0",
    );
    ends_in(
        &server,
        "mysql",
        &flood,
        "query",
        "more memory than a test may have",
    );
    server.operator().create("It still runs", 5432);
}

#[test]
fn a_sql_server_that_never_ends_its_login_is_left() {
    let server = server();
    // "INFO", without words, in packets none of which is the last.
    let info = b"\xab\x0e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let packet = [&b"\x04\0\0\x19\0\0\x01\0"[..], info].concat();
    let flood = Flood::of(
        |stream| {
            after_a_question(stream, TDS_PRELOGIN)?;
            after_a_question(stream, b"")
        },
        &packet,
    );
    ends_in(&server, "sqlserver", &flood, "login", WITHOUT_AN_END);
}

#[test]
fn a_clickhouse_that_never_ends_its_headers_or_its_body_is_left() {
    let server = server();
    let in_headers = Flood::of(
        |stream| after_a_question(stream, b"HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {}\r\n"),
        b"X-More: and more\r\n",
    );
    ends_in(
        &server,
        "clickhouse",
        &in_headers,
        "login",
        "before an answer",
    );
    let in_body = Flood::of(
        |stream| {
            after_a_question(
                stream,
                b"HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {}\r\nContent-Length: 99999999999\r\n\r\n",
            )
        },
        b"1\n",
    );
    ends_in(&server, "clickhouse", &in_body, "login", "before an answer");
}

#[test]
fn whatever_else_sends_without_an_end_is_left_once_it_is_heard() {
    let server = server();
    let flood = Flood::of(|_| Ok(()), b"and so on ");
    ends_in(&server, "other", &flood, "tcp", "answers");
}
