//! The handshake of TLS inside TDS packets, which is how SQL Server wants it (MS-TDS, 2.2.6.5); what
//! comes after it goes as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire_probe::sqlserver::{HEADER, PRELOGIN};

/// The largest packet before a login, and what of it is not its header.
const LARGEST_CONTENT: usize = 4096 - HEADER;
/// The status of a packet that is followed by another, and of the last one.
const MORE: u8 = 0;
const LAST: u8 = 1;

/// A connection whose content goes in packets until [`Packets::end`].
#[derive(Debug)]
pub(super) struct Packets<S> {
    inner: S,
    is_ended: bool,
    /// What is to be put into packets by the next flush.
    content: Vec<u8>,
    /// Packets that are on their way.
    outgoing: Vec<u8>,
    /// The header of the packet that is being read, as far as it has come.
    header: Vec<u8>,
    /// How much of its content is still to come.
    left: usize,
}

impl<S> Packets<S> {
    pub(super) fn new(inner: S) -> Self {
        Packets {
            inner,
            is_ended: false,
            content: Vec::new(),
            outgoing: Vec::new(),
            header: Vec::new(),
            left: 0,
        }
    }

    /// The handshake is over.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }
}

fn packets(content: &[u8]) -> Vec<u8> {
    let mut packets = Vec::new();
    let mut chunks = content.chunks(LARGEST_CONTENT).peekable();
    while let Some(chunk) = chunks.next() {
        let status = if chunks.peek().is_some() { MORE } else { LAST };
        // At most 4096, by the size of a chunk.
        let [high, low] = ((HEADER + chunk.len()) as u16).to_be_bytes();
        packets.extend_from_slice(&[PRELOGIN, status, high, low, 0, 0, 1, 0]);
        packets.extend_from_slice(chunk);
    }
    packets
}

impl<S: AsyncRead + Unpin> Packets<S> {
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left == 0 {
            let mut bytes = [0; HEADER];
            let mut buffer = ReadBuf::new(&mut bytes[self.header.len()..]);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.header.extend_from_slice(buffer.filled());
            if let [_, _, high, low, _, _, _, _] = self.header[..] {
                let length = usize::from(u16::from_be_bytes([high, low]));
                self.left = length.saturating_sub(HEADER);
                self.header.clear();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Packets<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_ended {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        ready!(this.poll_header(cx))?;
        let mut part = buffer.take(this.left);
        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
        let content = part.filled().to_vec();
        this.left -= content.len();
        buffer.put_slice(&content);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Packets<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_ended {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        }
        self.content.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let content = std::mem::take(&mut this.content);
        this.outgoing.extend_from_slice(&packets(&content));
        while !this.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.outgoing.drain(..written);
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn what_is_written_goes_in_packets_until_the_handshake_is_over() {
        let (ours, mut theirs) = duplex(64 * 1024);
        let mut ours = Packets::new(ours);
        ours.write_all(&[7; 5000]).await.unwrap();
        ours.flush().await.unwrap();
        ours.end();
        ours.write_all(b"after").await.unwrap();
        drop(ours);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent[..4], [PRELOGIN, MORE, 0x10, 0x00]);
        let second = 4096;
        assert_eq!(sent[second..second + 4], [PRELOGIN, LAST, 0x03, 0x98]);
        assert_eq!(sent.len(), 5000 + 2 * HEADER + 5);
        assert!(sent.ends_with(b"after"));
    }

    #[tokio::test]
    async fn what_comes_in_packets_is_read_without_them_however_it_is_cut() {
        let (ours, mut theirs) = duplex(3);
        let mut ours = Packets::new(ours);
        let sender = tokio::spawn(async move {
            let sent = b"\x12\x00\x00\x0d\0\0\x01\0hello\x12\x01\x00\x0e\0\0\x02\0 there";
            theirs.write_all(sent).await.unwrap();
            theirs.write_all(b"raw").await.unwrap();
        });
        let mut heard = [0; 11];
        ours.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello there");
        ours.end();
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"raw");
        sender.await.unwrap();
    }
}
