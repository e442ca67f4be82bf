//! The server's own program, with a database that knows all bastions. One carries all of them where it may have as many
//! descriptors; otherwise they are shared out among as few as can.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, ensure};
use russh::keys::{Algorithm, PrivateKey};

use super::bastions::{Bastion, Bastions, files_of_a_process};
use crate::control_plane::{ControlPlane, Installation};
use crate::processes::{cpu_of_family, files, memory_of_family};

/// The first port of all; the last is below those that the kernel gives out itself.
const FIRST_PORT: u16 = 10_000;
const LAST_PORT: u16 = 32_767;

/// Descriptors of a server that are no idle tunnel's: logins, connections, the store.
const OTHER_FILES: usize = 2_300;

/// Where the programs are not optimized a login is work for so long that those who are let in need the machine.
const SLOW_LOGINS: [&str; 4] = ["--ssh-logins", "16", "--ssh-logins-per-address", "16"];

/// What a statement inserts at once.
const ROWS: usize = 500;

pub struct Servers(Vec<Server>);

struct Server {
    installation: Installation,
    running: Option<ControlPlane>,
    tunnels: usize,
    arguments: Vec<String>,
}

/// Starts as many servers as these tunnels need, and makes the bastions that they know.
pub fn start(tunnels: usize) -> anyhow::Result<(Servers, Bastions)> {
    let ports = usize::from(LAST_PORT - FIRST_PORT) + 1;
    ensure!(
        (1..=ports).contains(&tunnels),
        "there are ports for at most {ports} tunnels"
    );
    let each = files_of_a_process().saturating_sub(OTHER_FILES) / 2;
    ensure!(each > 0, "too few descriptors: raise `ulimit -n`");
    let number = tunnels.div_ceil(each);
    let (mut servers, mut bastions) = (Vec::new(), Vec::new());
    for server in 0..number {
        let own = tunnels / number + usize::from(server < tunnels % number);
        let first_port = FIRST_PORT + u16::try_from(bastions.len())?;
        let (server, address, keys) = Server::start(own, first_port)?;
        bastions.extend((first_port..).zip(keys).map(|(port, key)| Bastion {
            key,
            server: address,
            port,
        }));
        servers.push(server);
    }
    Ok((Servers(servers), Bastions::start(bastions)?))
}

impl Servers {
    pub fn number(&self) -> usize {
        self.0.len()
    }

    /// Seconds on a processor that those that run have used.
    pub fn processor(&self) -> anyhow::Result<f64> {
        self.sum(|process| Ok(cpu_of_family(process)?.all()))
    }

    /// Bytes, by proportional set size.
    pub fn memory(&self) -> anyhow::Result<f64> {
        self.sum(memory_of_family)
    }

    /// Open descriptors.
    pub fn files(&self) -> anyhow::Result<usize> {
        Ok(self.sum(|process| Ok(files(process)? as f64))? as usize)
    }

    fn sum(&self, of: impl Fn(u32) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
        let running = self.0.iter().filter_map(|server| server.running.as_ref());
        running.map(|running| of(running.process.id())).sum()
    }

    /// Ends all, as a service is ended, and starts them again at the same addresses; all at the same time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let restarts: Vec<_> = self
                .0
                .iter_mut()
                .map(|server| scope.spawn(|| server.restart()))
                .collect();
            restarts.into_iter().try_for_each(|restart| {
                restart
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
        })
    }

    /// Of how many tunnels an event is not written, by what their bastions have seen, in their order: how often each has
    /// come up, and whether it is up.
    pub fn lacking_events(
        &self,
        mut seen: impl Iterator<Item = (usize, bool)>,
    ) -> anyhow::Result<usize> {
        let mut lacking = 0;
        for server in &self.0 {
            // A session may take the place of one that is silent, which is an event of its own.
            let written = server.installation.rows(
                "SELECT data_source_id, sum(kind IN ('up', 'taken_over')), sum(kind = 'up') - sum(kind = 'down')
                 FROM events GROUP BY data_source_id",
            )?;
            let mut of_each = vec![(0, 0); server.tunnels];
            for (data_source, came, open) in written {
                let place = usize::try_from(data_source - 1)?;
                *of_each.get_mut(place).context("an unknown tunnel")? = (came, open);
            }
            for ((came, open), (times_up, is_up)) in of_each.into_iter().zip(&mut seen) {
                let is_whole = came >= i64::try_from(times_up)? && open == i64::from(is_up);
                lacking += usize::from(!is_whole);
            }
        }
        Ok(lacking)
    }
}

impl Server {
    fn start(
        tunnels: usize,
        first_port: u16,
    ) -> anyhow::Result<(Self, SocketAddr, Vec<PrivateKey>)> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
        let installation = Installation::new(&program)?;
        let keys: Vec<_> = (0..tunnels)
            .map(|_| PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519))
            .collect::<Result<_, _>>()?;
        installation.fill(rows(&keys, first_port)?)?;
        let last_port = first_port + u16::try_from(tunnels)? - 1;
        let mut arguments = vec!["--ports".to_owned(), format!("{first_port}-{last_port}")];
        let connections = (tunnels + 2_000).to_string();
        arguments.extend(["--ssh-connections".to_owned(), connections]);
        if cfg!(debug_assertions) {
            arguments.extend(SLOW_LOGINS.map(str::to_owned));
        }
        let mut server = Server {
            installation,
            running: None,
            tunnels,
            arguments,
        };
        let running = server.start_at("127.0.0.1:0")?;
        let address = running.ssh.parse()?;
        server.running = Some(running);
        Ok((server, address, keys))
    }

    fn start_at(&self, ssh: &str) -> anyhow::Result<ControlPlane> {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        self.installation.start_at(ssh, &arguments)
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        let running = self.running.take().context("it runs")?;
        let ssh = running.ssh.clone();
        running.end()?;
        self.running = Some(self.start_at(&ssh)?);
        Ok(())
    }
}

/// A data source for each key, with a tunnel whose service is installed.
fn rows(keys: &[PrivateKey], first_port: u16) -> anyhow::Result<String> {
    let all = keys.len();
    let mut rows = String::from("BEGIN;");
    for (part, keys) in keys.chunks(ROWS).enumerate() {
        let values = keys.iter().enumerate().map(|(place, key)| {
            let key = key.public_key().to_openssh()?;
            anyhow::Ok(format!(
                "({}, '{}', 1)",
                part * ROWS + place + 1,
                key.trim()
            ))
        });
        let values = values.collect::<anyhow::Result<Vec<_>>>()?.join(", ");
        rows.push_str(&format!(
            "INSERT INTO keys (id, public_key, created_at) VALUES {values};"
        ));
    }
    rows.push_str(&format!(
        "INSERT INTO data_sources (id, display_name, database_type, host, port, created_at, saved_at)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {all})
         SELECT i, 'Customer ' || i, 'postgresql', 'db', 5432, 1, 1 FROM n;
         INSERT INTO tunnels (id, data_source_id, key_id, remote_port, enrolled_with, enrolled_at, service_installed_at)
         SELECT id, id, id, {first_port} + id - 1, x'00', 1, 1 FROM data_sources;
         COMMIT;"
    ));
    Ok(rows)
}
