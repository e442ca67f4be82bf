//! The server's end: everybody is told, and nobody holds it up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{API_BASE, ConnectionKind, DatabaseType, NewDataSource};
use reqwest::Method;
use rustix::process::Signal;

use crate::support::lab::Lab;
use crate::support::process::Running;
use crate::support::server::{Operator, Server};
use crate::support::wait;
use crate::support::workspace::Workspace;

const SOON: Duration = Duration::from_secs(30);
/// What is promised is 10 s, on a machine that has nothing else to do.
const END: Duration = Duration::from_secs(25);

#[test]
fn when_the_server_ends_its_clients_are_told_and_none_holds_it_up() {
    let lab = Lab::with(Server::start_with(10, &["--allow-direct-loopback"]));
    let mut lab = lab;
    let source = lab.active_data_source("Shop");
    let listening = ssh_session(&lab, "listening");
    let deaf = ssh_session(&lab, "deaf");
    deaf.signal(Signal::STOP);
    let setup = lab.setup_that_waits(&lab.data_source("Billing"));
    let (silent, test) = test_of_a_silent_database(&lab.server.operator());
    let mut clients = stubborn_clients(&lab.server);

    let began = Instant::now();
    lab.server.signal(Signal::TERM);
    let told = listening.wait(SOON);
    assert!(
        told.stderr.contains("The tunnel server is ending"),
        "the text of its disconnect: {told}"
    );
    let ended = lab.server.wait(END);
    eprintln!("MEASURED: gone after {:?}", began.elapsed());
    ended.expect_code(0);
    for client in &mut clients {
        client.set_read_timeout(Some(SOON)).expect("a bound");
        let rest = std::io::copy(client, &mut std::io::sink());
        assert!(
            rest.map_or_else(
                |error| error.kind() == std::io::ErrorKind::ConnectionReset,
                |_| true
            ),
            "a connection that is still open"
        );
    }
    deaf.signal(Signal::CONT);
    drop((silent, setup));
    test.join().expect("the test has ended, whatever it said");
    // What it was told on the way out was written down.
    lab.server.start_again();
    let history = lab.operator.data_source(source.id);
    assert!(
        history
            .tunnel
            .is_some_and(|tunnel| tunnel.last_seen.is_some())
    );
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut server = Server::start();
    let clients = stubborn_clients(&server);
    server.signal(Signal::TERM);
    let ending = || server.log().contains("SIGTERM");
    wait::until_true("the farewell", SOON, || server.log(), ending);
    server.signal(Signal::INT);
    // Its own end, in order, is 0.
    server.wait(SOON).expect_code(130);
    drop(clients);
}

#[test]
fn a_name_server_that_never_answers_holds_up_no_end() {
    // Nobody reads from it.
    let name_server = UdpSocket::bind("127.0.0.77:53").expect("an address for a name server");
    let folder = Workspace::new();
    let resolver = folder.path().join("resolv.conf");
    let settings = "nameserver 127.0.0.77\noptions timeout:30 attempts:5\n";
    std::fs::write(&resolver, settings).expect("a file");
    let mut server = Server::start_resolving_by(&resolver);
    let operator = server.operator();
    let test = start_test(&operator, "never.example", 5432);
    let mut asked = [0; 512];
    name_server.set_read_timeout(Some(SOON)).expect("a bound");
    name_server
        .recv(&mut asked)
        .expect("a question for the name");
    server.stop_within(END).expect_code(0);
    test.join().expect("the test has ended, whatever it said");
}

/// A session of its own, with the key of the lab's bastion.
fn ssh_session(lab: &Lab, name: &str) -> Running {
    let known_hosts = lab.bastion.own_folder().join("known_hosts");
    let pinned = std::fs::read_to_string(&known_hosts).expect("the pinned host keys");
    let alias = pinned.split(' ').next().expect("a name");
    let mut command: Command = lab.bastion.any_program("ssh");
    command
        .args([
            "-v",
            "-N",
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
        ])
        .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
        .args(["-o", &format!("HostKeyAlias={alias}"), "-i"])
        .arg(lab.bastion.private_key())
        .args(["-p", lab.server.ssh_port(), "tunnel@127.0.0.1"]);
    let folder = lab.bastion.temporary();
    let session = Running::start(&mut command, Path::new(&folder), name);
    session.wait_for_output("Authenticated to", SOON);
    session
}

/// Requests that never come to an end by themselves.
fn stubborn_clients(server: &Server) -> Vec<TcpStream> {
    let operator = server.operator();
    let authorization = authorization(&operator);
    let json = "Content-Type: application/json";
    let begun = [
        // An idle connection, and a half of a request.
        String::new(),
        "GET /healthz HTTP/1.1\r\nHos".to_owned(),
        // A stream that is not read.
        format!(
            "GET {API_BASE}/data-sources/events HTTP/1.1\r\nHost: x\r\n{authorization}\r\n\r\n"
        ),
        // A body that never ends.
        format!(
            "POST {API_BASE}/data-sources HTTP/1.1\r\nHost: x\r\n{authorization}\r\n{json}\r\nContent-Length: 100\r\n\r\n{{"
        ),
        // Many answers that are not read.
        format!("GET {API_BASE}/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").repeat(200),
        // HTTP/2's first words and no more.
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    let address = server.url.trim_start_matches("http://");
    begun
        .into_iter()
        .map(|words| {
            let mut client = TcpStream::connect(address).expect("the web");
            client.set_write_timeout(Some(SOON)).expect("a bound");
            client.write_all(words.as_bytes()).expect("a request");
            if words.contains("/events") {
                client.read_exact(&mut [0; 12]).expect("the stream begins");
            }
            client
        })
        .collect()
}

fn authorization(operator: &Operator) -> String {
    let request = operator.call(Method::GET, "/").build().expect("a request");
    let value = request.headers()["authorization"].to_str().expect("text");
    format!("Authorization: {value}")
}

/// "Test connection" of a database that accepts and says nothing.
fn test_of_a_silent_database(operator: &Operator) -> (TcpStream, thread::JoinHandle<()>) {
    let database = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = database.local_addr().expect("its address").port();
    let test = start_test(operator, "127.0.0.1", port);
    (database.accept().expect("the test has begun").0, test)
}

fn start_test(operator: &Operator, host: &str, port: u16) -> thread::JoinHandle<()> {
    let new = NewDataSource {
        display_name: "Silent".to_owned(),
        database_type: DatabaseType::Postgresql,
        connection: ConnectionKind::Direct,
        host: host.to_owned(),
        port,
        region: None,
    };
    let made = operator
        .call(Method::POST, "/data-sources")
        .json(&new)
        .send();
    let made: serde_json::Value = made.and_then(|made| made.json()).expect("a data source");
    let login = serde_json::json!({"database": "d", "username": "u", "password": "p"});
    let call = operator.call(Method::POST, &format!("/data-sources/{}/test", made["id"]));
    thread::spawn(move || drop(call.json(&login).send()))
}
