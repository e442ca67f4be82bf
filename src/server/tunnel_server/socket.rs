//! The TCP connection under an SSH session.
//!
//! It is shared: the session reads and writes it, and others may close it or listen for a sign
//! of life, whatever the session waits for at that moment.

use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How much is read from the kernel at once, at least and at most; the more comes, the more is
/// read. Without reading ahead, every packet would cost two system calls.
const READ_AHEAD: RangeInclusive<usize> = (4 << 10)..=(128 << 10);

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

/// The connection, as its session reads and writes it.
#[derive(Debug)]
pub(super) struct SocketStream {
    socket: Arc<Socket>,
    /// Read from the kernel, not asked for yet. It holds no memory while the peer is quiet.
    ahead: BytesMut,
    /// How much to read next.
    read: usize,
}

impl SocketStream {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        SocketStream {
            socket,
            ahead: BytesMut::new(),
            read: *READ_AHEAD.start(),
        }
    }

    /// Waits until something is read ahead, or the end is reached.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            match self.socket.stream.poll_read_ready(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    self.ahead = BytesMut::new();
                    self.read = *READ_AHEAD.start();
                    return Poll::Pending;
                }
            }
            self.ahead.reserve(self.read);
            match self.socket.stream.try_read_buf(&mut self.ahead) {
                Ok(0) => break,
                Ok(n) => {
                    if n >= self.read {
                        self.read = (self.read * 4).min(*READ_AHEAD.end());
                    }
                    self.socket.heard.notify_waiters();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(()))
    }
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
            ready!(self.socket.stream.poll_write_ready(cx))?;
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
