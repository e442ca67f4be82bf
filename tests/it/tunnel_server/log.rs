//! What the tunnel server writes to its log, of all tests of this process together: they look for
//! the address of their own peer.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::{Mutex, Once};

static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Kept;

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TEXT.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is written from now on.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_env_filter("info,russh=off")
            .with_writer(|| Kept)
            .init();
    });
}

/// The lines about this peer.
pub fn lines_about(peer: IpAddr) -> Vec<String> {
    let text = TEXT.lock().unwrap();
    String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| line.contains(&format!("peer={peer}:")))
        .map(str::to_owned)
        .collect()
}
