//! New connections: a real PostgreSQL, and `pgbench` making one connection per query.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::ssh::{Bastion, Server, Tunnel};
use crate::{AES_128_GCM, CHACHA20, TURNS, row};

pub fn measure(bastion: &Bastion) -> anyhow::Result<()> {
    let postgres = Postgres::start(bastion.dir.path())?;
    let mut candidates = vec![("direct", postgres.port, Vec::new())];
    let mut parts = Vec::new();
    for (name, stock, cipher) in [("ours", false, AES_128_GCM), ("sshd", true, CHACHA20)] {
        let server = if stock {
            Server::stock(bastion)?
        } else {
            Server::ours(bastion)?
        };
        let tunnel = Tunnel::open(bastion, &server, 0, server.port, postgres.port, cipher)?;
        candidates.push((name, server.forward_port(0), Vec::new()));
        // Ended in this order.
        parts.push((tunnel, server));
    }
    for _ in 0..TURNS {
        for (_, port, rates) in &mut candidates {
            rates.push(postgres.connections_per_second(*port)?);
        }
    }
    let mut base = None;
    for (name, _, rates) in &mut candidates {
        rates.sort_by(f64::total_cmp);
        let rate = rates[TURNS / 2];
        let base = *base.get_or_insert(rate);
        row(name, &format!("{rate:.0}/s"), rate / base, "of direct");
    }
    Ok(())
}

/// A cluster of its own in a folder, with everybody trusted.
struct Postgres {
    dir: String,
    port: u16,
}

impl Postgres {
    fn start(parent: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        // PostgreSQL runs as its own user, who must get through.
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o711))?;
        let dir = parent.join("postgres");
        std::fs::create_dir(&dir)?;
        let dir = dir.display().to_string();
        if is_root()? {
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

    fn connections_per_second(&self, port: u16) -> anyhow::Result<f64> {
        let text = self.pgbench(port, &["-C", "-S", "-n", "-T", "3"])?;
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
        if is_root()? {
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

fn is_root() -> anyhow::Result<bool> {
    Ok(Command::new("id").arg("-u").output()?.stdout == b"0\n")
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
    let mut text = String::new();
    let mut log = log;
    std::io::Seek::rewind(&mut log)?;
    std::io::Read::read_to_string(&mut log, &mut text)?;
    ensure!(status.success(), "{command:?} failed: {text}");
    Ok(text)
}
