//! The PROXY protocol, versions 1 and 2: a load balancer says in front of everything else whose
//! connection it hands on. Only those that are trusted are listened to.

use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use proxy_header::{Error, ParseConfig, ProxyHeader};
use thiserror::Error;
use tokio::time::timeout;

use super::limits::PROXY_SILENCE;
use super::socket::Socket;

/// The longest header that is read, with everything that version 2 may add.
const LONGEST: usize = 4 << 10;

const VERSION_1: &[u8] = b"PROXY ";
/// With its line's end. What reads it holds a line to that only while it is not complete.
const LONGEST_VERSION_1: usize = 107;
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// How a connection from a trusted proxy begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// Whose connection it is, if not the proxy's own.
    pub client: Option<SocketAddr>,
    /// What was read beyond the header.
    pub rest: BytesMut,
}

/// Why nothing comes of it.
#[derive(Debug, Error)]
pub enum NoBeginning {
    /// The header is none.
    #[error("its PROXY header cannot be read")]
    Broken,
    /// It ended, or the connection failed.
    #[error("it ended before its first line was complete")]
    Ended,
}

/// Reads the header, or finds that there is none: then it is the proxy's own connection, of which the
/// client may be waiting for the server's first word. The time for a header that has begun is the caller's
/// to bound.
pub(super) async fn read(socket: &Socket) -> Result<Beginning, NoBeginning> {
    let mut bytes = BytesMut::new();
    let first = timeout(PROXY_SILENCE, socket.read_first(&mut bytes, LONGEST));
    let Ok(mut read) = first.await else {
        return Ok(Beginning::default());
    };
    loop {
        match read {
            Ok(0) | Err(_) => return Err(NoBeginning::Ended),
            Ok(_) => {}
        }
        if let Some(beginning) = parse(&mut bytes)? {
            return Ok(beginning);
        }
        read = socket.read_first(&mut bytes, LONGEST).await;
    }
}

/// `None` where more is to come.
pub fn parse(bytes: &mut BytesMut) -> Result<Option<Beginning>, NoBeginning> {
    if ![VERSION_1, VERSION_2]
        .iter()
        .any(|start| may_become(bytes, start))
    {
        let rest = std::mem::take(bytes);
        return Ok(Some(Beginning { client: None, rest }));
    }
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(bytes, config) {
        Ok((_, length)) if length > LONGEST_VERSION_1 && bytes.starts_with(VERSION_1) => {
            Err(NoBeginning::Broken)
        }
        Ok((header, length)) => {
            let client = header.proxied_address().map(|proxied| proxied.source);
            bytes.advance(length);
            let rest = std::mem::take(bytes);
            Ok(Some(Beginning { client, rest }))
        }
        Err(Error::BufferTooShort) if bytes.len() < LONGEST => Ok(None),
        Err(_) => Err(NoBeginning::Broken),
    }
}

fn may_become(bytes: &[u8], start: &[u8]) -> bool {
    let length = bytes.len().min(start.len());
    bytes[..length] == start[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SSH: &[u8] = b"SSH-2.0-x\r\n";

    /// As it is read when it arrives byte by byte.
    fn read_slowly(sent: &[u8]) -> Result<Option<Beginning>, NoBeginning> {
        let mut bytes = BytesMut::new();
        for (at, byte) in sent.iter().enumerate() {
            bytes.extend_from_slice(&[*byte]);
            if let Some(mut beginning) = parse(&mut bytes)? {
                beginning.rest.extend_from_slice(&sent[at + 1..]);
                return Ok(Some(beginning));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn assert_client(header: &[u8], client: Option<&str>) {
        let sent = [header, SSH].concat();
        let expected = Beginning {
            client: client.map(|text| text.parse().unwrap()),
            rest: SSH.into(),
        };
        let mut at_once = BytesMut::from(&sent[..]);
        assert_eq!(parse(&mut at_once).unwrap().as_ref(), Some(&expected));
        assert_eq!(read_slowly(&sent).unwrap(), Some(expected));
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [VERSION_2, &[command, family], &length, addresses].concat()
    }

    #[test]
    fn both_versions_say_whose_connection_it_is() {
        assert_client(b"", None);
        assert_client(b"PROXY UNKNOWN\r\n", None);
        assert_client(
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 22\r\n",
            Some("203.0.113.7:4711"),
        );
        assert_client(
            b"PROXY TCP6 2001:db8::1 fd00::1 4711 22\r\n",
            Some("[2001:db8::1]:4711"),
        );
        let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 22];
        assert_client(&version_2(0x21, 0x11, &addresses), Some("203.0.113.7:4711"));
        assert_client(&version_2(0x20, 0, &[]), None);
        // With something that this version does not know.
        let more = [&addresses[..], &[0xEA, 0, 2, 7, 7]].concat();
        assert_client(&version_2(0x21, 0x11, &more), Some("203.0.113.7:4711"));
    }

    #[test]
    fn what_is_no_header_or_too_long_is_not_read_on() {
        for broken in [
            &b"PROXY TCP4 here there 1 2\r\n"[..],
            b"PROXY TCP5 1.1.1.1 1.1.1.1 1 2\r\n",
            &[b"PROXY TCP4 ".as_slice(), &[b'1'; 5_000]].concat(),
            &version_2(0x31, 0x11, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 3]),
            &version_2(0x21, 0x11, &[0; 5_000]),
        ] {
            let sent = [broken, &SSH.repeat(10)].concat();
            assert!(read_slowly(&sent).is_err(), "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_none_whether_it_comes_at_once_or_not() {
        for (more, is_read) in [(92, true), (93, false)] {
            let line = [b"PROXY UNKNOWN", &[b'x'; 93][..more], b"\r\n"].concat();
            let at_once = parse(&mut BytesMut::from(&line[..]));
            assert_eq!(at_once.is_ok(), is_read, "{more}");
            assert_eq!(read_slowly(&line).is_ok(), is_read, "{more}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_stops_the_reader(
            version in 0..3_usize,
            more in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let start = [VERSION_1, VERSION_2, b""][version];
            let _ = read_slowly(&[start, &more].concat());
        }
    }
}
