//! What stands in front: haproxy on a machine of its own.
//!
//! Whether a node is there is asked of `/healthz`, which does not depend on the database: an outage of that must not
//! take tunnels down. A node that is about to end closes its SSH listener, and who is refused there is sent on to
//! another one; what runs through it goes on.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::cluster::node::{Node, SSH_PORT, WEB_PORT};
use crate::support::machines::Machine;
use crate::support::process::Running;
use crate::support::workspace::Workspace;

const START_LIMIT: Duration = Duration::from_secs(10);

const DEFAULTS: &str = "global
    maxconn 4000
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    timeout check 1s
    option redispatch 1
    retries 3
    default-server check inter 1s fall 2 rise 2 on-marked-down shutdown-sessions
";

/// A load balancer that runs.
pub struct Balancer {
    machine: Machine,
    process: Running,
    _folder: Workspace,
}

impl Balancer {
    /// One for SSH and the tunnels' ports of a region.
    pub fn of_a_region(machine: Machine, nodes: &[&Node], ports: &str) -> Self {
        let address = machine.address;
        let mut ssh = format!("listen ssh\n    bind {address}:{SSH_PORT}\n    balance leastconn\n");
        let mut tunnels = format!("listen tunnels\n    bind {address}:{ports}\n");
        for section in [&mut ssh, &mut tunnels] {
            section.push_str("    option httpchk GET /healthz\n");
        }
        for node in nodes {
            let (name, to) = (node.name(), node.address());
            let _ = writeln!(
                ssh,
                "    server {name} {to}:{SSH_PORT} send-proxy-v2 check port {WEB_PORT}"
            );
            // At the port that was connected to.
            let _ = writeln!(tunnels, "    server {name} {to} check port {WEB_PORT}");
        }
        Self::start(machine, &format!("{ssh}{tunnels}"), SSH_PORT)
    }

    /// One for the pages and the API, which are encrypted by the nodes.
    pub fn of_pages(machine: Machine, nodes: &[&Node]) -> Self {
        let mut settings = format!(
            "listen pages\n    bind {}:{WEB_PORT}\n    option httpchk GET /healthz\n",
            machine.address
        );
        for node in nodes {
            let (name, to) = (node.name(), node.address());
            let _ = writeln!(
                settings,
                "    server {name} {to}:{WEB_PORT} check check-ssl verify none"
            );
        }
        Self::start(machine, &settings, WEB_PORT)
    }

    /// One for PostgreSQL: the first address, and the second where that is gone.
    pub fn of_databases(
        machine: Machine,
        [first, second]: [(Ipv4Addr, u16); 2],
        port: u16,
    ) -> Self {
        let settings = format!(
            "listen database\n    bind {}:{port}\n    option pgsql-check user keeper\n    \
             server first {}:{} check\n    server second {}:{} check backup\n",
            machine.address, first.0, first.1, second.0, second.1
        );
        Self::start(machine, &settings, port)
    }

    /// Where it is reached.
    pub fn address(&self) -> Ipv4Addr {
        self.machine.address
    }

    fn start(machine: Machine, settings: &str, port: u16) -> Self {
        let folder = Workspace::new();
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, format!("{DEFAULTS}{settings}")).expect("the settings");
        let mut haproxy = Command::new("/usr/sbin/haproxy");
        haproxy.arg("-db").arg("-f").arg(file);
        let inside = machine.enter();
        let process = Running::start(&mut haproxy, folder.path(), "haproxy");
        let address = machine.address;
        process.wait_until("haproxy to listen", START_LIMIT, || {
            TcpStream::connect((address, port)).is_ok()
        });
        drop(inside);
        Balancer {
            machine,
            process,
            _folder: folder,
        }
    }

    /// What it has said.
    pub fn log(&self) -> String {
        format!("--- {}\n{}", self.machine.name, self.process.output())
    }
}
