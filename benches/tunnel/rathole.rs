//! rathole, a tunnel of another kind: one program on both sides, and Noise in the place of SSH.
//!
//! `scripts/bench` builds it; here is what it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::ssh::{Bastion, Server, everywhere};

pub const PROGRAM: &str = "rathole";

/// Both sides know it; who only listens does not see it.
const TOKEN: &str = "of-this-bench";

/// What listens at this port, and gives so many ports to tunnels.
pub fn server(
    bastion: &Bastion,
    port: u16,
    first_forward_port: u16,
    tunnels: u16,
) -> anyhow::Result<Command> {
    let [private, public] = keys()?;
    fs::write(public_key(bastion, port), public)?;
    let mut config = format!(
        "[server]\nbind_addr = \"{listen}:{port}\"\ndefault_token = \"{TOKEN}\"\n\
         [server.transport]\ntype = \"noise\"\n\
         [server.transport.noise]\nlocal_private_key = \"{private}\"\n",
        listen = everywhere()
    );
    for number in 0..tunnels {
        let forward = first_forward_port + number;
        config += &format!("[server.services.{number}]\nbind_addr = \"127.0.0.1:{forward}\"\n");
    }
    command(
        "--server",
        &bastion.dir.path().join(format!("rathole-{port}.toml")),
        config,
    )
}

/// What a bastion runs for tunnels with these numbers to these ports of its own.
pub fn client(
    bastion: &Bastion,
    server: &Server,
    tunnels: &[(u16, u16)],
) -> anyhow::Result<Command> {
    let port = server.port;
    let public = fs::read_to_string(public_key(bastion, port))?;
    let mut config = format!(
        "[client]\nremote_addr = \"127.0.0.1:{port}\"\ndefault_token = \"{TOKEN}\"\n\
         [client.transport]\ntype = \"noise\"\n\
         [client.transport.noise]\nremote_public_key = \"{public}\"\n"
    );
    for (number, to) in tunnels {
        config += &format!("[client.services.{number}]\nlocal_addr = \"127.0.0.1:{to}\"\n");
    }
    let (first, _) = tunnels.first().context("a client without tunnels")?;
    let name = format!("rathole-{port}-{first}.toml");
    command("--client", &bastion.dir.path().join(name), config)
}

fn command(side: &str, file: &Path, config: String) -> anyhow::Result<Command> {
    fs::write(file, config)?;
    let mut command = Command::new(PROGRAM);
    // It logs to its output.
    command.arg(side).arg(file).stdout(Stdio::null());
    Ok(command)
}

/// Where a bastion has the server's public key from.
fn public_key(bastion: &Bastion, port: u16) -> PathBuf {
    bastion.dir.path().join(format!("rathole-{port}.pub"))
}

/// A new private key and its public one.
fn keys() -> anyhow::Result<[String; 2]> {
    let made = Command::new(PROGRAM)
        .arg("--genkey")
        .output()
        .context("rathole cannot be run; scripts/bench builds it")?;
    ensure!(made.status.success(), "rathole --genkey: {}", made.status);
    let text = String::from_utf8(made.stdout)?;
    // Each stands in the line after its name.
    let key = |name: &str| -> anyhow::Result<String> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(name));
        let key = lines
            .nth(1)
            .with_context(|| format!("no {name} in: {text}"))?;
        Ok(key.trim().to_owned())
    };
    Ok([key("Private Key")?, key("Public Key")?])
}
