//! A "database" that answers every connection with bytes without end, and the reader of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

pub struct Source {
    pub port: u16,
}

impl Source {
    /// It serves as long as the process runs.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                thread::spawn(move || {
                    let block = vec![0x5a; 256 << 10];
                    while connection.write_all(&block).is_ok() {}
                });
            }
        });
        Ok(Source { port })
    }
}

/// Reads from a port, first to warm up and then to measure; bytes per second.
pub fn read_for(port: u16, time: Duration, warm_up: Duration) -> anyhow::Result<f64> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = vec![0; 256 << 10];
    let mut read_until = |end: Instant| -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut bytes = 0;
        while Instant::now() < end {
            let n = connection.read(&mut buffer)?;
            anyhow::ensure!(n > 0, "the connection ended");
            bytes += n;
        }
        Ok(bytes as f64 / started.elapsed().as_secs_f64())
    };
    read_until(Instant::now() + warm_up + Duration::from_millis(300))?;
    read_until(Instant::now() + time)
}
