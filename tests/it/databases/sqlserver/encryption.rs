//! TLS on the server's side: its handshake in packets, and then without them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Does the handshake.
pub fn accept(
    stream: TcpStream,
    settings: &Arc<ServerConfig>,
) -> io::Result<StreamOwned<ServerConnection, Packets>> {
    let connection = ServerConnection::new(Arc::clone(settings)).map_err(io::Error::other)?;
    let mut encrypted = StreamOwned::new(connection, Packets::new(stream));
    while encrypted.conn.is_handshaking() {
        encrypted.conn.complete_io(&mut encrypted.sock)?;
    }
    encrypted.sock.is_handshake = false;
    Ok(encrypted)
}

/// A connection whose content goes in packets while the handshake lasts.
pub struct Packets {
    stream: TcpStream,
    is_handshake: bool,
    left: usize,
}

impl Packets {
    fn new(stream: TcpStream) -> Self {
        Packets {
            stream,
            is_handshake: true,
            left: 0,
        }
    }
}

impl Read for Packets {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_handshake && self.left == 0 {
            let mut header = [0; 8];
            self.stream.read_exact(&mut header)?;
            assert_eq!(header[0], 0x12, "the handshake is in pre-login packets");
            self.left = usize::from(u16::from_be_bytes([header[2], header[3]])) - header.len();
        }
        let most = if self.is_handshake {
            self.left.min(buffer.len())
        } else {
            buffer.len()
        };
        let count = self.stream.read(&mut buffer[..most])?;
        self.left = self.left.saturating_sub(count);
        Ok(count)
    }
}

impl Write for Packets {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        if !self.is_handshake {
            return self.stream.write(content);
        }
        let content = &content[..content.len().min(4088)];
        let length = u16::try_from(content.len() + 8).expect("a small packet");
        let [high, low] = length.to_be_bytes();
        let packet = [&[0x12, 1, high, low, 0, 0, 1, 0], content].concat();
        self.stream.write_all(&packet)?;
        Ok(content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
