//! The network on the real host: names and connections, each within a bound and cut short by an
//! interrupt.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Connection;

/// How often a wait looks whether the run was interrupted.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// The addresses of a name, in the order in which the system gives them.
///
/// # Errors
/// There is none, or the resolver does not answer in time.
pub fn resolve(
    name: &str,
    port: u16,
    timeout: Duration,
    interrupted: &Arc<AtomicBool>,
) -> io::Result<Vec<SocketAddr>> {
    let name = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name)
        .to_owned();
    let addresses: Vec<SocketAddr> = aside(timeout, interrupted, move || {
        Ok((name.as_str(), port).to_socket_addrs()?.collect())
    })?;
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

/// Opens a connection that has `timeout` for everything: to be opened, read from and written to.
///
/// # Errors
/// As the system gives them.
pub fn connect(
    address: SocketAddr,
    timeout: Duration,
    interrupted: &Arc<AtomicBool>,
) -> io::Result<Box<dyn Connection>> {
    let deadline = Instant::now() + timeout;
    let stream = aside(timeout, interrupted, move || {
        TcpStream::connect_timeout(&address, timeout)
    })?;
    Ok(Box::new(BoundedStream {
        stream,
        deadline,
        interrupted: Arc::clone(interrupted),
    }))
}

/// Runs a call that may block, on a thread of its own that is left alone when the time is over.
fn aside<T: Send + 'static>(
    timeout: Duration,
    interrupted: &AtomicBool,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let deadline = Instant::now() + timeout;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more once the time is over, and that is all right.
        let _ = sender.send(call());
    });
    loop {
        let left = time_left(deadline, interrupted)?;
        match receiver.recv_timeout(left.min(INTERRUPT_CHECK)) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the call ended without a result"));
            }
        }
    }
}

/// The flag is only looked at: whoever drives the run takes it.
fn time_left(deadline: Instant, interrupted: &AtomicBool) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() || interrupted.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

struct BoundedStream {
    stream: TcpStream,
    deadline: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Read for BoundedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = time_left(self.deadline, &self.interrupted)?;
            self.stream
                .set_read_timeout(Some(left.min(INTERRUPT_CHECK)))?;
            match self.stream.read(buffer) {
                Err(error) if is_timeout(&error) => {}
                other => return other,
            }
        }
    }
}

impl Write for BoundedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = time_left(self.deadline, &self.interrupted)?;
        self.stream.set_write_timeout(Some(left))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
