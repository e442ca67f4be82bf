//! Carrying bytes between an accepted connection and its channel, both ways.
//!
//! Each direction waits for its receiver and for nothing else: what a reader has not taken stays
//! in this connection's backlog, within its window, and holds up no other connection. The end of
//! one direction is passed on and leaves the other open.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;

use bytes::{Buf, Bytes, BytesMut};
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::counters::{Count, Counters};
use super::window::ReceiveWindow;

/// How much is read from the accepted connection at once: a packet of OpenSSH's.
const READ: usize = 32 << 10;

/// Copies until both directions have ended.
///
/// # Errors
/// The connection was cut: the reader has gone, or the session has. It must not look to either
/// side as if it had ended well.
pub(super) async fn copy(
    socket: &TcpStream,
    channel: Channel<Msg>,
    window: ReceiveWindow,
    handle: &Handle,
    counters: &Counters,
) -> io::Result<()> {
    let id = channel.id();
    let (from_bastion, to_bastion) = channel.split();
    let inbound = Inbound {
        id,
        handle,
        window,
        carried: &counters.from_bastions,
        backlog: Backlog::default(),
    };
    let receiving = inbound.receive(from_bastion, socket);
    let sending = send(socket, to_bastion, &counters.to_bastions);
    tokio::pin!(receiving, sending);
    tokio::select! {
        received = &mut receiving => {
            let from_bastion = received?;
            tokio::select! {
                sent = sending => sent,
                closed = until_closed(from_bastion) => closed,
            }
        }
        sent = &mut sending => {
            sent?;
            receiving.await.map(drop)
        }
    }
}

/// From the accepted connection to the channel, until the connection's end.
async fn send(
    socket: &TcpStream,
    to_bastion: ChannelWriteHalf<Msg>,
    carried: &Count,
) -> io::Result<()> {
    loop {
        // The buffer is made when there is something to read: idle connections have none.
        socket.readable().await?;
        let mut bytes = BytesMut::with_capacity(READ);
        match socket.try_read_buf(&mut bytes) {
            Ok(0) => return to_bastion.eof().await.map_err(io::Error::other),
            Ok(read) => {
                carried.add(read as u64);
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

/// Waits for the end of a channel that has nothing more to say.
async fn until_closed(mut from_bastion: ChannelReadHalf) -> io::Result<()> {
    loop {
        match from_bastion.wait().await {
            Some(ChannelMsg::Close) => return Ok(()),
            Some(_) => {}
            None => return Err(session_ended()),
        }
    }
}

fn session_ended() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "the session has ended")
}

/// The direction from the bastion to the accepted connection.
struct Inbound<'a> {
    id: ChannelId,
    handle: &'a Handle,
    window: ReceiveWindow,
    carried: &'a Count,
    backlog: Backlog,
}

impl Inbound<'_> {
    /// Copies until the bastion has no more to say and the reader has taken everything. The
    /// channel comes back, since it can still be closed.
    async fn receive(
        mut self,
        mut from_bastion: ChannelReadHalf,
        socket: &TcpStream,
    ) -> io::Result<ChannelReadHalf> {
        loop {
            tokio::select! {
                message = from_bastion.wait() => match message {
                    Some(ChannelMsg::Data { data }) => {
                        self.window.received(data.len());
                        self.backlog.push(data);
                    }
                    Some(ChannelMsg::Eof) => {
                        self.drain(socket).await?;
                        shut_down_write(socket)?;
                        return Ok(from_bastion);
                    }
                    // An end without EOF is none that the database has asked for.
                    Some(ChannelMsg::Close) => {
                        self.drain(socket).await?;
                        return Err(io::Error::new(
                            ErrorKind::ConnectionAborted,
                            "the bastion has closed the channel",
                        ));
                    }
                    Some(_) => {}
                    None => return Err(session_ended()),
                },
                ready = socket.writable(), if !self.backlog.is_empty() => ready?,
            }
            self.write(socket)?;
        }
    }

    /// Waits until the reader has taken everything.
    async fn drain(&mut self, socket: &TcpStream) -> io::Result<()> {
        while !self.backlog.is_empty() {
            socket.writable().await?;
            self.write(socket)?;
        }
        Ok(())
    }

    /// Writes what the reader takes at this moment, and lets the bastion send as much again.
    fn write(&mut self, socket: &TcpStream) -> io::Result<()> {
        while !self.backlog.is_empty() {
            let written = match self.backlog.write_to(socket) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                result => result?,
            };
            self.carried.add(written as u64);
            self.window.consumed(written);
            if let Some(bytes) = self.window.grant() {
                self.handle
                    .grant_window(self.id, bytes)
                    .map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}

fn shut_down_write(socket: &TcpStream) -> io::Result<()> {
    match SockRef::from(socket).shutdown(Shutdown::Write) {
        Err(e) if e.kind() != ErrorKind::NotConnected => Err(e),
        _ => Ok(()),
    }
}

/// What has arrived and is not written yet, in order.
#[derive(Default)]
struct Backlog {
    packets: VecDeque<Bytes>,
    /// Small packets, put together: each on its own would cost more memory than its bytes.
    small: BytesMut,
}

impl Backlog {
    /// Packets below this size are put together.
    const SMALL: usize = 4 << 10;
    /// How many packets are written with one system call.
    const WRITTEN_AT_ONCE: usize = 16;

    fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.small.is_empty()
    }

    fn push(&mut self, packet: Bytes) {
        if packet.len() < Self::SMALL && !self.is_empty() {
            self.small.extend_from_slice(&packet);
            return;
        }
        self.seal();
        if !packet.is_empty() {
            self.packets.push_back(packet);
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.packets.push_back(self.small.split().freeze());
        }
    }

    /// Returns how many bytes the socket has taken.
    fn write_to(&mut self, socket: &TcpStream) -> io::Result<usize> {
        if self.packets.is_empty() {
            self.seal();
        }
        let slices: Vec<IoSlice<'_>> = self
            .packets
            .iter()
            .take(Self::WRITTEN_AT_ONCE)
            .map(|packet| IoSlice::new(packet))
            .collect();
        let written = socket.try_write_vectored(&slices)?;
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.packets.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.packets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_keeps_order_and_loses_nothing() {
        let mut backlog = Backlog::default();
        let mut expected = Vec::new();
        for i in 0..100_usize {
            let packet = vec![i as u8; (i * 379) % 9_000];
            expected.extend_from_slice(&packet);
            backlog.push(packet.into());
        }
        let mut seen = Vec::new();
        while !backlog.is_empty() {
            if backlog.packets.is_empty() {
                backlog.seal();
            }
            let front = backlog.packets.front().unwrap();
            let taken = front.len().min(1_000);
            seen.extend_from_slice(&front[..taken]);
            backlog.advance(taken);
        }
        assert!(seen == expected);
    }

    #[test]
    fn many_small_packets_become_few() {
        let mut backlog = Backlog::default();
        for _ in 0..10_000 {
            backlog.push(Bytes::from_static(b"x"));
        }
        backlog.seal();
        assert!(backlog.packets.len() <= 2);
    }
}
