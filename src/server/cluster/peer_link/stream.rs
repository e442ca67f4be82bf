//! A connection's bytes between two nodes, after its request was accepted.
//!
//! It is read and written as a socket is that does not wait, from two sides at once, so that it stands where a
//! socket does. One that is closed without [`PeerStream::say_everything`] counts as cut at the other end.

use std::io::{self, BufRead, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rustls::Connection;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// How much is read from the kernel at once. Buffers of this size are shared: an idle connection has none.
const READ: usize = 64 << 10;

/// How many of them are kept while they are not in use.
const BUFFERS_KEPT: usize = 16;

static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// When nothing was heard of the other node for so long, it is asked; it has three times this to answer.
const QUIET: Duration = Duration::from_secs(10);

/// The connection.
#[derive(Debug)]
pub struct PeerStream {
    socket: TcpStream,
    /// Apart, so that what holds either this or a socket is no larger for it.
    tls: Box<Mutex<Tls>>,
}

#[derive(Debug)]
struct Tls {
    connection: Connection,
    /// Whether there may be something to read that the socket no longer has, or the end.
    may_have_unread: bool,
    has_said_everything: bool,
}

impl PeerStream {
    /// From a connection whose handshake is done.
    pub(super) fn new(socket: TcpStream, connection: Connection) -> Self {
        let tls = Tls {
            connection,
            may_have_unread: true,
            has_said_everything: false,
        };
        PeerStream {
            socket,
            tls: Box::new(Mutex::new(tls)),
        }
    }

    /// Moves it to another scheduler, which watches its socket from then on.
    pub fn move_to(self, scheduler: &Handle) -> io::Result<Self> {
        let socket = self.socket.into_std()?;
        let _there = scheduler.enter();
        Ok(PeerStream {
            socket: TcpStream::from_std(socket)?,
            tls: self.tls,
        })
    }

    /// Waits until there is something to read, perhaps.
    pub async fn readable(&self) -> io::Result<()> {
        if self.tls().may_have_unread {
            return Ok(());
        }
        self.socket.readable().await
    }

    /// Waits, after the end that the other side has said, until it is gone altogether.
    pub async fn closed(&self) -> io::Result<()> {
        until_gone(&self.socket).await
    }

    /// After everything was [said](Self::say_everything), lets the other side know that this one has no ear for
    /// more, and waits until it is gone, too.
    pub async fn leave(&self) -> io::Result<()> {
        SockRef::from(&self.socket).shutdown(Shutdown::Write)?;
        until_gone(&self.socket).await
    }

    /// Waits until there is room for writing, perhaps.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Reads what is there, and makes room for it; 0 is the end that the other side has said.
    ///
    /// # Errors
    /// Nothing is there (`WouldBlock`), or the connection was cut.
    pub fn try_read_buf(&self, bytes: &mut BytesMut) -> io::Result<usize> {
        let mut tls = self.tls();
        if std::mem::take(&mut tls.may_have_unread)
            && let Some(read) = tls.take_out(bytes)?
        {
            return Ok(read);
        }
        let mut buffer = Buffer::get();
        let arrived = self.socket.try_read(&mut buffer.0)?;
        if arrived == 0 {
            return Err(cut());
        }
        let mut arrived = &buffer.0[..arrived];
        let mut read = 0;
        while !arrived.is_empty() {
            if tls.connection.read_tls(&mut arrived)? == 0 {
                // What follows the other side's last word is nothing.
                break;
            }
            let processed = tls.connection.process_new_packets();
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            match tls.take_out(bytes)? {
                Some(0) => break,
                Some(taken) => read += taken,
                None => {}
            }
        }
        // An answer that TLS itself gives goes with the next bytes, if not now.
        match self.flush(&mut tls) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        match read {
            0 if tls.may_have_unread => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }

    /// Takes bytes for the other side and sends what the socket takes of them. The rest has to be
    /// [flushed](Self::try_flush).
    ///
    /// # Errors
    /// There is no room at this moment (`WouldBlock`), or the connection was cut.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut tls = self.tls();
        self.flush(&mut tls)?;
        let taken = io::Write::write_vectored(&mut tls.connection.writer(), slices)?;
        match self.flush(&mut tls) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Whether something has to be flushed.
    pub fn has_unsent(&self) -> bool {
        self.tls().connection.wants_write()
    }

    /// Sends what was taken and not sent yet.
    ///
    /// # Errors
    /// The socket does not take all of it (`WouldBlock`), or the connection was cut.
    pub fn try_flush(&self) -> io::Result<()> {
        self.flush(&mut self.tls())
    }

    /// Tells the other side that nothing more follows; to be repeated while it would block.
    ///
    /// # Errors
    /// The socket does not take it yet (`WouldBlock`), or the connection was cut.
    pub fn say_everything(&self) -> io::Result<()> {
        let mut tls = self.tls();
        if !std::mem::replace(&mut tls.has_said_everything, true) {
            tls.connection.send_close_notify();
        }
        self.flush(&mut tls)
    }

    /// Makes its end a reset, whatever was said.
    pub fn abort(&self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Takes all these bytes, and waits until they are sent.
    pub(in crate::server) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        self.until_done(Self::try_flush).await
    }

    /// Waits until the other side's kernel can be told that nothing more follows.
    pub(in crate::server) async fn finish(&self) -> io::Result<()> {
        self.until_done(Self::say_everything).await
    }

    async fn until_done(&self, step: impl Fn(&Self) -> io::Result<()>) -> io::Result<()> {
        loop {
            match step(self) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                done => return done,
            }
        }
    }

    fn flush(&self, tls: &mut Tls) -> io::Result<()> {
        while tls.connection.wants_write() {
            tls.connection.write_tls(&mut Writer(&self.socket))?;
        }
        Ok(())
    }

    fn tls(&self) -> MutexGuard<'_, Tls> {
        // A panic in the middle of it ends the task, and the connection with it.
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tls {
    /// Everything that is decrypted: how much, or 0 at the end, or nothing.
    fn take_out(&mut self, bytes: &mut BytesMut) -> io::Result<Option<usize>> {
        let mut read = 0;
        let mut reader = self.connection.reader();
        loop {
            let chunk = match reader.fill_buf() {
                Ok([]) => {
                    // It is told again when everything before it was taken.
                    self.may_have_unread = true;
                    return Ok(Some(read));
                }
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            bytes.extend_from_slice(chunk);
            let taken = chunk.len();
            reader.consume(taken);
            read += taken;
        }
        Ok((read > 0).then_some(read))
    }
}

/// Without them small queries would wait for acknowledgements, and a node that has vanished would not be found. A bound
/// for unacknowledged bytes is not among them: it would cut off a client that lives and reads nothing for a while.
pub(super) fn set_options(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(QUIET)
        .with_interval(QUIET)
        .with_retries(3);
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

/// Waits until the other side has ended, whatever it still says.
pub(in crate::server) async fn until_gone(socket: &TcpStream) -> io::Result<()> {
    loop {
        // Where the other side is quick, it would never have to be waited for.
        tokio::task::consume_budget().await;
        socket.readable().await?;
        match socket.try_read(&mut [0; 4 << 10]) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(
        ErrorKind::ConnectionAborted,
        "the other node has cut the connection",
    )
}

/// The socket, for writing without waiting.
struct Writer<'a>(&'a TcpStream);

impl io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A buffer for reading, put back when it is dropped.
struct Buffer(Vec<u8>);

impl Buffer {
    fn get() -> Self {
        let kept = buffers().pop();
        Buffer(kept.unwrap_or_else(|| vec![0; READ]))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = buffers();
        if kept.len() < BUFFERS_KEPT {
            kept.push(std::mem::take(&mut self.0));
        }
    }
}

fn buffers() -> MutexGuard<'static, Vec<Vec<u8>>> {
    // A list of buffers is whole at any time.
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}
