//! Several servers on one database, a customer, and a load balancer in front.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::database::PostgresDatabase;
use crate::support::lab::{token_of, tunnel_of};
use crate::support::ports;
use crate::support::process::{self, Running};
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

pub const LIMIT: Duration = Duration::from_secs(60);

/// In which one node knows what another one says.
pub const SOON: Duration = Duration::from_secs(10);

/// A customer's database that answers with what it is sent, and a key.
pub struct Customer {
    pub port: u16,
    pub folder: Workspace,
}

impl Customer {
    /// One whose database this is.
    pub fn of_database(port: u16) -> Self {
        let folder = Workspace::new();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        keygen.arg(folder.path().join("key"));
        process::run(&mut keygen, folder.path(), "ssh-keygen").expect_code(0);
        Customer { port, folder }
    }

    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while let Ok(number @ 1..) = connection.read(&mut bytes) {
                        if connection.write_all(&bytes[..number]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self::of_database(port)
    }

    /// Registers its key at this node.
    pub fn enroll(&self, server: &Server, name: &str) -> DataSource {
        let operator = server.operator();
        let source = operator.create(name, self.port);
        let key = fs::read_to_string(self.folder.path().join("key.pub")).expect("a key");
        let registration = json!({
            "public_key": key, "hostname": "bastion", "os": "Debian 13", "user": "ann",
        });
        let url = format!("{}/api/v1/enrollment/public-key", server.url);
        let answer = http().put(url).bearer_auth(token_of(&source));
        let answer = answer.json(&registration).send().expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}\n{}", server.log());
        let tunnel = operator.data_source(source.id).tunnel;
        DataSource { tunnel, ..source }
    }

    /// Its ssh to this node.
    pub fn connect(&self, server: &Server, source: &DataSource) -> Running {
        let mut ssh = Command::new("ssh");
        self.add_arguments(&mut ssh, ["127.0.0.1", server.ssh_port()], source);
        Running::start(&mut ssh, self.folder.path(), "ssh")
    }

    /// Its ssh to this place, which is started again whenever it ends.
    pub fn stay_connected(&self, place: [&str; 2], source: &DataSource) -> Running {
        let mut again = Command::new("sh");
        again.args(["-c", "while :; do ssh \"$@\"; sleep 0.2; done", "sh"]);
        self.add_arguments(&mut again, place, source);
        Running::start(&mut again, self.folder.path(), "ssh")
    }

    fn add_arguments(&self, ssh: &mut Command, [host, ssh_port]: [&str; 2], source: &DataSource) {
        let port = tunnel_of(source).remote_port.expect("a port");
        ssh.args(["-NT", "-F", "/dev/null", "-i"]);
        ssh.arg(self.folder.path().join("key"));
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ExitOnForwardFailure=yes",
            "BatchMode=yes",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.args(["-R", &format!("{port}:127.0.0.1:{}", self.port)]);
        ssh.args(["-p", ssh_port, &format!("tunnel@{host}")]);
    }
}

pub fn http() -> reqwest::blocking::Client {
    let client = reqwest::blocking::Client::builder().no_proxy();
    client.timeout(LIMIT).build().expect("a client")
}

/// Two nodes of all roles, with an address each for the tunnels' ports.
pub fn two_nodes(database: &PostgresDatabase) -> (Server, Server) {
    let one = Server::start_on(database, &of_node("one", "127.0.0.1"));
    let other = one.start_beside(&of_node("other", "127.0.0.2"));
    (one, other)
}

pub fn of_node<'a>(name: &'a str, forward_listen: &'a str) -> [&'a str; 6] {
    [
        "--node-name",
        name,
        "--peer-listen",
        "127.0.0.1:0",
        "--forward-listen",
        forward_listen,
    ]
}

pub fn with_flags<'a>(node: &[&'a str], further: &[&'a str]) -> Vec<&'a str> {
    [node, further].concat()
}

pub fn state_at(server: &Server, source: &DataSource) -> DataSourceState {
    server.operator().data_source(source.id).state
}

#[track_caller]
pub fn wait_for(server: &Server, source: &DataSource, state: DataSourceState, limit: Duration) {
    server.operator().wait_for_state(source.id, state, limit);
}

/// Whether bytes come back through a tunnel's port at this address.
pub fn is_answered(address: &str, source: &DataSource) -> bool {
    let port = tunnel_of(source).remote_port.expect("a port");
    let address = SocketAddr::new(address.parse().expect("an address"), port);
    let Ok(mut connection) = TcpStream::connect_timeout(&address, SOON) else {
        return false;
    };
    let mut answer = [0; 5];
    connection.set_read_timeout(Some(SOON)).expect("a time");
    let asked = connection.write_all(b"hello");
    asked.is_ok() && connection.read_exact(&mut answer).is_ok() && &answer == b"hello"
}

/// One address for both nodes, as a vendor has it: haproxy, for ssh and for a tunnel's port.
pub struct Balancer {
    pub address: &'static str,
    pub ssh_port: u16,
    _process: Running,
    _folder: Workspace,
}

impl Balancer {
    pub fn start(one: &Server, other: &Server, port: u16) -> Self {
        let (address, ssh_port) = ("127.0.0.3", ports::free_port());
        let servers = |addresses: [&str; 2]| {
            let [one, other] = addresses;
            // Without on-marked-down shutdown-sessions: what runs through a node that drains is not to be cut.
            format!(
                " server one {one} check inter 200ms fall 2 rise 2\n \
                 server other {other} check inter 200ms fall 2 rise 2\n"
            )
        };
        let settings = format!(
            "defaults\n mode tcp\n timeout connect 1s\n timeout client 1h\n timeout server 1h\n \
             option redispatch\n retries 2\n\
             listen ssh\n bind {address}:{ssh_port}\n{}\
             listen tunnel\n bind {address}:{port}\n{}",
            servers([&one.ssh, &other.ssh]),
            servers([&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}")]),
        );
        let folder = Workspace::new();
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, settings).expect("the settings");
        let mut haproxy = Command::new("/usr/sbin/haproxy");
        haproxy.arg("-db").arg("-f").arg(file);
        let process = Running::start(&mut haproxy, folder.path(), "haproxy");
        wait::until_true(
            "haproxy to listen",
            SOON,
            || process.output(),
            || TcpStream::connect((address, ssh_port)).is_ok(),
        );
        Balancer {
            address,
            ssh_port,
            _process: process,
            _folder: folder,
        }
    }
}

/// The longest time without an answer through a tunnel's port at this address, from now until answers have come for
/// five seconds on end.
pub fn longest_gap(address: &str, source: &DataSource) -> Duration {
    let begun = Instant::now();
    let (mut longest, mut last, mut good_since) = (Duration::ZERO, begun, begun);
    while good_since.elapsed() < Duration::from_secs(5) {
        assert!(
            begun.elapsed() < LIMIT,
            "no answers for five seconds on end within {LIMIT:?}"
        );
        let asked = Instant::now();
        if is_answered(address, source) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        } else {
            good_since = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(100).saturating_sub(asked.elapsed()));
    }
    longest
}

/// The kinds of what happened to a data source, the newest first.
pub fn events(server: &Server, source: &DataSource) -> Vec<String> {
    let query = format!(
        "SELECT kind FROM events WHERE data_source_id = {} ORDER BY id DESC",
        source.id
    );
    server.database().texts(&query)
}

/// `node list` as it says it to programs.
pub fn nodes(server: &Server) -> Value {
    let mut list = server.command("node");
    list.args(["list", "--json"]);
    let folder = Workspace::new();
    process::run(&mut list, folder.path(), "node")
        .expect_code(0)
        .json()
}

pub fn readiness(server: &Server) -> StatusCode {
    let answer = http().get(format!("{}/readyz", server.url)).send();
    answer.expect("an answer").status()
}

pub fn of_name<'a>(list: &'a Value, name: &str) -> &'a Value {
    let list = list.as_array().expect("a list");
    let found = list.iter().find(|node| node["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:?}"))
}

/// The name of the node that holds the only tunnel, as the database says.
pub fn holder(server: &Server) -> Option<String> {
    let mut held = server.database().texts("SELECT node FROM sessions");
    held.pop()
}

/// How a node is, as the database says.
pub fn node_state(server: &Server, name: &str) -> Option<String> {
    let query = format!("SELECT state FROM nodes WHERE name = '{name}'");
    server.database().texts(&query).pop()
}

/// A connection through a tunnel's port that stays.
pub struct LongConnection(TcpStream);

impl LongConnection {
    pub fn open(address: &str, source: &DataSource) -> Self {
        let port = tunnel_of(source).remote_port.expect("a port");
        let connection = TcpStream::connect((address, port)).expect("a connection");
        connection.set_read_timeout(Some(SOON)).expect("a time");
        let mut long = LongConnection(connection);
        assert!(long.is_answered(), "it has just begun");
        long
    }

    pub fn is_answered(&mut self) -> bool {
        let mut answer = [0; 5];
        let asked = self.0.write_all(b"again");
        asked.is_ok() && self.0.read_exact(&mut answer).is_ok() && &answer == b"again"
    }

    /// Waits until it is cut.
    pub fn wait_for_its_end(mut self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).expect("a time");
        match self.0.read(&mut [0; 5]) {
            Ok(number) => number == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
