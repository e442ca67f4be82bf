//! The network on the real host: names and connections, each within a bound and cut short by an
//! interrupt.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::Connection;
use super::interrupts::{CHECK_INTERVAL, Interrupts, aside};

/// How long an address has before the next one is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// The addresses of a name, in the order in which the system gives them.
pub fn resolve(
    name: &str,
    port: u16,
    timeout: Duration,
    interrupts: &Interrupts,
) -> io::Result<Vec<SocketAddr>> {
    let name = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name)
        .to_owned();
    let addresses: Vec<SocketAddr> = bounded(timeout, interrupts, move || {
        Ok((name.as_str(), port).to_socket_addrs()?.collect())
    })?;
    if addresses.is_empty() {
        return Err(no_address());
    }
    Ok(addresses)
}

/// Opens a connection that has `timeout` for everything: to be opened, read from and written to.
pub fn connect(
    address: SocketAddr,
    timeout: Duration,
    interrupts: &Arc<Interrupts>,
) -> io::Result<Box<dyn Connection>> {
    let deadline = Instant::now() + timeout;
    let stream = bounded(timeout, interrupts, move || {
        TcpStream::connect_timeout(&address, timeout)
    })?;
    Ok(Box::new(BoundedStream {
        stream,
        deadline,
        interrupts: Arc::clone(interrupts),
    }))
}

/// Opens a connection to one of a name's addresses and closes it.
pub fn probe(name: &str, port: u16, timeout: Duration, interrupts: &Interrupts) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    let addresses = resolve(name, port, timeout, interrupts)?;
    race(&alternating(addresses), deadline, interrupts)
}

/// Tries addresses one after another, and does not wait for one that keeps silent before it tries the
/// next: packets to a whole family of addresses may go nowhere.
fn race(addresses: &[SocketAddr], deadline: Instant, interrupts: &Interrupts) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    let mut untried = addresses.iter();
    let mut under_way = 0;
    let mut next_try = Instant::now();
    let mut failure = None;
    loop {
        let left = match time_left(deadline, interrupts) {
            Ok(left) => left,
            // A refusal says more than another address's silence.
            Err(silence) => return Err(failure.unwrap_or(silence)),
        };
        if Instant::now() >= next_try
            && let Some(&address) = untried.next()
        {
            let sender = sender.clone();
            std::thread::spawn(move || {
                // Nobody listens any more once one was reached, and that is all right.
                let _ = sender.send(TcpStream::connect_timeout(&address, left).map(drop));
            });
            under_way += 1;
            next_try = Instant::now() + HEAD_START;
        } else if under_way == 0 && untried.len() == 0 {
            return Err(failure.unwrap_or_else(no_address));
        }
        // This function holds a sender: there is a message, or time goes by.
        match receiver.recv_timeout(left.min(CHECK_INTERVAL)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                under_way -= 1;
                next_try = Instant::now();
                if failure.is_none() || !is_timeout(&error) {
                    failure = Some(error);
                }
            }
            Err(_) => {}
        }
    }
}

/// The first address, then one of the other family, and so on.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

/// Makes a call that may block, within a bound and until the run is interrupted.
fn bounded<T: Send + 'static>(
    timeout: Duration,
    interrupts: &Interrupts,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let deadline = Instant::now() + timeout;
    let look = || time_left(deadline, interrupts).map(drop);
    aside(call, look)?.unwrap_or_else(|| Err(io::Error::other("the call ended without a result")))
}

/// An interrupt is only looked at: whoever drives the run takes it.
fn time_left(deadline: Instant, interrupts: &Interrupts) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() || interrupts.is_pending() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

struct BoundedStream {
    stream: TcpStream,
    deadline: Instant,
    interrupts: Arc<Interrupts>,
}

impl Read for BoundedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = time_left(self.deadline, &self.interrupts)?;
            self.stream
                .set_read_timeout(Some(left.min(CHECK_INTERVAL)))?;
            match self.stream.read(buffer) {
                Err(error) if is_timeout(&error) => {}
                other => return other,
            }
        }
    }
}

impl Write for BoundedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = time_left(self.deadline, &self.interrupts)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpListener;

    /// A place on loopback that swallows what is sent to it: nobody takes anything off its full queue.
    fn black_hole() -> (SocketAddr, Socket, Vec<TcpStream>) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queue.push(stream);
        }
        (address, socket, queue)
    }

    fn in_five_seconds() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn a_black_hole_does_not_keep_the_next_address_from_its_turn() {
        let (black_hole, _socket, _queue) = black_hole();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [black_hole, black_hole, listener.local_addr().unwrap()];
        let begun = Instant::now();
        race(&addresses, in_five_seconds(), &Interrupts::default()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_refusal_says_more_than_silence_and_silence_is_bounded() {
        let (black_hole, _socket, _queue) = black_hole();
        // Bound and gone again: nothing listens there.
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let soon = Instant::now() + Duration::from_secs(3);
        let interrupts = Interrupts::default();
        let error = race(&[black_hole, closed], soon, &interrupts).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let soon = Instant::now() + Duration::from_millis(100);
        let error = race(&[black_hole], soon, &interrupts).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let begun = Instant::now();
        let error = race(&[closed], in_five_seconds(), &interrupts).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "nobody is left to wait for"
        );
    }

    #[test]
    fn an_interrupt_ends_a_probe() {
        let (black_hole, _socket, _queue) = black_hole();
        let interrupts = Interrupts::default();
        interrupts.pretend();
        let begun = Instant::now();
        race(&[black_hole], in_five_seconds(), &interrupts).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert!(
            interrupts.check().is_err(),
            "whoever drives the run is told"
        );
    }

    #[test]
    fn the_families_take_turns_and_the_system_s_first_choice_comes_first() {
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"];
        let addresses = all.map(|address| address.parse().unwrap());
        let mixed = alternating(addresses.to_vec());
        let expected = [addresses[0], addresses[3], addresses[1], addresses[2]];
        assert_eq!(mixed, expected);
    }
}
