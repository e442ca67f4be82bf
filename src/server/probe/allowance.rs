//! How much a test hears. Whoever stands at the other end may never end a line, a handshake or a result, and what
//! drivers keep of that is their own affair: so the sockets themselves stop, for all connections of a test together.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More than any database has to say to a few greetings, a login and two queries.
pub(super) const MOST_KIB: usize = 1024;

/// What a test may still hear. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance {
    heard: Arc<AtomicUsize>,
}

impl Allowance {
    /// Whether more was to be heard than there may be.
    pub(super) fn is_spent(&self) -> bool {
        self.heard.load(Ordering::Relaxed) > MOST_KIB * 1024
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        self.heard.fetch_add(bytes, Ordering::Relaxed);
        if self.is_spent() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the other side has sent more than {MOST_KIB} KiB"),
            ));
        }
        Ok(())
    }
}

/// A connection to what is tested.
pub(super) type Socket = Bounded<TcpStream>;

/// A connection that counts what is read from it, and ends it at the end of the allowance.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    allowance: Allowance,
}

impl<S> Bounded<S> {
    pub(super) fn new(inner: S, allowance: Allowance) -> Self {
        Bounded { inner, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        Poll::Ready(self.allowance.spend(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
