//! What a test has standing in the network.

use std::io;

use crate::bastion::host::Connection;

/// What a test has standing at a network address.
#[derive(Debug, Clone)]
pub enum Listener {
    Refuses,
    /// A firewall drops the packets.
    Silent,
    /// It accepts and says this to whatever it is told, then nothing more.
    Says(Vec<u8>),
    /// It accepts, says this and hangs up.
    HangsUp(Vec<u8>),
}

impl Listener {
    /// What a connection to it comes to.
    pub(super) fn connect(&self) -> io::Result<Box<dyn Connection>> {
        match self {
            Listener::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
            Listener::Silent => Err(io::ErrorKind::TimedOut.into()),
            Listener::Says(bytes) => Ok(Box::new(Line::new(bytes, false))),
            Listener::HangsUp(bytes) => Ok(Box::new(Line::new(bytes, true))),
        }
    }
}

/// A connection to a [`Listener`].
struct Line {
    said: io::Cursor<Vec<u8>>,
    hangs_up: bool,
}

impl Line {
    fn new(bytes: &[u8], hangs_up: bool) -> Self {
        Line {
            said: io::Cursor::new(bytes.to_vec()),
            hangs_up,
        }
    }
}

impl io::Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.said.read(buffer)? {
            0 if !self.hangs_up => Err(io::ErrorKind::TimedOut.into()),
            count => Ok(count),
        }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
