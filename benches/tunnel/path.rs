//! A long path, as the kernel sees one: two network namespaces, a TUN device in each, and between
//! them threads that deliver every frame later by a fixed time. The server and the reader are at one
//! end, in the bench's own namespace; the bastion's ssh and the database are at the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::ioctl::{IntegerSetter, Setter, ioctl, opcode};

use crate::place::{Place, ip, setting};

/// Addresses that are set aside for benchmarks (RFC 2544).
pub const NEAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

const DEVICE: &str = "path";
/// The largest frame that the kernel hands over at once, and the header before it.
const FRAME: usize = (64 << 10) + 256;

/// How much TCP may have under way.
#[derive(Clone, Copy)]
pub enum TcpBuffers {
    /// What a Linux host has if nobody has changed it.
    Default,
    /// Tuned for long paths: 32 MiB.
    Large,
}

impl TcpBuffers {
    pub fn name(self) -> &'static str {
        match self {
            TcpBuffers::Default => "TCP windows of 6 MiB, Linux's default maximum",
            TcpBuffers::Large => "TCP windows of 32 MiB, as on hosts tuned for long paths",
        }
    }

    /// Sets it where the calling thread is, for sockets made from then on.
    pub fn set(self) -> anyhow::Result<()> {
        let (read, write) = match self {
            TcpBuffers::Default => (6 << 20, 4 << 20),
            TcpBuffers::Large => (32 << 20, 32 << 20),
        };
        setting("tcp_rmem", &format!("4096 131072 {read}"))?;
        setting("tcp_wmem", &format!("4096 16384 {write}"))
    }
}

/// The path; it lasts as long as the process.
pub struct Path {
    pub far: Place,
}

impl Path {
    pub fn new(one_way: Duration) -> anyhow::Result<Self> {
        let far = Place::new()?;
        let near_end = device(NEAR)?;
        let far_end = far.run(|| device(FAR))?;
        carry(near_end.try_clone()?, far_end.try_clone()?, one_way);
        carry(far_end, near_end, one_way);
        Ok(Path { far })
    }

    pub fn set_buffers(&self, buffers: TcpBuffers) -> anyhow::Result<()> {
        buffers.set()?;
        self.far.run(|| buffers.set())
    }
}

/// The kernel's `struct ifreq`, as far as TUNSETIFF reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
/// Before every frame stands what a network card would have to do for it: cut it into segments, and
/// fill in the checksum. Both are left undone, so that 64 KiB pass at once and 2 Gbit/s take little
/// of a processor.
const IFF_VNET_HDR: u16 = 0x4000;
const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETOFFLOAD: rustix::ioctl::Opcode = opcode::write::<u32>(b'T', 208);

/// Makes this end's device where the calling thread is.
fn device(address: Ipv4Addr) -> anyhow::Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("/dev/net/tun")?;
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TUN | IFF_NO_PI | IFF_VNET_HDR,
        rest: [0; 22],
    };
    request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    // SAFETY: TUNSETIFF reads a whole `struct ifreq`, which is what it gets.
    unsafe {
        ioctl(
            tun.as_fd(),
            Setter::<TUNSETIFF, InterfaceRequest>::new(request),
        )
    }
    .context("TUNSETIFF")?;
    // SAFETY: TUNSETOFFLOAD takes a number and touches no memory.
    unsafe {
        ioctl(
            tun.as_fd(),
            IntegerSetter::<TUNSETOFFLOAD>::new_usize(TUN_F_CSUM | TUN_F_TSO4),
        )
    }
    .context("TUNSETOFFLOAD")?;
    ip(&["addr", "add", &format!("{address}/30"), "dev", DEVICE])?;
    // A burst of a whole TCP window waits here rather than being lost.
    ip(&["link", "set", DEVICE, "up", "txqueuelen", "20000"])?;
    Ok(tun)
}

/// A frame under way, and when it arrives.
type Delayed = (Instant, Vec<u8>);

/// Carries frames in one direction.
fn carry(from: File, to: File, one_way: Duration) {
    let (send, receive) = channel();
    thread::spawn(move || take(from, &send, one_way));
    thread::spawn(move || deliver(to, &receive));
}

fn take(mut from: File, frames: &Sender<Delayed>, one_way: Duration) {
    let mut buffer = vec![0; FRAME];
    loop {
        match from.read(&mut buffer) {
            Ok(n) => {
                let frame = buffer[..n].to_vec();
                if frames.send((Instant::now() + one_way, frame)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return eprintln!("bench: the path has ended: {error}"),
        }
    }
}

fn deliver(mut to: File, frames: &Receiver<Delayed>) {
    // By default the kernel wakes a thread up to 50 us late.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
    for (due, frame) in frames {
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        // A frame that the kernel does not take is lost, as on any path.
        let _ = to.write(&frame);
    }
}
