//! New connections: a real PostgreSQL, and `pgbench` making one connection per query.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::figures::Figures;
use crate::place::is_root;
use crate::report::{Report, none, number, two};
use crate::ssh::{Bastion, Route, Server, Software, Tunnel, text_in};
use crate::{AES_128_GCM, Options};

/// How many clients connect at the same time, and how many threads of pgbench they are.
const CLIENTS: [(&str, &str); 2] = [("1", "1"), ("16", "2")];

pub fn measure(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let postgres = Postgres::start(bastion.dir.path())?;
    let mut candidates = vec![("direct", postgres.port)];
    let mut parts = Vec::new();
    for software in Software::all() {
        let server = Server::start(bastion, software)?;
        let (route, to) = (Route::Loopback, postgres.port);
        let tunnel = Tunnel::open(bastion, &server, route, 0, to, AES_128_GCM)?;
        candidates.push((software.name(), server.forward_port(0)));
        // Ended in this order.
        parts.push((tunnel, server));
    }
    for (clients, threads) in CLIENTS {
        let mut table = report.table(
            &format!("New connections to PostgreSQL (pgbench -C -S -c {clients}), loopback"),
            &["at least 0.95 of direct; sshd before 10.1 sets no TCP_NODELAY without a session"],
            &["per s", "x direct", "worst"],
        );
        let mut rates = vec![Figures::default(); candidates.len()];
        for _ in 0..options.turns {
            for (rates, (_, port)) in rates.iter_mut().zip(&candidates) {
                rates.push(postgres.connections_per_second(*port, clients, threads)?);
            }
        }
        for (i, (name, _)) in candidates.iter().enumerate() {
            let ratio = rates[i].over(&rates[0]);
            let ratios = if i == 0 {
                [none(), none()]
            } else {
                [two(ratio.median()), two(ratio.least())]
            };
            let [median, worst] = ratios;
            table.row(name, &[number(rates[i].median(), 0), median, worst]);
        }
    }
    Ok(())
}

/// A cluster of its own in a folder, with everybody trusted.
pub struct Postgres {
    dir: String,
    port: u16,
}

impl Postgres {
    pub fn start(parent: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        // PostgreSQL runs as its own user, who must get through.
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o711))?;
        // There may have been one before it.
        let dir = parent.join(format!("postgres-{port}"));
        std::fs::create_dir(&dir)?;
        let dir = dir.display().to_string();
        if is_root() {
            succeed(Command::new("chown").args(["postgres", &dir]))?;
        }
        let postgres = Postgres { dir, port };
        postgres.run(
            "initdb",
            &["-D", &postgres.dir, "-A", "trust", "-U", "postgres"],
        )?;
        let options =
            format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=");
        postgres.run(
            "pg_ctl",
            &["-D", &postgres.dir, "-w", "-o", &options, "start"],
        )?;
        postgres.pgbench(port, &["-i", "-q"])?;
        Ok(postgres)
    }

    /// Makes a database, and says where it is.
    pub fn new_database(&self, name: &str) -> anyhow::Result<String> {
        let port = self.port.to_string();
        let mut command = Command::new("createdb");
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, name]);
        succeed(&mut command)?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What pgbench says of new connections through this port.
    pub fn connections_per_second(
        &self,
        port: u16,
        clients: &str,
        threads: &str,
    ) -> anyhow::Result<f64> {
        let work = ["-C", "-S", "-n", "-T", "3", "-c", clients, "-j", threads];
        let text = self.pgbench(port, &work)?;
        let line = text.lines().find(|line| line.starts_with("tps = "));
        let rate = line.and_then(|line| line.split(' ').nth(2));
        Ok(rate.context("pgbench printed no rate")?.parse()?)
    }

    fn pgbench(&self, port: u16, arguments: &[&str]) -> anyhow::Result<String> {
        let port = port.to_string();
        let mut command = Command::new("pgbench");
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port]);
        succeed(command.args(arguments).arg("postgres"))
    }

    /// Runs one of PostgreSQL's programs as a user that it accepts.
    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        if is_root() {
            let path = std::env::var("PATH")?;
            let mut command = Command::new("runuser");
            command.args([
                "-u",
                "postgres",
                "--",
                "env",
                &format!("PATH={path}"),
                program,
            ]);
            return succeed(command.args(arguments));
        }
        succeed(Command::new(program).args(arguments))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.run("pg_ctl", &["-D", &self.dir, "-m", "immediate", "stop"]);
    }
}

/// What a command prints, if it succeeds. Servers that it starts keep its standard error.
fn succeed(command: &mut Command) -> anyhow::Result<String> {
    command.current_dir("/").stdin(Stdio::null());
    let log = tempfile::tempfile()?;
    let status = command
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    let text = text_in(log)?;
    ensure!(status.success(), "{command:?} failed: {text}");
    Ok(text)
}
