//! The TCP connection under an SSH session.
//!
//! It is shared: the session reads and writes it, and others may close it or listen for a sign
//! of life, whatever the session waits for at that moment.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::delivery::Deliveries;

/// How much is read from the kernel at once by a session that has little to say.
const READ_LITTLE: usize = 4 << 10;

/// How much is read at once by a session that fills the above. Without reading ahead, every packet
/// would cost two system calls.
const READ_MUCH: usize = 128 << 10;

/// Buffers of [`READ_MUCH`] that are not in use. The allocator would give so much back to the kernel
/// and take it again with every read.
static BUFFERS: Mutex<Vec<BytesMut>> = Mutex::new(Vec::new());

/// How many of them are kept.
const BUFFERS_KEPT: usize = 16;

/// The connection, as others than its session see it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    heard: Notify,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Socket {
            stream,
            heard: Notify::new(),
        })
    }

    /// Becomes ready when the next bytes have arrived from the peer.
    pub(super) fn heard(&self) -> Notified<'_> {
        self.heard.notified()
    }

    /// Reads what has arrived, up to this many bytes in all; for the time before there is a session.
    pub(super) async fn read_first(&self, bytes: &mut BytesMut, most: usize) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            let left = most.saturating_sub(bytes.len());
            let mut room = (&mut *bytes).limit(left);
            match self.stream.try_read_buf(&mut room) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Whether something has arrived that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        matches!(SockRef::from(&self.stream).peek(&mut byte), Ok(1))
    }

    /// Ends both directions at once: the session's next read or write fails.
    pub(super) fn close(&self) {
        // It fails only if the peer has closed it already.
        let _ = SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both);
    }
}

/// The connection, as its session reads and writes it. Before the session waits for anything, what it
/// has taken in is written to its readers.
pub(super) struct SocketStream {
    socket: Arc<Socket>,
    deliveries: Arc<Deliveries>,
    /// Read from the kernel, not asked for yet. It holds no memory while the peer is quiet.
    ahead: BytesMut,
    /// Whether the last read has brought so much that more is to be expected.
    reads_much: bool,
}

impl SocketStream {
    /// With what has been read of it already.
    pub(super) fn new(socket: Arc<Socket>, deliveries: Arc<Deliveries>, ahead: BytesMut) -> Self {
        SocketStream {
            socket,
            deliveries,
            ahead,
            reads_much: false,
        }
    }

    /// Waits until something is read ahead, or the end is reached.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.deliveries.write_out();
        loop {
            if self.socket.stream.poll_read_ready(cx)?.is_pending() {
                self.put_buffer_back();
                self.reads_much = false;
                return Poll::Pending;
            }
            self.get_buffer();
            match self.socket.stream.try_read_buf(&mut self.ahead) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(n) => {
                    self.reads_much |= n >= READ_LITTLE;
                    self.socket.heard.notify_waiters();
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    fn get_buffer(&mut self) {
        if !self.reads_much {
            self.ahead.reserve(READ_LITTLE);
        } else if !self.ahead.try_reclaim(READ_MUCH) {
            let kept = lock_buffers().pop();
            self.ahead = kept.unwrap_or_else(|| BytesMut::with_capacity(READ_MUCH));
        }
    }

    fn put_buffer_back(&mut self) {
        let mut buffer = std::mem::take(&mut self.ahead);
        if buffer.try_reclaim(READ_MUCH) {
            let mut kept = lock_buffers();
            if kept.len() < BUFFERS_KEPT {
                kept.push(buffer);
            }
        }
    }
}

fn lock_buffers() -> MutexGuard<'static, Vec<BytesMut>> {
    // A list of empty buffers is whole at any time.
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for SocketStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        let length = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..length]);
        this.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.socket.stream.poll_write_ready(cx)?.is_pending() {
                self.deliveries.write_out();
                return Poll::Pending;
            }
            match self.socket.stream.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&self.socket.stream).shutdown(std::net::Shutdown::Write) {
            Err(e) if e.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
