//! A "database" that does what the first line of a connection asks for, and the vendor's side of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Bytes without end.
    Stream,
    /// So many bytes.
    Result(u64),
    /// Reads everything that is sent.
    Take,
    /// Sends back what is sent.
    Echo,
    /// One byte, and then the end at once.
    AnswerAndClose,
    /// One byte, and then the end when the reader has ended.
    AnswerAndWait,
    /// One byte, then no more bytes, and then the end when the reader has ended.
    AnswerAndHalfClose,
    /// One byte, when the reader sends no more bytes.
    AnswerAtEnd,
}

impl Request {
    fn parse(line: &str) -> Option<Self> {
        let (word, count) = line.trim_end().split_once(' ')?;
        Some(match word {
            "stream" => Request::Stream,
            "result" => Request::Result(count.parse().ok()?),
            "take" => Request::Take,
            "echo" => Request::Echo,
            "answer-and-close" => Request::AnswerAndClose,
            "answer-and-wait" => Request::AnswerAndWait,
            "answer-and-half-close" => Request::AnswerAndHalfClose,
            "answer-at-end" => Request::AnswerAtEnd,
            _ => return None,
        })
    }

    fn line(self) -> String {
        let (word, count) = match self {
            Request::Stream => ("stream", 0),
            Request::Result(count) => ("result", count),
            Request::Take => ("take", 0),
            Request::Echo => ("echo", 0),
            Request::AnswerAndClose => ("answer-and-close", 0),
            Request::AnswerAndWait => ("answer-and-wait", 0),
            Request::AnswerAndHalfClose => ("answer-and-half-close", 0),
            Request::AnswerAtEnd => ("answer-at-end", 0),
        };
        format!("{word} {count}\n")
    }
}

pub struct Source {
    pub port: u16,
    /// How many bytes have been taken.
    pub taken: Arc<AtomicU64>,
}

impl Source {
    /// Serves where the calling thread is, as long as the process runs.
    pub fn start(listen: Ipv4Addr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((listen, 0))?;
        let port = listener.local_addr()?.port();
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                // A reader that has gone is no matter; the reader knows what it missed.
                thread::spawn(move || serve(connection, &counter));
            }
        });
        Ok(Source { port, taken })
    }
}

fn serve(mut connection: TcpStream, taken: &AtomicU64) -> anyhow::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 << 10, connection.try_clone()?);
    let mut line = String::new();
    (&mut reader).take(100).read_line(&mut line)?;
    let Some(request) = Request::parse(&line) else {
        bail!("not a request");
    };
    let mut buffer = vec![0x5a; 4 << 10];
    match request {
        Request::Stream => {
            let block = vec![0x5a; 256 << 10];
            loop {
                connection.write_all(&block)?;
            }
        }
        Request::Result(mut count) => {
            let block = vec![0x5a; 256 << 10];
            while count > 0 {
                let n = block.len().min(count as usize);
                connection.write_all(&block[..n])?;
                count -= n as u64;
            }
        }
        Request::Take => {
            let mut buffer = vec![0; 256 << 10];
            loop {
                let n = reader.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                taken.fetch_add(n as u64, Ordering::Relaxed);
            }
        }
        Request::Echo => loop {
            let n = reader.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            connection.write_all(&buffer[..n])?;
        },
        Request::AnswerAndClose => connection.write_all(b"a")?,
        Request::AnswerAndWait => {
            connection.write_all(b"a")?;
            while reader.read(&mut buffer)? > 0 {}
        }
        Request::AnswerAndHalfClose => {
            connection.write_all(b"a")?;
            connection.shutdown(Shutdown::Write)?;
            while reader.read(&mut buffer)? > 0 {}
        }
        Request::AnswerAtEnd => {
            while reader.read(&mut buffer)? > 0 {}
            connection.write_all(b"a")?;
        }
    }
    Ok(())
}

/// A new connection on which this has been asked for.
pub fn ask(address: SocketAddr, request: Request) -> anyhow::Result<TcpStream> {
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(30))?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    connection.set_write_timeout(Some(Duration::from_secs(30)))?;
    connection.write_all(request.line().as_bytes())?;
    Ok(connection)
}

/// The time from connecting to the last byte of a result.
pub fn fetch(address: SocketAddr, bytes: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut connection = ask(address, Request::Result(bytes))?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let n = connection.read(&mut buffer)?;
        ensure!(n > 0, "the result is {left} bytes short");
        left = left.saturating_sub(n as u64);
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    FromDatabase,
    ToDatabase,
}

/// What has passed in each quarter of a second, on one connection.
pub struct Quarters {
    /// Bytes per second.
    pub rates: Vec<f64>,
    pub bytes: f64,
}

impl Quarters {
    pub fn mean(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }
}

const QUARTER: Duration = Duration::from_millis(250);

/// Counts what arrives on one new connection: first to warm up, and then so many quarters. Without
/// time to warm up, the first quarter begins before the connection is made.
pub fn quarters(
    address: SocketAddr,
    source: &Source,
    direction: Direction,
    warm_up: Duration,
    count: usize,
) -> anyhow::Result<Quarters> {
    let started = Instant::now();
    let counter = match direction {
        Direction::FromDatabase => Arc::default(),
        Direction::ToDatabase => Arc::clone(&source.taken),
    };
    let first = counter.load(Ordering::Relaxed);
    let request = match direction {
        Direction::FromDatabase => Request::Stream,
        Direction::ToDatabase => Request::Take,
    };
    let connection = ask(address, request)?;
    let work = {
        let mut connection = connection.try_clone()?;
        let counter = Arc::clone(&counter);
        thread::spawn(move || {
            let mut buffer = vec![0x5a; 256 << 10];
            // Ended by the shutdown below.
            match direction {
                Direction::FromDatabase => {
                    while let Ok(n @ 1..) = connection.read(&mut buffer) {
                        counter.fetch_add(n as u64, Ordering::Relaxed);
                    }
                }
                Direction::ToDatabase => while connection.write_all(&buffer).is_ok() {},
            }
        })
    };
    thread::sleep(warm_up);
    let mut since = if warm_up.is_zero() {
        started
    } else {
        Instant::now()
    };
    let mut last = if warm_up.is_zero() {
        first
    } else {
        counter.load(Ordering::Relaxed)
    };
    let mut rates = Vec::new();
    for _ in 0..count {
        thread::sleep((since + QUARTER).saturating_duration_since(Instant::now()));
        // On a busy machine a quarter may last a little longer.
        let (now, bytes) = (Instant::now(), counter.load(Ordering::Relaxed));
        rates.push((bytes - last) as f64 / (now - since).as_secs_f64());
        (since, last) = (now, bytes);
    }
    ensure!(last > first, "nothing has passed");
    ensure!(!work.is_finished(), "the connection ended");
    let _ = connection.shutdown(Shutdown::Both);
    let _ = work.join();
    Ok(Quarters {
        rates,
        bytes: (last - first) as f64,
    })
}
