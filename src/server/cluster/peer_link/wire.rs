//! What two nodes say to each other before the bytes of a connection; `peer_link` describes it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::protocol::TunnelId;

const MAGIC: [u8; 4] = *b"HTPL";

/// The version that is spoken here.
pub const VERSION: u8 = 1;

/// What comes first and is the same in every version.
const BEGINNING: usize = MAGIC.len() + 1;

/// What follows in this one.
const REST: usize = 8 + 2 + 16 + 2;

/// For whom a connection is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub tunnel: TunnelId,
    pub port: u16,
    /// Who has connected to it.
    pub client: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The connection's bytes follow.
    Accepted = 1,
    /// No session of this node holds the tunnel with this port.
    NotHeld = 2,
    /// Its session has as many connections as it may.
    Full = 3,
    /// The request was of another version.
    OtherVersion = 4,
}

impl Answer {
    /// From the wire.
    pub(super) fn read(byte: u8) -> io::Result<Self> {
        let all = [
            Answer::Accepted,
            Answer::NotHeld,
            Answer::Full,
            Answer::OtherVersion,
        ];
        let found = all.into_iter().find(|answer| *answer as u8 == byte);
        found.ok_or_else(|| invalid("an unknown answer"))
    }
}

/// What has been asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Connection(Request),
    /// Something of this version.
    OtherVersion(u8),
}

impl Request {
    /// Asks for a tunnel that there is none of: only whether the node answers.
    pub(super) const NOTHING: Request = Request {
        tunnel: TunnelId(0),
        port: 0,
        client: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    };

    /// For the wire.
    pub fn bytes(&self) -> [u8; BEGINNING + REST] {
        let address = match self.client.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = [0; BEGINNING + REST];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5..13].copy_from_slice(&self.tunnel.0.to_be_bytes());
        bytes[13..15].copy_from_slice(&self.port.to_be_bytes());
        bytes[15..31].copy_from_slice(&address.octets());
        bytes[31..].copy_from_slice(&self.client.port().to_be_bytes());
        bytes
    }
}

/// Reads the beginning, which may be long in coming.
pub(super) async fn read_beginning(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
    let mut beginning = [0; BEGINNING];
    stream.read_exact(&mut beginning).await?;
    if beginning[..4] != MAGIC {
        return Err(invalid("no request"));
    }
    Ok(beginning[4])
}

/// Reads the rest, which follows at once.
pub(super) async fn read_rest(
    version: u8,
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Asked> {
    if version != VERSION {
        return Ok(Asked::OtherVersion(version));
    }
    let tunnel = TunnelId(stream.read_i64().await?);
    let port = stream.read_u16().await?;
    let mut address = [0; 16];
    stream.read_exact(&mut address).await?;
    let address = IpAddr::from(address).to_canonical();
    let client = SocketAddr::new(address, stream.read_u16().await?);
    Ok(Asked::Connection(Request {
        tunnel,
        port,
        client,
    }))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> io::Result<Asked> {
        let version = read_beginning(&mut bytes).await?;
        read_rest(version, &mut bytes).await
    }

    #[tokio::test]
    async fn a_request_is_read_as_it_was_written() {
        for client in ["192.0.2.7:5432", "[2001:db8::7]:1"] {
            let request = Request {
                tunnel: TunnelId(1 << 40),
                port: 20_001,
                client: client.parse().unwrap(),
            };
            let asked = read(&request.bytes()).await.unwrap();
            assert_eq!(asked, Asked::Connection(request));
        }
    }

    #[tokio::test]
    async fn another_version_is_known_by_its_beginning_and_anything_else_is_none() {
        assert_eq!(
            read(b"HTPL\x02").await.unwrap(),
            Asked::OtherVersion(2),
            "whatever follows"
        );
        assert!(read(b"GET / HTTP/1.1\r\n\r\n").await.is_err());
        assert!(read(b"HTPL\x01abc").await.is_err());
    }
}
