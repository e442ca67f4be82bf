//! What is compared: a server, and on the bastion's side what keeps a tunnel to it.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::processes::{family, kill_family, kill_those_named, names_in_family};
use crate::source::{Request, ask};
use crate::ssh::{Bastion, Process, Route, START, Server, Software, Tunnel, wait_for};
use crate::{AES_128_GCM, rathole};

pub const OURS: &str = "ours";
pub const SSHD: &str = "sshd";
pub const AUTOSSH: &str = "autossh";

/// The numbers of the tunnels to the database of bytes and to PostgreSQL.
const BYTES: u16 = 0;
const POSTGRES: u16 = 1;

/// What keeps a tunnel up as the installed service does: each attempt of autossh is one, and the next one begins three
/// seconds later.
const AS_OUR_SERVICE: [&str; 9] = [
    "sh",
    "-c",
    r#"while :; do "$@"; sleep 3; done"#,
    "sh",
    "env",
    "AUTOSSH_MAXSTART=1",
    "autossh",
    "-M",
    "0",
];

/// The documented line.
const AUTOSSH_ALONE: [&str; 7] = [
    "autossh",
    "-M",
    "0",
    "-o",
    "ServerAliveInterval 60",
    "-o",
    "ServerAliveCountMax 3",
];

/// As rathole's own example of a unit does it.
const AS_ITS_UNIT: [&str; 3] = ["sh", "-c", r#"while :; do "$@"; sleep 5; done"#];

/// For how long autossh takes the end of its first ssh for a wrong command line, and ends too.
const GATE: Duration = Duration::from_secs(31);

/// After how long without a row there will be none.
const NEVER: Duration = Duration::from_secs(30);

/// How often one is tried to get.
const TRY: Duration = Duration::from_millis(20);

pub struct Candidate {
    pub name: &'static str,
    /// Where bulk is read and written; nothing if another candidate has the same way.
    pub bytes: Option<SocketAddr>,
    /// The port that leads to PostgreSQL.
    pub postgres: Option<u16>,
    /// Whether there is something that brings the tunnel back.
    pub comes_back: bool,
    entrance: SocketAddr,
    client: Client,
    /// The tunnel to PostgreSQL, if it is a session of its own.
    second: Option<Tunnel>,
    server: Server,
}

impl Candidate {
    pub fn ours(bastion: &Bastion, bytes: u16, postgres: u16) -> anyhow::Result<Self> {
        let server = Server::start(bastion, Software::Ours)?;
        let alive = ["-o", "ServerAliveInterval=8", "-o", "ServerAliveCountMax=2"];
        let prefix = [&AS_OUR_SERVICE[..], &alive].concat();
        Self::with_ssh(OURS, bastion, server, &prefix, bytes, Some(postgres))
    }

    pub fn sshd(bastion: &Bastion, bytes: u16, postgres: u16) -> anyhow::Result<Self> {
        let server = Server::start(bastion, Software::Stock)?;
        Self::with_ssh(SSHD, bastion, server, &["ssh"], bytes, Some(postgres))
    }

    pub fn autossh(bastion: &Bastion, bytes: u16) -> anyhow::Result<Self> {
        let server = Server::start(bastion, Software::Stock)?;
        Self::with_ssh(AUTOSSH, bastion, server, &AUTOSSH_ALONE, bytes, None)
    }

    pub fn rathole(bastion: &Bastion, bytes: u16, postgres: u16) -> anyhow::Result<Self> {
        let server = Server::start(bastion, Software::Rathole)?;
        let tunnels = [(BYTES, bytes), (POSTGRES, postgres)];
        let client = rathole::client(bastion, &server, &tunnels)?;
        let mut command = Command::new(AS_ITS_UNIT[0]);
        command.args(&AS_ITS_UNIT[1..]).arg("sh");
        command.arg(client.get_program()).args(client.get_args());
        let client = Client::start(command)?;
        for number in [BYTES, POSTGRES] {
            wait_for(server.forward_port(number), START)?;
        }
        Ok(Candidate {
            name: rathole::PROGRAM,
            bytes: Some(server.entrance(BYTES)),
            postgres: Some(server.forward_port(POSTGRES)),
            comes_back: true,
            entrance: server.entrance(BYTES),
            client,
            second: None,
            server,
        })
    }

    fn with_ssh(
        name: &'static str,
        bastion: &Bastion,
        server: Server,
        prefix: &[&str],
        bytes: u16,
        postgres: Option<u16>,
    ) -> anyhow::Result<Self> {
        let route = Route::Loopback;
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]);
        let of = |number, to| (bastion, &server, route, number, to, AES_128_GCM);
        let arguments = |(bastion, server, route, number, to, cipher)| {
            Tunnel::arguments(bastion, server, route, number, to, cipher)
        };
        command.args(arguments(of(BYTES, bytes)));
        let client = Client::start(command)?;
        let entrance = server.entrance(BYTES);
        wait_for(entrance.port(), START)?;
        let second = postgres
            .map(|to| Tunnel::open(bastion, &server, route, POSTGRES, to, AES_128_GCM))
            .transpose()?;
        Ok(Candidate {
            name,
            bytes: postgres.map(|_| entrance),
            postgres: postgres.map(|_| server.forward_port(POSTGRES)),
            comes_back: prefix.len() > 1,
            entrance,
            client,
            second,
            server,
        })
    }

    /// How many processes a server has for one more tunnel.
    pub fn processes_at_the_server(&self) -> anyhow::Result<Option<f64>> {
        let tunnels = 1 + usize::from(self.second.is_some());
        let more = family(self.server.process.id())?.len() - 1;
        Ok(Some(more as f64 / tunnels as f64))
    }

    /// How many a bastion has for a tunnel, without what stands for its service manager.
    pub fn processes_at_the_bastion(&self) -> anyhow::Result<Option<f64>> {
        let names = names_in_family(self.client.process.id())?;
        let own = names
            .iter()
            .filter(|name| PROGRAMS.contains(&name.as_str()));
        Ok(Some(own.count() as f64))
    }

    /// Whatever is killed now, autossh does not take for a wrong command line.
    pub fn wait_until_it_is_settled(&self) {
        if self.name == AUTOSSH {
            thread::sleep(GATE.saturating_sub(self.client.begun.elapsed()));
        }
    }

    /// Seconds from the death of the server, which is started again at once, to the next row; nothing if none comes.
    pub fn seconds_after_the_servers_death(&mut self) -> anyhow::Result<Option<f64>> {
        self.ensure_there_are_rows()?;
        let died = Instant::now();
        self.server.kill_and_start()?;
        self.next_row_since(died)
    }

    /// The same with what the bastion runs, but for what watches over it.
    pub fn seconds_after_the_clients_death(&mut self) -> anyhow::Result<Option<f64>> {
        self.ensure_there_are_rows()?;
        let died = Instant::now();
        kill_those_named(self.client.process.id(), &["ssh", rathole::PROGRAM])?;
        self.next_row_since(died)
    }

    pub fn start_the_client_again(&mut self) -> anyhow::Result<()> {
        self.client.again()?;
        wait_for(self.entrance.port(), START)?;
        self.wait_until_it_is_settled();
        Ok(())
    }

    fn next_row_since(&self, died: Instant) -> anyhow::Result<Option<f64>> {
        while died.elapsed() < NEVER {
            if row(self.entrance).is_ok() {
                return Ok(Some(died.elapsed().as_secs_f64()));
            }
            thread::sleep(TRY);
        }
        Ok(None)
    }

    fn ensure_there_are_rows(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while row(self.entrance).is_err() {
            ensure!(begun.elapsed() < NEVER, "there is no row to begin with");
            thread::sleep(TRY);
        }
        Ok(())
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // What watches over another would start it again.
        let _ = kill_family(self.client.process.id());
    }
}

/// What counts as a tunnel's process at the bastion.
const PROGRAMS: [&str; 3] = ["ssh", "autossh", rathole::PROGRAM];

fn row(entrance: SocketAddr) -> anyhow::Result<()> {
    let mut connection = ask(entrance, Request::AnswerAndClose)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    std::io::Read::read_exact(&mut connection, &mut [0])?;
    Ok(())
}

/// What a bastion runs.
struct Client {
    command: Command,
    process: Process,
    begun: Instant,
}

impl Client {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process(command.spawn().with_context(|| format!("{command:?}"))?);
        let begun = Instant::now();
        Ok(Client {
            command,
            process,
            begun,
        })
    }

    fn again(&mut self) -> anyhow::Result<()> {
        kill_family(self.process.id())?;
        self.process = Process(self.command.spawn()?);
        self.begun = Instant::now();
        Ok(())
    }
}
