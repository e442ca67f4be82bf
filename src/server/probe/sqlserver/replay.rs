//! A connection on which the pre-login has been done, for a driver that begins with its own: its question
//! is kept back, and it hears the answer that the database has given already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Such a connection.
#[derive(Debug)]
pub(super) struct Replay<S> {
    inner: S,
    /// What of the answer is not heard yet.
    answer: Vec<u8>,
    /// The driver's question, as far as it has come; nothing once it is whole.
    question: Option<Vec<u8>>,
}

impl<S> Replay<S> {
    pub(super) fn new(inner: S, answer: Vec<u8>) -> Self {
        Replay {
            inner,
            answer,
            question: Some(Vec::new()),
        }
    }
}

/// Whether this is a whole packet. Its sender waits for an answer then, and nothing follows it.
fn is_whole(packet: &[u8]) -> bool {
    match packet {
        [_, _, high, low, ..] => packet.len() >= usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.answer.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        let count = buffer.remaining().min(self.answer.len());
        buffer.put_slice(&self.answer[..count]);
        self.answer.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(question) = &mut self.question else {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        };
        question.extend_from_slice(bytes);
        if is_whole(question) {
            self.question = None;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn the_first_question_stays_here_and_gets_the_known_answer() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = Replay::new(ours, b"known".to_vec());
        ours.write_all(b"\x12\x01\x00\x0a").await.unwrap();
        ours.write_all(b"\0\0\0\0??").await.unwrap();
        let mut heard = [0; 5];
        ours.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"known");
        ours.write_all(b"login").await.unwrap();
        let mut sent = [0; 5];
        theirs.read_exact(&mut sent).await.unwrap();
        assert_eq!(&sent, b"login");
        theirs.write_all(b"more").await.unwrap();
        drop(theirs);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"more");
    }
}
