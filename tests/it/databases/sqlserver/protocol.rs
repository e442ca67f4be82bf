//! The part of TDS (MS-TDS) that a test of a connection needs, from the server's side.

use std::io::{self, Read, Write};

use super::login;

/// The password that is accepted.
pub const PASSWORD: &str = "open sesame";

const HEADER: usize = 8;
const BATCH: u8 = 0x01;
const LOGIN: u8 = 0x10;
const PRELOGIN: u8 = 0x12;
const ANSWER: u8 = 0x04;

/// What a side says about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encryption {
    On = 1,
    NotSupported = 2,
    Required = 3,
}

/// Reads a pre-login and answers it; what both agree on.
pub fn answer_prelogin(
    stream: &mut (impl Read + Write),
    encryption: Encryption,
) -> io::Result<Encryption> {
    let (kind, question) = read_packet(stream)?;
    assert_eq!(kind, PRELOGIN, "the first packet is a pre-login");
    // Its option 1 is the last of our client's.
    let can_encrypt = question.last() != Some(&(Encryption::NotSupported as u8));
    let options = [0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff];
    let version = [16, 0, 0x10, 0x0e, 0, 0];
    let content = [&options[..], &version, &[encryption as u8]].concat();
    write_packet(stream, &content)?;
    if can_encrypt {
        Ok(encryption)
    } else {
        Ok(Encryption::NotSupported)
    }
}

/// A login and the queries after it.
pub fn converse(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let (kind, content) = read_packet(stream)?;
    assert_eq!(kind, LOGIN, "after the pre-login comes the login");
    let [user, password, _, _, _, _, _, database] =
        [40, 44, 48, 52, 56, 60, 64, 68].map(|at| field(&content, at));
    let password = scrambled(&password);
    let right = login();
    if text(&user) != right.username || password != PASSWORD {
        let words = format!("Login failed for user '{}'.", text(&user));
        return write_packet(stream, &[error(18456, &words), done(0x02)].concat());
    }
    if text(&database) != right.database {
        let words = format!(
            "Cannot open database \"{}\" requested by the login. The login failed.",
            text(&database)
        );
        return write_packet(stream, &[error(4060, &words), done(0x02)].concat());
    }
    write_packet(stream, &[login_accepted(), done(0)].concat())?;
    loop {
        let (kind, content) = read_packet(stream)?;
        assert_eq!(kind, BATCH, "a session has nothing but queries");
        if text(&content).contains("@@VERSION") {
            write_packet(stream, &version_row())?;
        } else {
            write_packet(stream, &number_row())?;
        }
    }
}

fn read_packet(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let mut content = vec![0; length - HEADER];
    stream.read_exact(&mut content)?;
    Ok((header[0], content))
}

fn write_packet(stream: &mut impl Write, content: &[u8]) -> io::Result<()> {
    let length = u16::try_from(HEADER + content.len()).expect("a small packet");
    let [high, low] = length.to_be_bytes();
    let packet = [&[ANSWER, 1, high, low, 0, 0, 1, 0], content].concat();
    stream.write_all(&packet)?;
    stream.flush()
}

/// A field of a login: where it stands and how many letters it has.
fn field(login: &[u8], at: usize) -> Vec<u8> {
    let number = |at: usize| usize::from(u16::from_le_bytes([login[at], login[at + 1]]));
    let (start, letters) = (number(at), number(at + 2));
    login[start..start + 2 * letters].to_vec()
}

/// A password travels with each byte's halves exchanged and some bits turned.
fn scrambled(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes
        .iter()
        .map(|byte| (byte ^ 0xa5).rotate_left(4))
        .collect();
    text(&bytes)
}

fn text(bytes: &[u8]) -> String {
    let units: Vec<_> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn letters(text: &str) -> u8 {
    u8::try_from(text.len()).expect("a short word")
}

fn length(content: &[u8]) -> [u8; 2] {
    let length = u16::try_from(content.len()).expect("a short token");
    length.to_le_bytes()
}

fn error(number: u32, words: &str) -> Vec<u8> {
    let server = "PEER";
    let content = [
        &number.to_le_bytes()[..],
        &[1, 14],
        &u16::from(letters(words)).to_le_bytes(),
        &utf16(words),
        &[letters(server)],
        &utf16(server),
        &[0],
        &1_u32.to_le_bytes(),
    ]
    .concat();
    [&[0xaa], &length(&content)[..], &content].concat()
}

fn login_accepted() -> Vec<u8> {
    let name = "Microsoft SQL Server";
    let content = [
        &[1, 0x74, 0, 0, 4, letters(name)],
        &utf16(name)[..],
        &[16, 0, 0x10, 0x0e],
    ]
    .concat();
    [&[0xad], &length(&content)[..], &content].concat()
}

fn done(status: u16) -> Vec<u8> {
    [&[0xfd], &status.to_le_bytes()[..], &[0; 10]].concat()
}

/// One column without a name, of this type.
fn column(kind: &[u8]) -> Vec<u8> {
    [&[0x81, 1, 0, 0, 0, 0, 0, 0, 0], kind, &[0]].concat()
}

fn number_row() -> Vec<u8> {
    let int4 = column(&[0x38]);
    [&int4[..], &[0xd1, 1, 0, 0, 0], &done(0x10)].concat()
}

fn version_row() -> Vec<u8> {
    let version = utf16("Microsoft SQL Server 2022 (RTM) - 16.0.4110.0 (X64)\n\tin a test");
    let nvarchar = column(&[0xe7, 0x40, 0x1f, 9, 4, 0xd0, 0, 0x34]);
    [
        &nvarchar[..],
        &[0xd1],
        &length(&version),
        &version,
        &done(0x10),
    ]
    .concat()
}
