//! How a connection begins: its first bytes, kept until it has logged in.
//!
//! They say whether it speaks SSH at all, and what it speaks otherwise, for whoever wonders why
//! nothing came of it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::limits::{FIRST_BYTES, QUOTED};

/// What a connection has shown of itself so far.
#[derive(Debug, Default)]
pub(super) struct Opening {
    bytes: Mutex<Vec<u8>>,
    /// Done when the first line is complete.
    line: CancellationToken,
    refused_logins: AtomicUsize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstBytes {
    Nothing,
    Ssh(String),
    ProxyLine,
    Http,
    Tls,
    Other(String),
}

impl Opening {
    /// Becomes ready when the first line is complete.
    pub(super) async fn line(&self) {
        self.line.cancelled().await;
    }

    /// Whether the first line is complete.
    pub(super) fn has_line(&self) -> bool {
        self.line.is_cancelled()
    }

    pub(super) fn login_refused(&self) {
        self.refused_logins.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused_logins(&self) -> usize {
        self.refused_logins.load(Ordering::Relaxed)
    }

    pub(super) fn first_bytes(&self) -> FirstBytes {
        classify(&self.bytes())
    }

    /// It has logged in: what it began with is of no use any more.
    pub(super) fn forget(&self) {
        *self.bytes() = Vec::new();
    }

    /// Takes note of bytes; `false` if no more are wanted.
    fn note(&self, bytes: &[u8]) -> bool {
        let mut first = self.bytes();
        let room = FIRST_BYTES - first.len();
        first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let has_line = first.contains(&b'\n');
        if has_line {
            self.line.cancel();
        }
        !has_line && first.len() < FIRST_BYTES
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn classify(bytes: &[u8]) -> FirstBytes {
    /// What version 2 of the PROXY protocol begins with.
    const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    const METHODS: [&[u8]; 8] = [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"PUT ",
        b"OPTIONS ",
        b"CONNECT ",
        b"DELETE ",
        b"PRI * HTTP/2",
    ];
    if bytes.is_empty() {
        FirstBytes::Nothing
    } else if bytes.starts_with(b"SSH-") {
        let line = bytes.split(|&byte| byte == b'\n').next();
        FirstBytes::Ssh(quote(line.unwrap_or_default().trim_ascii_end()))
    } else if bytes.starts_with(b"PROXY ") || bytes.starts_with(PROXY_2) {
        FirstBytes::ProxyLine
    } else if METHODS.iter().any(|method| bytes.starts_with(method)) {
        FirstBytes::Http
    } else if bytes.starts_with(&[0x16, 0x03]) {
        FirstBytes::Tls
    } else {
        FirstBytes::Other(quote(bytes))
    }
}

/// What a stranger has sent, fit for a line of the log: nothing in it controls a terminal, and it is
/// not long.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut text: String = bytes.escape_ascii().map(char::from).collect();
    if text.len() > QUOTED {
        text.truncate(QUOTED);
        text.push('…');
    }
    text
}

/// A stream whose first line is noted in an [`Opening`].
#[derive(Debug)]
pub(super) struct Noted<S> {
    stream: S,
    opening: Option<Arc<Opening>>,
}

impl<S> Noted<S> {
    pub(super) fn new(stream: S, opening: Arc<Opening>) -> Self {
        Noted {
            stream,
            opening: Some(opening),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        this.opening = this.opening.take().filter(|opening| opening.note(read));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_speak_ssh_is_known_by_its_first_bytes() {
        for (bytes, what) in [
            (&b""[..], FirstBytes::Nothing),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
                FirstBytes::ProxyLine,
            ),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", FirstBytes::ProxyLine),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", FirstBytes::Http),
            (&[0x16, 0x03, 0x01, 0x02], FirstBytes::Tls),
            (
                b"SSH-2.0-OpenSSH_9.2p1\r\nmore",
                FirstBytes::Ssh("SSH-2.0-OpenSSH_9.2p1".to_owned()),
            ),
            (b"hello", FirstBytes::Other("hello".to_owned())),
        ] {
            assert_eq!(classify(bytes), what, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_quoted_controls_no_terminal_and_is_short() {
        assert_eq!(quote(b"a\x1b[31m\r\n\xffb"), "a\\x1b[31m\\r\\n\\xffb");
        assert!(quote(&[7; 1_000]).chars().count() <= QUOTED + 1);
    }

    #[test]
    fn bytes_are_noted_up_to_the_first_line_s_end() {
        let opening = Opening::default();
        assert!(opening.note(b"SSH-2.0-"));
        assert!(!opening.has_line());
        assert!(!opening.note(b"x\r\nand more"));
        assert!(opening.has_line());
        let endless = Opening::default();
        assert!(!endless.note(&[b'a'; 10_000]));
        assert!(!endless.has_line());
    }
}
