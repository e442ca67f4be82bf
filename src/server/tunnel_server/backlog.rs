//! What has arrived for a reader and is not written yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use super::reader::Reader;

/// The packets, in order.
#[derive(Default)]
pub(super) struct Backlog {
    packets: VecDeque<Bytes>,
    /// Small packets, put together: each on its own would cost more memory than its bytes.
    small: BytesMut,
}

impl Backlog {
    /// Packets below this size are put together.
    const SMALL: usize = 4 << 10;
    /// How many packets are written with one system call.
    const WRITTEN_AT_ONCE: usize = 16;

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.small.is_empty()
    }

    pub(super) fn push(&mut self, packet: Bytes) {
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

    /// Returns how many bytes the reader has taken.
    pub(super) fn write_to(&mut self, reader: &Reader) -> io::Result<usize> {
        if self.packets.is_empty() {
            self.seal();
        }
        let slices: Vec<IoSlice<'_>> = self
            .packets
            .iter()
            .take(Self::WRITTEN_AT_ONCE)
            .map(|packet| IoSlice::new(packet))
            .collect();
        let written = reader.try_write_vectored(&slices)?;
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
