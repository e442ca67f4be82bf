//! What is left in the server's memory by connections that have ended.
//!
//! The server runs in a process of its own: this same program, asked for one "test" that serves.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tunnel_server::bastion::Ssh;
use crate::tunnel_server::database::Database;
use crate::tunnel_server::vendor::Vendor;

const SERVES: &str = "tunnel_server::memory::serves_until_it_is_killed";
/// Connections in each order of closing, and how many of them at the same time.
const CONNECTIONS: usize = 2_500;
const AT_ONCE: usize = 20;
/// What the allocator may keep; a single connection left behind in each would be three times that.
const ALLOWED: usize = 2 << 20;

/// Who ends a connection.
#[derive(Debug, Clone, Copy)]
enum Order {
    ReaderFirst,
    DatabaseFirst,
    BothAtOnce,
    ReaderSaysAllAndWaits,
    ReaderResets,
}

impl Order {
    const ALL: [Order; 5] = [
        Order::ReaderFirst,
        Order::DatabaseFirst,
        Order::BothAtOnce,
        Order::ReaderSaysAllAndWaits,
        Order::ReaderResets,
    ];

    async fn database(self) -> Database {
        match self {
            Order::DatabaseFirst | Order::BothAtOnce => Database::goodbye_and_close().await,
            Order::ReaderSaysAllAndWaits => Database::count().await,
            Order::ReaderFirst | Order::ReaderResets => Database::echo().await,
        }
    }

    async fn connect_and_end(self, port: u16) -> std::io::Result<()> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let mut answer = Vec::new();
        match self {
            Order::ReaderFirst => {
                connection.write_all(b"ping").await?;
                connection.read_exact(&mut [0; 4]).await?;
            }
            Order::ReaderResets => {
                connection.write_all(b"ping").await?;
                connection.read_exact(&mut [0; 4]).await?;
                socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
            }
            Order::DatabaseFirst => {
                connection.read_to_end(&mut answer).await?;
            }
            Order::BothAtOnce => {
                connection.read_exact(&mut [0; 7]).await?;
            }
            Order::ReaderSaysAllAndWaits => {
                connection.write_all(b"ping").await?;
                connection.shutdown().await?;
                connection.read_to_end(&mut answer).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_nothing_behind_whoever_closes_first() {
    let server = Process::start();
    for (order, &port) in Order::ALL.into_iter().zip(&server.ports) {
        let database = order.database().await;
        let _ssh = server.tunnel_to(port, database.address);
        // The first ones pay for what is made once.
        make_connections(order, port, CONNECTIONS / 5).await;
        let before = server.memory();
        make_connections(order, port, CONNECTIONS).await;
        let after = server.memory();
        assert!(
            after < before + ALLOWED,
            "{order:?}: {CONNECTIONS} connections took the memory from {before} to {after} bytes"
        );
    }
}

async fn make_connections(order: Order, port: u16, count: usize) {
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            tokio::spawn(async move {
                for _ in 0..count / AT_ONCE {
                    timeout(Duration::from_secs(20), order.connect_and_end(port))
                        .await
                        .expect("the connection should have ended")
                        .unwrap_or_else(|e| panic!("{order:?}: {e}"));
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    // One more round trip behind all the closing.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// The server, and what a bastion needs to know of it.
struct Process {
    child: Child,
    /// Kept open: a test program that takes longer than a minute says so there, and ends if it cannot.
    _output: Lines<BufReader<ChildStdout>>,
    ssh_port: u16,
    key: String,
    /// One for each order.
    ports: Vec<u16>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([SERVES, "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.starts_with("serving "))
            .expect("the server should have said where it is");
        let words: Vec<&str> = line.split(' ').collect();
        Process {
            ssh_port: words[1].parse().unwrap(),
            key: words[2].to_owned(),
            ports: words[3..]
                .iter()
                .map(|port| port.parse().unwrap())
                .collect(),
            child,
            _output: lines,
        }
    }

    /// A bastion's ssh; the tunnel is up when this returns.
    fn tunnel_to(&self, port: u16, database: SocketAddr) -> Ssh {
        let mut command = tokio::process::Command::new("ssh");
        command
            .args(["-F", "none", "-N", "-i", &self.key, "-p"])
            .arg(self.ssh_port.to_string())
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes"])
            .args(["-R", &format!("127.0.0.1:{port}:{database}")])
            .arg("tunnel@127.0.0.1");
        let ssh = Ssh::spawn(command);
        let deadline = std::time::Instant::now() + Duration::from_secs(15);
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(std::time::Instant::now() < deadline, "the tunnel is not up");
            std::thread::sleep(Duration::from_millis(20));
        }
        ssh
    }

    /// What the process has in memory that is its own.
    fn memory(&self) -> usize {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let pages: Vec<usize> = text.split(' ').map_while(|n| n.parse().ok()).collect();
        (pages[1] - pages[2]) * rustix::param::page_size()
    }
}

/// Ends with its standard input, so that it does not outlive the test that has started it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the server of the test above, which starts it"]
async fn serves_until_it_is_killed() {
    let vendor = Vendor::start().await;
    let key = vendor.enroll(1).key;
    let ports: Vec<String> = (2..)
        .zip(Order::ALL)
        .map(|(id, _)| vendor.enroll_key(id, key.clone()).port.to_string())
        .collect();
    println!(
        "\nserving {} {} {}",
        vendor.server.ssh_address().port(),
        key.private.display(),
        ports.join(" ")
    );
    std::io::stdout().flush().unwrap();
    let _ = tokio::io::stdin().read(&mut [0]).await;
}
