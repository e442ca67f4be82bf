//! A TCP relay that stands for a long path: every byte arrives later by a fixed time, and no more
//! than a TCP window is under way per round trip. Apart from that, it is as fast as the machine.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const READ: usize = 128 << 10;

/// A running relay.
pub struct DelayLine {
    pub port: u16,
}

/// Bytes on their way, and when they arrive.
type Delayed = (Instant, Vec<u8>);

impl DelayLine {
    /// Relays to a port of this host, as long as the process runs.
    pub fn start(to: u16, one_way: Duration, window: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
                    continue;
                };
                if let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) {
                    delay(near, far, one_way, window);
                    delay(far_too, near_too, one_way, window);
                }
            }
        });
        Ok(DelayLine { port })
    }
}

fn delay(from: TcpStream, to: TcpStream, one_way: Duration, window: usize) {
    let _ = to.set_nodelay(true);
    let (bytes, delayed) = channel();
    let (acknowledge, acknowledged) = channel();
    thread::spawn(move || {
        let window = Window {
            left: window,
            acknowledged,
            pending: VecDeque::new(),
        };
        take(from, &bytes, window, one_way);
    });
    thread::spawn(move || deliver(to, &delayed, &acknowledge, one_way));
}

/// What may still be sent before an acknowledgement has come back.
struct Window {
    left: usize,
    acknowledged: Receiver<(Instant, usize)>,
    pending: VecDeque<(Instant, usize)>,
}

impl Window {
    /// Waits for room; nothing if the other end has gone.
    fn room(&mut self) -> Option<usize> {
        loop {
            self.pending.extend(self.acknowledged.try_iter());
            while let Some(&(due, bytes)) = self.pending.front()
                && due <= Instant::now()
            {
                self.pending.pop_front();
                self.left += bytes;
            }
            if self.left > 0 {
                return Some(self.left);
            }
            match self.pending.front() {
                Some((due, _)) => thread::sleep(due.saturating_duration_since(Instant::now())),
                None => self.pending.push_back(self.acknowledged.recv().ok()?),
            }
        }
    }
}

fn take(mut from: TcpStream, bytes: &Sender<Delayed>, mut window: Window, one_way: Duration) {
    while let Some(room) = window.room() {
        let mut buffer = vec![0; room.min(READ)];
        let Ok(n @ 1..) = from.read(&mut buffer) else {
            return;
        };
        buffer.truncate(n);
        // A small piece must not hold the memory of a large one while it is under way.
        buffer.shrink_to_fit();
        window.left -= n;
        if bytes.send((Instant::now() + one_way, buffer)).is_err() {
            return;
        }
    }
}

fn deliver(
    mut to: TcpStream,
    delayed: &Receiver<Delayed>,
    acknowledge: &Sender<(Instant, usize)>,
    one_way: Duration,
) {
    for (due, bytes) in delayed {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
        let _ = acknowledge.send((Instant::now() + one_way, bytes.len()));
    }
    let _ = to.shutdown(Shutdown::Both);
}
