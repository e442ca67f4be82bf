//! A TCP relay that delivers every byte later by a fixed time, at any rate.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How many reads may be under way in each direction: 128 MiB, 20 Gbit/s at 50 ms.
const UNDER_WAY: usize = 1 << 10;
const READ: usize = 128 << 10;

pub struct DelayLine {
    pub port: u16,
}

impl DelayLine {
    /// Relays to a port of this host, as long as the process runs.
    pub fn start(to: u16, one_way: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
                    continue;
                };
                if let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) {
                    delay(near, far, one_way);
                    delay(far_too, near_too, one_way);
                }
            }
        });
        Ok(DelayLine { port })
    }
}

fn delay(from: TcpStream, to: TcpStream, one_way: Duration) {
    let _ = to.set_nodelay(true);
    let (sender, receiver) = sync_channel(UNDER_WAY);
    thread::spawn(move || take(from, &sender, one_way));
    thread::spawn(move || deliver(to, &receiver));
}

fn take(mut from: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, one_way: Duration) {
    loop {
        let mut bytes = vec![0; READ];
        let Ok(n @ 1..) = from.read(&mut bytes) else {
            return;
        };
        bytes.truncate(n);
        // A small piece must not hold the memory of a large one while it is under way.
        bytes.shrink_to_fit();
        if sender.send((Instant::now() + one_way, bytes)).is_err() {
            return;
        }
    }
}

fn deliver(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    for (due, bytes) in receiver {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
