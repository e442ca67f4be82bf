//! What an idle tunnel costs in the server's memory.

use std::sync::Arc;

use anyhow::ensure;
use russh::client;
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};

use crate::figures::Figures;
use crate::processes::memory_of_family;
use crate::report::{Report, kib, none, two};
use crate::ssh::{Bastion, PORTS, Route, Server, Software, Tunnel};
use crate::{CHACHA20, Options};

/// How many tunnels of real ssh clients; each costs 2 MiB on its own side.
const REAL: u16 = 40;
/// How many more of a small client, which only our server is asked to carry.
const SMALL: u16 = 1_000;
const _: () = assert!(REAL + SMALL <= PORTS);

pub fn measure(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut table = report.table(
        "Idle memory of the server, per tunnel (proportional set size)",
        &["at most 32 KiB with a small client, whose number is large enough to be exact"],
        &["KiB", "most", "x sshd"],
    );
    let all = Software::all();
    let mut real = vec![Figures::default(); all.len()];
    let mut small = vec![Figures::default(); all.len()];
    for _ in 0..options.turns {
        for (i, software) in all.iter().enumerate() {
            // What an earlier turn has freed would hide what this one needs.
            let server = Server::start(bastion, *software)?;
            real[i].push(per_real_tunnel(bastion, &server)?);
            if *software != Software::Stock {
                small[i].push(per_small_tunnel(bastion, &server)?);
            }
        }
    }
    let sshd = &real[all.len() - 1];
    for (i, software) in all.iter().enumerate() {
        for (figures, clients) in [
            (&real[i], format!("{REAL} of ssh")),
            (&small[i], format!("{SMALL} of a small client")),
        ] {
            if figures.0.is_empty() {
                continue;
            }
            let ratio = match software {
                Software::Stock => none(),
                _ => two(figures.over(sshd).median()),
            };
            let name = format!("{}, {clients}", software.name());
            table.row(&name, &[kib(figures.median()), kib(figures.most()), ratio]);
        }
    }
    Ok(())
}

/// The memory of a server for one more tunnel of a real ssh.
pub fn per_real_tunnel(bastion: &Bastion, server: &Server) -> anyhow::Result<f64> {
    // The first ones pay for what is made once.
    let mut tunnels = open_real(bastion, server, 0..5)?;
    let before = memory_of_family(server.process.id())?;
    tunnels.extend(open_real(bastion, server, 5..5 + REAL)?);
    Ok((memory_of_family(server.process.id())? - before) / f64::from(REAL))
}

fn open_real(
    bastion: &Bastion,
    server: &Server,
    numbers: std::ops::Range<u16>,
) -> anyhow::Result<Vec<Tunnel>> {
    numbers
        .map(|number| Tunnel::open(bastion, server, Route::Loopback, number, 9, CHACHA20))
        .collect()
}

/// Accepts every host key: it is our own server on loopback.
pub struct SmallClient;

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
        let before = memory_of_family(server.process.id())?;
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
        Ok((memory_of_family(server.process.id())? - before) / f64::from(SMALL))
    })
}
