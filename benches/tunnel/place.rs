//! Network namespaces without names: they end with the last process in them, so that there is
//! nothing to remove.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Whether this process may do everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Moves this thread, and those it starts, into a network namespace of its own with a loopback.
pub fn move_into_a_new_one() -> anyhow::Result<()> {
    // SAFETY: only UnshareFlags::FILES can take something from other threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("no network namespace of one's own")?;
    ip(&["link", "set", "lo", "up"])?;
    // What one turn has taught the kernel about a path must not speed up or slow down the next.
    setting("tcp_no_metrics_save", "1")?;
    // Tens of thousands of short connections need as many ports, above those that are forwarded.
    setting("ip_local_port_range", "32768 65000")
}

/// Another network namespace than the bench's own.
pub struct Place(File);

impl Place {
    pub fn new() -> anyhow::Result<Self> {
        let made = thread::spawn(|| {
            move_into_a_new_one()?;
            anyhow::Ok(Place(File::open("/proc/thread-self/ns/net")?))
        });
        made.join().expect("the thread cannot panic")
    }

    /// Does something there; sockets, processes and threads that it makes stay there.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            });
            there.join().expect("the thread cannot panic")
        })
    }
}

/// Runs iproute2's `ip` where the calling thread is.
pub fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments).status().context("ip")?;
    ensure!(status.success(), "ip {arguments:?} failed");
    Ok(())
}

/// One of the settings of IPv4 where the calling thread is.
pub fn setting(name: &str, value: &str) -> anyhow::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value)
        .with_context(|| format!("cannot set net.ipv4.{name}"))
}
