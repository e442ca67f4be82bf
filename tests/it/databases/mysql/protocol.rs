//! The part of MySQL's protocol that a test of a connection needs, from the server's side.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

/// The password that is accepted.
pub const PASSWORD: &str = "open sesame";
/// Who must encrypt.
pub const GUARDED: &str = "guarded";

const NONCE: [u8; 20] = *b"abcdefghijklmnopqrst";
/// `CLIENT_PROTOCOL_41`, `CLIENT_PLUGIN_AUTH` and what else every client of today has, without TLS.
const CAPABILITIES: u32 = 0x0018_a20d;
const OFFERS_TLS: u32 = 0x0800;
/// Length and number of a packet.
const HEADER: usize = 4;

/// Such a server.
pub struct Server {
    /// How it encrypts, if it does.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether it remembers the password's hash, so that it need not see the password.
    pub knows_password: bool,
}

impl Server {
    /// One connection.
    pub fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        write_packet(&mut stream, 0, &self.greeting())?;
        let (number, first) = read_packet(&mut stream)?;
        // A request for TLS is the beginning of a login, and goes no further.
        let asks_for_tls = first.len() == 32;
        match (&self.tls, asks_for_tls) {
            (Some(tls), true) => {
                let connection =
                    ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(connection, stream);
                let (number, login) = read_packet(&mut stream)?;
                self.converse(&mut stream, number, &login, true)
            }
            _ => self.converse(&mut stream, number, &first, false),
        }
    }

    fn greeting(&self) -> Vec<u8> {
        let capabilities = match self.tls {
            Some(_) => CAPABILITIES | OFFERS_TLS,
            None => CAPABILITIES,
        };
        let [a, b, c, d] = capabilities.to_le_bytes();
        [
            b"\x0a8.4.0\0\x08\0\0\0",
            &NONCE[..8],
            &[0, a, b, 255, 2, 0, c, d, 21],
            &[0; 10],
            &NONCE[8..],
            b"\0caching_sha2_password\0",
        ]
        .concat()
    }

    fn converse(
        &self,
        stream: &mut (impl Read + Write),
        number: u8,
        login: &[u8],
        is_encrypted: bool,
    ) -> io::Result<()> {
        // Capabilities, the largest packet, the character set and room for more come before the user.
        let mut fields = login[32..].splitn(2, |byte| *byte == 0);
        let user = fields.next().unwrap_or_default();
        let proof = fields.next().unwrap_or_default();
        let proof = &proof[1..1 + usize::from(proof[0])];
        if user == GUARDED.as_bytes() && !is_encrypted {
            let words = "Connections using insecure transport are prohibited while \
                         --require_secure_transport=ON.";
            return write_packet(stream, number + 1, &error(3159, words));
        }
        let (number, is_right) = if self.knows_password {
            (number, proof == expected_proof())
        } else {
            write_packet(stream, number + 1, &[1, 4])?;
            let (number, password) = read_packet(stream)?;
            assert!(is_encrypted, "a password is not sent in the clear");
            (number, password == format!("{PASSWORD}\0").as_bytes())
        };
        if !is_right {
            let words = "Access denied for user 'reader'@'10.0.0.9' (using password: YES)";
            return write_packet(stream, number + 1, &error(1045, words));
        }
        let number = if self.knows_password {
            write_packet(stream, number + 1, &[1, 3])?;
            number + 1
        } else {
            number
        };
        write_packet(stream, number + 1, &OK)?;
        answer_queries(stream)
    }
}

const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];
const END: [u8; 5] = [0xfe, 0, 0, 2, 0];

/// What shows that a client knows the password, without showing the password.
fn expected_proof() -> Vec<u8> {
    let once = Sha256::digest(PASSWORD);
    let twice = Sha256::digest(once);
    let mask = Sha256::new()
        .chain_update(twice)
        .chain_update(NONCE)
        .finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

fn answer_queries(stream: &mut (impl Read + Write)) -> io::Result<()> {
    loop {
        let (_, command) = read_packet(stream)?;
        let answer: &[u8] = match command.split_first() {
            Some((3, b"SELECT 1")) => b"1",
            Some((3, b"SELECT VERSION()")) => b"8.4.0",
            // A goodbye, or what a test has no use for.
            _ => return Ok(()),
        };
        write_packet(stream, 1, &[1])?;
        write_packet(stream, 2, &column())?;
        write_packet(stream, 3, &END)?;
        write_packet(stream, 4, &word(answer))?;
        write_packet(stream, 5, &END)?;
    }
}

/// A column of text.
fn column() -> Vec<u8> {
    let names = [&b"def"[..], b"", b"", b"", b"answer", b""];
    let mut column: Vec<_> = names.iter().flat_map(|name| word(name)).collect();
    let (utf8mb4, length, var_string) = ([45, 0], [255, 0, 0, 0], 0xfd);
    column.push(0x0c);
    column.extend_from_slice(&utf8mb4);
    column.extend_from_slice(&length);
    column.extend_from_slice(&[var_string, 0, 0, 0, 0, 0]);
    column
}

fn word(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short word");
    [&[length], text].concat()
}

fn error(number: u16, words: &str) -> Vec<u8> {
    [
        &[0xff],
        &number.to_le_bytes()[..],
        b"#28000",
        words.as_bytes(),
    ]
    .concat()
}

fn read_packet(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let mut content = vec![0; usize::try_from(length).expect("a small packet")];
    stream.read_exact(&mut content)?;
    Ok((header[3], content))
}

fn write_packet(stream: &mut impl Write, number: u8, content: &[u8]) -> io::Result<()> {
    let length = u8::try_from(content.len()).expect("a small packet");
    stream.write_all(&[&[length, 0, 0, number], content].concat())?;
    stream.flush()
}
