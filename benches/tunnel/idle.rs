//! What an idle tunnel costs in the server's memory.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use russh::client;
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};

use crate::ssh::{Bastion, PORTS, Server, Tunnel};
use crate::{CHACHA20, row};

/// How many tunnels of real ssh clients; each costs 2 MiB on its own side.
const REAL: u16 = 60;
/// How many more of a small client, which only our server is asked to carry.
const SMALL: u16 = 1_000;
const _: () = assert!(REAL + SMALL <= PORTS);

pub fn measure(bastion: &Bastion) -> anyhow::Result<()> {
    let stock = per_real_tunnel(bastion, &Server::stock(bastion)?)?;
    let server = Server::ours(bastion)?;
    let ours = per_real_tunnel(bastion, &server)?;
    let many = per_small_tunnel(bastion, &server)?;
    row(&format!("sshd, {REAL} of ssh"), &kib(stock), 1.0, "of sshd");
    row(
        &format!("ours, {REAL} of ssh"),
        &kib(ours),
        ours / stock,
        "of sshd",
    );
    row(
        &format!("ours, {SMALL} of a small client"),
        &kib(many),
        many / stock,
        "of sshd",
    );
    Ok(())
}

fn per_real_tunnel(bastion: &Bastion, server: &Server) -> anyhow::Result<f64> {
    // The first ones pay for what is made once.
    let mut tunnels = open_real(bastion, server, 0..5)?;
    let before = memory(server)?;
    tunnels.extend(open_real(bastion, server, 5..5 + REAL)?);
    Ok((memory(server)? - before) / f64::from(REAL))
}

fn open_real(
    bastion: &Bastion,
    server: &Server,
    numbers: std::ops::Range<u16>,
) -> anyhow::Result<Vec<Tunnel>> {
    numbers
        .map(|number| Tunnel::open(bastion, server, number, server.port, 9, CHACHA20))
        .collect()
}

/// Accepts every host key: it is our own server on loopback.
struct SmallClient;

impl client::Handler for SmallClient {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

fn per_small_tunnel(bastion: &Bastion, server: &Server) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let key = Arc::new(load_secret_key(&bastion.key, None)?);
        let config = Arc::new(client::Config::default());
        let before = memory(server)?;
        let mut sessions = Vec::new();
        for number in 0..SMALL {
            let address = ("127.0.0.1", server.port);
            let mut session = client::connect(Arc::clone(&config), address, SmallClient).await?;
            let key = PrivateKeyWithHashAlg::new(Arc::clone(&key), None);
            let login = session.authenticate_publickey("tunnel", key).await?;
            ensure!(login.success(), "the key was refused");
            let port = u32::from(server.forward_port(PORTS - SMALL + number));
            session.tcpip_forward("127.0.0.1", port).await?;
            sessions.push(session);
        }
        Ok((memory(server)? - before) / f64::from(SMALL))
    })
}

/// The proportional set size of the server and its children, in bytes, once it is at rest.
fn memory(server: &Server) -> anyhow::Result<f64> {
    std::thread::sleep(Duration::from_secs(1));
    let mut bytes = 0.0;
    for process in family(server.process.0.id())? {
        // One that has ended meanwhile has no memory.
        if let Ok(rollup) = fs::read_to_string(format!("/proc/{process}/smaps_rollup")) {
            let line = rollup.lines().find(|line| line.starts_with("Pss:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            bytes += kib.context("no Pss")?.parse::<f64>()? * 1024.0;
        }
    }
    Ok(bytes)
}

/// A process and its descendants.
fn family(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&process) = family.get(next) {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            family.push(child.parse()?);
        }
    }
    Ok(family)
}

fn kib(bytes: f64) -> String {
    format!("{:.1} KiB", bytes / 1024.0)
}
