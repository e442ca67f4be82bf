//! A server of the cluster: the real program on a machine of its own.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::bastion::PATH;
use crate::support::database;
use crate::support::machines::Machine;
use crate::support::process::{self, Finished, Running};
use crate::support::workspace::Workspace;

/// Where every node serves its pages, or its health alone.
pub const WEB_PORT: u16 = 443;
/// Where it serves SSH.
pub const SSH_PORT: u16 = 50_022;

const PEER_PORT: u16 = 7_000;
const START_LIMIT: Duration = Duration::from_secs(60);

/// A node that runs, or is to run.
pub struct Node {
    /// Its machine.
    pub machine: Machine,
    /// The number by which it is started, beside what all are given.
    arguments: Vec<String>,
    database_url: String,
    process: Option<Running>,
    starts: u32,
    folder: Workspace,
}

impl Node {
    /// One that has not been started. Its data folder has a copy of these files.
    pub fn new(
        machine: Machine,
        database_url: &str,
        arguments: Vec<String>,
        shared: Option<&Node>,
    ) -> Self {
        let node = Node {
            machine,
            arguments,
            database_url: database_url.to_owned(),
            process: None,
            starts: 0,
            folder: Workspace::new(),
        };
        if let Some(first) = shared {
            node.take_what_nodes_share(first);
        }
        node
    }

    /// What the vendor's operators bring to each node before its first start.
    fn take_what_nodes_share(&self, first: &Node) {
        std::fs::create_dir(self.data_dir()).expect("a data folder");
        let (from, to) = (first.data_dir(), self.data_dir());
        std::fs::copy(from.join("secret.key"), to.join("secret.key")).expect("the secret key");
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.machine.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.machine.address
    }

    /// Starts it; it is ready when this returns.
    pub fn start(&mut self) {
        self.begin();
        self.wait_until_ready();
    }

    /// Starts it and does not wait.
    pub fn begin(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.name());
        let address = self.address();
        let mut serve = self.command("serve");
        serve.args(["--node-name", self.name()]);
        serve.args(["--listen", &format!("{address}:{WEB_PORT}")]);
        serve.args(["--ssh-listen", &format!("{address}:{SSH_PORT}")]);
        serve.args(["--forward-listen", &address.to_string()]);
        serve.args(["--peer-listen", &format!("{address}:{PEER_PORT}")]);
        serve.args(&self.arguments);
        self.starts += 1;
        let _inside = self.machine.enter();
        let log = format!("serve-{}", self.starts);
        self.process = Some(Running::start(&mut serve, self.folder.path(), &log));
    }

    /// Waits until it is ready.
    pub fn wait_until_ready(&self) {
        let process = self.process.as_ref().expect("it runs");
        process.wait_for_output("\nready\n", START_LIMIT);
    }

    /// Another command of its program, on its data.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
        command.env_clear().env("PATH", PATH);
        command.env("HOME", self.folder.path());
        command.env(database::VARIABLE, &self.database_url);
        command.arg(name).arg("--data-dir").arg(self.data_dir());
        command
    }

    /// Runs such a command on its machine, to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let (name, rest) = arguments.split_first().expect("a command");
        let _inside = self.machine.enter();
        process::run(self.command(name).args(rest), self.folder.path(), "command")
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        drop(self.process.take().expect("it runs"));
    }

    /// Asks it to end, as a service manager does.
    pub fn ask_to_end(&self) {
        let process = self.process.as_ref().expect("it runs");
        process.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_end(&mut self, limit: Duration) -> Finished {
        self.process.take().expect("it runs").wait(limit)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// The memory that it has now, in KiB.
    pub fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    /// What it has said since its last start.
    pub fn log(&self) -> String {
        let process = self.process.as_ref();
        let log = process.map_or_else(String::new, Running::output);
        format!("--- {}\n{log}", self.name())
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}
