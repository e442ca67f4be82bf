//! Carrying bytes between an accepted connection and its channel, both ways.
//!
//! Each direction waits for its receiver and for nothing else. The end of one direction is passed on
//! and leaves the other open. What comes from the bastion is in `delivery`.

use std::io::{self, ErrorKind};

use bytes::BytesMut;
use russh::ChannelWriteHalf;
use russh::server::Msg;

use super::delivery::Delivery;
use super::reader::Reader;

/// How much is read from the accepted connection at once: a packet of OpenSSH's.
const READ: usize = 32 << 10;

/// Copies until both directions have ended. `count` is told how many bytes go to the bastion.
///
/// # Errors
/// The connection was cut: the reader has gone, or the session has. It must not look to either
/// side as if it had ended well.
pub(super) async fn copy(
    reader: &Reader,
    from_bastion: &Delivery,
    to_bastion: ChannelWriteHalf<Msg>,
    count: impl Fn(u64),
) -> io::Result<()> {
    let sending = send(reader, to_bastion, count);
    tokio::pin!(sending);
    tokio::select! {
        received = from_bastion.finished() => {
            received?;
            tokio::select! {
                sent = sending => sent,
                closed = from_bastion.closed() => closed,
            }
        }
        sent = &mut sending => {
            sent?;
            from_bastion.finished().await
        }
    }
}

/// From the accepted connection to the channel, until the connection's end.
async fn send(
    reader: &Reader,
    to_bastion: ChannelWriteHalf<Msg>,
    count: impl Fn(u64),
) -> io::Result<()> {
    loop {
        // The buffer is made when there is something to read: idle connections have none.
        reader.readable().await?;
        let mut bytes = BytesMut::with_capacity(READ);
        match reader.try_read_buf(&mut bytes) {
            Ok(0) => return to_bastion.eof().await.map_err(io::Error::other),
            Ok(read) => {
                count(read as u64);
                to_bastion
                    .data_bytes(bytes)
                    .await
                    .map_err(io::Error::other)?;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}
