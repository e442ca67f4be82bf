//! The two servers that are compared, and the real `ssh` on the bastion's side.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::serve;

/// How many ports each server may forward.
pub const PORTS: u16 = 1_200;

/// A child process, ended when dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The bastion: a key, and a folder for everything.
pub struct Bastion {
    pub dir: TempDir,
    pub key: PathBuf,
    /// OpenSSH's one line, without a comment.
    pub public_key: String,
    user: String,
}

impl Bastion {
    pub fn prepare() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let key = dir.path().join("id_ed25519");
        generate_key(&key)?;
        let public_key = fs::read_to_string(key.with_extension("pub"))?;
        let public_key = public_key.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let user = Command::new("id").arg("-un").output()?.stdout;
        Ok(Bastion {
            dir,
            key,
            public_key,
            user: String::from_utf8(user)?.trim().to_owned(),
        })
    }
}

fn generate_key(path: &PathBuf) -> anyhow::Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(path)
        .status()
        .context("ssh-keygen")?;
    ensure!(status.success(), "ssh-keygen failed");
    Ok(())
}

/// A running server.
pub struct Server {
    pub process: Process,
    pub port: u16,
    user: String,
    first_forward_port: u16,
}

impl Server {
    /// Ours.
    pub fn ours(bastion: &Bastion) -> anyhow::Result<Self> {
        let (port, first_forward_port) = ports()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(serve::ARGUMENT)
            .args([port, first_forward_port, PORTS].map(|n| n.to_string()))
            .arg(bastion.dir.path().join("host-keys"))
            .arg(&bastion.public_key);
        Self::started(command, port, "tunnel", first_forward_port)
    }

    /// Stock sshd, with a configuration of its own.
    pub fn stock(bastion: &Bastion) -> anyhow::Result<Self> {
        let (port, first_forward_port) = ports()?;
        // sshd insists on this folder, which its service unit makes otherwise.
        let _ = fs::create_dir_all("/run/sshd");
        let dir = bastion.dir.path();
        let host_key = dir.join(format!("sshd-{port}"));
        generate_key(&host_key)?;
        fs::write(dir.join("authorized_keys"), &bastion.public_key)?;
        let config = dir.join(format!("sshd-{port}.conf"));
        fs::write(
            &config,
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n\
                 AuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\nMaxStartups 1000:30:1000\n\
                 PermitRootLogin yes\nLogLevel ERROR\n",
                host_key = host_key.display(),
                keys = dir.join("authorized_keys").display(),
            ),
        )?;
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-D").arg("-f").arg(&config);
        Self::started(command, port, &bastion.user, first_forward_port)
    }

    fn started(
        mut command: Command,
        port: u16,
        user: &str,
        first_forward_port: u16,
    ) -> anyhow::Result<Self> {
        let process = Process(command.stdin(Stdio::null()).spawn()?);
        wait_for(port)?;
        Ok(Server {
            process,
            port,
            user: user.to_owned(),
            first_forward_port,
        })
    }

    /// The port of the tunnel with this number.
    pub fn forward_port(&self, number: u16) -> u16 {
        self.first_forward_port + number
    }
}

/// A free port for SSH, and the first of [`PORTS`] ports that nobody else is given here.
fn ports() -> anyhow::Result<(u16, u16)> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let first = 11_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 16 * PORTS;
    Ok((listener.local_addr()?.port(), first))
}

fn wait_for(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A running `ssh -N -R`.
pub struct Tunnel {
    _process: Process,
}

impl Tunnel {
    /// Starts it without waiting for it. `entrance` is the port it connects to: the server's, or
    /// that of a delay line before it.
    pub fn start(
        bastion: &Bastion,
        server: &Server,
        number: u16,
        entrance: u16,
        to: u16,
        cipher: &str,
    ) -> anyhow::Result<Self> {
        let forward = format!("127.0.0.1:{}:127.0.0.1:{to}", server.forward_port(number));
        let child = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR"])
            .args(["-c", cipher, "-N", "-R", &forward, "-i"])
            .arg(&bastion.key)
            .args(["-p", &entrance.to_string()])
            .arg(format!("{}@127.0.0.1", server.user))
            .stdin(Stdio::null())
            .spawn()
            .context("ssh")?;
        Ok(Tunnel {
            _process: Process(child),
        })
    }

    /// Starts it and waits until the forwarded port listens.
    pub fn open(
        bastion: &Bastion,
        server: &Server,
        number: u16,
        entrance: u16,
        to: u16,
        cipher: &str,
    ) -> anyhow::Result<Self> {
        let tunnel = Self::start(bastion, server, number, entrance, to, cipher)?;
        wait_for(server.forward_port(number))?;
        Ok(tunnel)
    }
}
