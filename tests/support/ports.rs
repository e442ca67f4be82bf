//! Ports that nobody else has.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::Mutex;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::wait;

const SOON: Duration = Duration::from_secs(10);

/// A port of loopback that nobody listens on, and nobody else's for as long as this process runs.
///
/// The kernel gives none of these to an outgoing connection: a test finds it free however late it
/// looks, and beside however many others.
pub fn free_port() -> u16 {
    static OWN: Mutex<(Vec<PortRange>, Range<u16>)> = Mutex::new((Vec::new(), 0..0));
    let mut own = OWN.lock().expect("nobody panics with it");
    let (ranges, left) = &mut *own;
    loop {
        match left.next() {
            Some(port) if is_free(port) => return port,
            Some(_) => {}
            None => {
                let range = PortRange::claim(PortRange::BLOCK);
                *left = range.first..range.first + range.count;
                ranges.push(range);
            }
        }
    }
}

/// Whether nobody listens on this port of loopback.
///
/// It is bound and not listened on. Another test of this process may start a program at this very moment, and that has
/// whatever is open here until its exec: a listener would stay for so long, and keep out whoever comes next.
pub fn is_free(port: u16) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.bind(&address.into()).is_ok()
}

/// Listens on a port of loopback that is free, or was a listener of this process just now: a program that another test
/// starts may have that until its exec.
pub fn listen_on(port: u16) -> TcpListener {
    let busy = || format!("port {port} is in use");
    wait::until("a port that is free again", SOON, busy, || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    })
}

/// Whether something listens on this port of loopback.
pub fn is_open(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

/// A few ports for one tunnel server, nobody else's for as long as this lives.
///
/// They are claimed by an abstract Unix socket, which the kernel gives up with the process however
/// that ends: two test runs on one machine do not meet.
pub struct PortRange {
    first: u16,
    count: u16,
    _claims: Vec<UnixListener>,
}

impl PortRange {
    /// So many are claimed together.
    const BLOCK: u16 = 10;
    /// Blocks lie in 20000–29999, below the kernel's ephemeral ports.
    const BLOCKS_FROM: u16 = 20_000;
    const BLOCKS: u16 = 1_000;

    /// Claims `count` ports.
    pub fn claim(count: u16) -> Self {
        let blocks = count.div_ceil(Self::BLOCK);
        let last = Self::BLOCKS - blocks;
        let start = std::process::id() as u16 % last;
        (start..last)
            .chain(0..start)
            .find_map(|block| {
                let first = Self::BLOCKS_FROM + block * Self::BLOCK;
                let claims = (0..blocks).map(|block| claim_block(first + block * Self::BLOCK));
                let range = PortRange {
                    first,
                    count,
                    _claims: claims.collect::<Option<_>>()?,
                };
                range.is_free().then_some(range)
            })
            .expect("free ports in a row between 20000 and 29999")
    }

    fn is_free(&self) -> bool {
        (self.first..self.first + self.count).all(is_free)
    }

    /// As `--ports` takes it.
    pub fn flag(&self) -> String {
        format!("{}-{}", self.first, self.first + self.count - 1)
    }
}

fn claim_block(first: u16) -> Option<UnixListener> {
    let name = format!("holistics-tunnel-ports-{first}");
    let address = UnixAddress::from_abstract_name(name).expect("a valid abstract name");
    UnixListener::bind_addr(&address).ok()
}
