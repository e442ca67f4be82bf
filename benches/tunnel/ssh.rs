//! The servers that are compared, and the real `ssh` on the bastion's side.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use holistics_tunnel::server::cluster::peer_link::identity::Identity;
use tempfile::TempDir;

use crate::path::{self, Path};
use crate::processes::kill_family;
use crate::source::Source;
use crate::{place, rathole, serve};

/// How many ports each server may forward.
pub const PORTS: u16 = 1_200;

/// A child process, ended when dropped.
pub struct Process(pub Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

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

/// What serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Software {
    Ours,
    /// This bench's program, built from another state of the server: `BENCH_SERVER`.
    Before,
    /// Stock sshd.
    Stock,
    /// No SSH at all; in the table beside others alone.
    Rathole,
}

impl Software {
    /// All that are compared, sshd last.
    pub fn all() -> Vec<Software> {
        let mut all = vec![Software::Ours];
        if std::env::var_os("BENCH_SERVER").is_some() {
            all.push(Software::Before);
        }
        all.push(Software::Stock);
        all
    }

    /// Ours, in both states.
    pub fn all_of_ours() -> Vec<Software> {
        let mut all = Software::all();
        all.retain(|software| *software != Software::Stock);
        all
    }

    pub fn name(self) -> &'static str {
        match self {
            Software::Ours => "ours",
            Software::Before => "before",
            Software::Stock => "sshd",
            Software::Rathole => rathole::PROGRAM,
        }
    }
}

/// One of two nodes that know each other.
pub struct Node {
    /// Where its forwarded ports listen.
    forward: Ipv4Addr,
    /// The folder of what it shows to the other.
    dir: PathBuf,
    peer_port: u16,
    /// Both give the same ports.
    first_forward_port: u16,
}

impl Node {
    pub fn two(bastion: &Bastion) -> anyhow::Result<[Self; 2]> {
        let (_, first_forward_port) = ports()?;
        let node = |number: u8| -> anyhow::Result<Self> {
            let (peer_port, _) = ports()?;
            let dir = bastion.dir.path().join(format!("node-{number}"));
            // Made before either starts, since each looks at both.
            Identity::load_or_create(&dir)?;
            Ok(Node {
                forward: Ipv4Addr::new(127, 0, 0, number),
                dir,
                peer_port,
                first_forward_port,
            })
        };
        Ok([node(1)?, node(2)?])
    }
}

/// A running server.
pub struct Server {
    pub software: Software,
    pub process: Process,
    pub port: u16,
    user: String,
    forward: Ipv4Addr,
    first_forward_port: u16,
    command: Command,
}

impl Server {
    pub fn start(bastion: &Bastion, software: Software) -> anyhow::Result<Self> {
        match software {
            Software::Ours => Self::ours(bastion, software, std::env::current_exe()?),
            Software::Before => {
                let program = std::env::var_os("BENCH_SERVER").context("no BENCH_SERVER")?;
                Self::ours(bastion, software, PathBuf::from(program))
            }
            Software::Stock => Self::stock(bastion),
            Software::Rathole => {
                let (port, first_forward_port) = ports()?;
                let command = rathole::server(bastion, port, first_forward_port, PORTS)?;
                Self::started(software, command, port, "", first_forward_port)
            }
        }
    }

    fn ours(bastion: &Bastion, software: Software, program: PathBuf) -> anyhow::Result<Self> {
        let (port, first_forward_port) = ports()?;
        let mut command = Command::new(program);
        command
            .arg(serve::ARGUMENT)
            .arg(everywhere().to_string())
            .args([port, first_forward_port, PORTS].map(|n| n.to_string()))
            .arg(bastion.dir.path().join(format!("host-keys-{port}")))
            .arg(&bastion.public_key);
        Self::started(software, command, port, "tunnel", first_forward_port)
    }

    /// A node of ours, which has the other one beside it.
    pub fn start_node(bastion: &Bastion, node: &Node, other: &Node) -> anyhow::Result<Self> {
        let (port, _) = ports()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(serve::ARGUMENT)
            .arg(everywhere().to_string())
            .args([port, node.first_forward_port, PORTS].map(|n| n.to_string()))
            .arg(bastion.dir.path().join(format!("host-keys-{port}")))
            .arg(&bastion.public_key)
            .arg(node.forward.to_string());
        for node in [node, other] {
            command.arg(node.peer_port.to_string()).arg(&node.dir);
        }
        let first = node.first_forward_port;
        let mut server = Self::started(Software::Ours, command, port, "tunnel", first)?;
        server.forward = node.forward;
        Ok(server)
    }

    /// With a configuration of its own.
    fn stock(bastion: &Bastion) -> anyhow::Result<Self> {
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
                "Port {port}\nListenAddress {listen}\nHostKey {host_key}\nPidFile none\n\
                 AuthorizedKeysFile {keys}\nStrictModes no\nUsePAM no\nMaxStartups 1000:30:1000\n\
                 PermitRootLogin yes\nLogLevel ERROR\n",
                listen = everywhere(),
                host_key = host_key.display(),
                keys = dir.join("authorized_keys").display(),
            ),
        )?;
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-D").arg("-f").arg(&config);
        Self::started(
            Software::Stock,
            command,
            port,
            &bastion.user,
            first_forward_port,
        )
    }

    fn started(
        software: Software,
        mut command: Command,
        port: u16,
        user: &str,
        first_forward_port: u16,
    ) -> anyhow::Result<Self> {
        let log = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stderr(log.try_clone()?);
        let process = Process(command.spawn().context("cannot start a server")?);
        if let Err(error) = wait_for(port, START) {
            bail!("{error}: {}", text_in(log)?);
        }
        Ok(Server {
            software,
            process,
            port,
            user: user.to_owned(),
            forward: Ipv4Addr::LOCALHOST,
            first_forward_port,
            command,
        })
    }

    /// Kills it with all its sessions, and starts it at once at the same port.
    pub fn kill_and_start(&mut self) -> anyhow::Result<()> {
        kill_family(self.process.id())?;
        self.process.0.wait()?;
        self.process = Process(self.command.spawn().context("cannot start a server")?);
        wait_for(self.port, START)
    }

    /// The port of the tunnel with this number.
    pub fn forward_port(&self, number: u16) -> u16 {
        self.first_forward_port + number
    }

    /// Where the vendor reaches the tunnel with this number.
    pub fn entrance(&self, number: u16) -> SocketAddr {
        (self.forward, self.forward_port(number)).into()
    }
}

/// In a network namespace of its own a server listens on all addresses, else only for this host.
pub fn everywhere() -> Ipv4Addr {
    if place::is_root() {
        Ipv4Addr::UNSPECIFIED
    } else {
        Ipv4Addr::LOCALHOST
    }
}

/// A free port for SSH, and the first of [`PORTS`] ports that nobody else is given here.
fn ports() -> anyhow::Result<(u16, u16)> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let first = 11_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 16 * PORTS;
    Ok((listener.local_addr()?.port(), first))
}

/// How long a server or a tunnel may take to start.
pub const START: Duration = Duration::from_secs(60);

/// Waits until something listens on a port. Looking does not connect, which a session would see.
pub fn wait_for(port: u16, at_most: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + at_most;
    while !listens(port)? {
        if Instant::now() > deadline {
            bail!("nothing listens on port {port}");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

fn listens(port: u16) -> anyhow::Result<bool> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let sockets = fs::read_to_string("/proc/net/tcp")?;
    Ok(sockets.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some(LISTEN)
    }))
}

/// What a process has written to a file.
pub fn text_in(mut log: fs::File) -> anyhow::Result<String> {
    let mut text = String::new();
    log.rewind()?;
    log.read_to_string(&mut text)?;
    Ok(text)
}

/// Where the bastion and the database are, as seen from the server.
#[derive(Clone, Copy)]
pub enum Route<'a> {
    Loopback,
    Long(&'a Path),
}

impl Route<'_> {
    /// Does something on the bastion's side.
    pub fn at_the_bastion<T: Send>(
        self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        match self {
            Route::Loopback => work(),
            Route::Long(path) => path.far.run(work),
        }
    }

    /// A database beside the bastion.
    pub fn source(self) -> anyhow::Result<Source> {
        self.at_the_bastion(|| Source::start(everywhere()))
    }

    /// How the vendor would reach a database there without a tunnel.
    pub fn direct(self, port: u16) -> SocketAddr {
        match self {
            Route::Loopback => (Ipv4Addr::LOCALHOST, port).into(),
            Route::Long(_) => (path::FAR, port).into(),
        }
    }

    fn server(self) -> Ipv4Addr {
        match self {
            Route::Loopback => Ipv4Addr::LOCALHOST,
            Route::Long(_) => path::NEAR,
        }
    }
}

/// A running `ssh -N -R`, or what does the same to a server without SSH.
pub struct Tunnel {
    pub process: Process,
}

impl Tunnel {
    /// Starts it without waiting for it.
    pub fn start(
        bastion: &Bastion,
        server: &Server,
        route: Route,
        number: u16,
        to: u16,
        cipher: &str,
    ) -> anyhow::Result<Self> {
        let mut command = match server.software {
            Software::Rathole => rathole::client(bastion, server, &[(number, to)])?,
            _ => {
                let mut ssh = Command::new("ssh");
                ssh.args(Self::arguments(bastion, server, route, number, to, cipher));
                ssh
            }
        };
        command.stdin(Stdio::null());
        let child = route.at_the_bastion(|| command.spawn().context("no client"))?;
        Ok(Tunnel {
            process: Process(child),
        })
    }

    /// What ssh is told.
    pub fn arguments(
        bastion: &Bastion,
        server: &Server,
        route: Route,
        number: u16,
        to: u16,
        cipher: &str,
    ) -> Vec<OsString> {
        let forward = format!("127.0.0.1:{}:127.0.0.1:{to}", server.forward_port(number));
        let port = server.port.to_string();
        let place = format!("{}@{}", server.user, route.server());
        let words = [
            "-F",
            "none",
            "-N",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "ExitOnForwardFailure=yes",
            "-o",
            "LogLevel=FATAL",
            "-c",
            cipher,
            "-R",
            &forward,
            "-p",
            &port,
            "-i",
        ];
        let mut arguments: Vec<OsString> = words.map(OsString::from).to_vec();
        arguments.extend([bastion.key.clone().into(), place.into()]);
        arguments
    }

    /// Starts it and waits until the forwarded port listens.
    pub fn open(
        bastion: &Bastion,
        server: &Server,
        route: Route,
        number: u16,
        to: u16,
        cipher: &str,
    ) -> anyhow::Result<Self> {
        let tunnel = Self::start(bastion, server, route, number, to, cipher)?;
        wait_for(server.forward_port(number), START)?;
        Ok(tunnel)
    }
}
