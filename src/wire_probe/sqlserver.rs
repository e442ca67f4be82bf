//! Microsoft SQL Server: the pre-login of its protocol (TDS), which names its version and what it wants
//! of encryption.

use super::{Protocol, Reading};

/// Length of a packet's header.
pub const HEADER: usize = 8;
/// The kind of packet in which a pre-login is, and the client's half of a TLS handshake.
pub const PRELOGIN: u8 = 0x12;
/// The kind of packet in which a server answers.
pub const ANSWER: u8 = 0x04;

/// Options are five bytes each: which, where, how long.
const OPTION: usize = 5;
const VERSION: u8 = 0x00;
const ENCRYPTION: u8 = 0x01;
const END: u8 = 0xff;
const MOST_OPTIONS: usize = 32;

/// What a side says about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Encryption {
    /// It could, and asks for that of the login alone.
    #[default]
    LoginOnly = 0,
    /// It wants it.
    On = 1,
    /// It cannot.
    NotSupported = 2,
    /// It insists on it.
    Required = 3,
}

/// The pre-login, which says this about encryption.
#[derive(Default)]
pub struct SqlServer(pub Encryption);

/// An answer to the pre-login.
#[derive(Debug, PartialEq, Eq)]
pub struct Prelogin {
    /// The server's version.
    pub version: String,
    /// What it says about encryption.
    pub encryption: Encryption,
    /// The answer itself.
    pub bytes: Vec<u8>,
}

impl Protocol for SqlServer {
    type Reached = Prelogin;

    const NAME: &'static str = "SQL Server";

    fn question(&self, _: &str) -> Vec<u8> {
        // Two options of 5 bytes and their end: the values begin at 11.
        let options = [VERSION, 0, 11, 0, 6, ENCRYPTION, 0, 17, 0, 1, END];
        let values = [0, 0, 0, 0, 0, 0, self.0 as u8];
        let length = u8::try_from(HEADER + options.len() + values.len()).unwrap_or(u8::MAX);
        [&[PRELOGIN, 1, 0, length, 0, 0, 1, 0][..], &options, &values].concat()
    }

    fn read(&self, answer: &[u8]) -> Reading<Prelogin> {
        let length = match answer {
            [ANSWER, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => HEADER,
        };
        // The packet alone is judged: what it is does not depend on what else has come by then.
        let Some(packet) = answer.get(..length.max(HEADER)) else {
            return Reading::Incomplete;
        };
        let prelogin = |(version, encryption)| Prelogin {
            version,
            encryption,
            bytes: answer.to_vec(),
        };
        Reading::of(version(packet).zip(encryption(packet)).map(prelogin), false)
    }
}

/// The version in an answer to a pre-login.
pub(super) fn version(answer: &[u8]) -> Option<String> {
    let [major, minor, high, low] = *value(answer, VERSION, 4)? else {
        return None;
    };
    let build = u16::from_be_bytes([high, low]);
    Some(match release(major) {
        Some(year) => format!("{year} ({major}.{minor}.{build})"),
        None => format!("{major}.{minor}.{build}"),
    })
}

fn encryption(answer: &[u8]) -> Option<Encryption> {
    match *value(answer, ENCRYPTION, 1)? {
        [0] => Some(Encryption::LoginOnly),
        [1] => Some(Encryption::On),
        [2] => Some(Encryption::NotSupported),
        [3] => Some(Encryption::Required),
        _ => None,
    }
}

fn value(answer: &[u8], option: u8, length: usize) -> Option<&[u8]> {
    if answer.first() != Some(&ANSWER) {
        return None;
    }
    let content = answer.get(HEADER..)?;
    let mut options = content
        .chunks_exact(OPTION)
        .take(MOST_OPTIONS)
        .take_while(|option| option[0] != END);
    let found = options.find(|found| found[0] == option)?;
    let at = usize::from(u16::from_be_bytes([found[1], found[2]]));
    content.get(at..at + length)
}

fn release(major: u8) -> Option<&'static str> {
    match major {
        11 => Some("2012"),
        12 => Some("2014"),
        13 => Some("2016"),
        14 => Some("2017"),
        15 => Some("2019"),
        16 => Some("2022"),
        17 => Some("2025"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_encryption_are_read_from_the_answer() {
        let options = [VERSION, 0, 11, 0, 6, ENCRYPTION, 0, 17, 0, 1, END];
        let values = [16, 0, 0x10, 0x0e, 0, 0, 2];
        let answer = [&[ANSWER, 1, 0, 26, 0, 0, 1, 0][..], &options, &values].concat();
        let read = |answer: &[u8]| SqlServer::default().read(answer);
        let prelogin = Prelogin {
            version: "2022 (16.0.4110)".to_owned(),
            encryption: Encryption::NotSupported,
            bytes: answer.clone(),
        };
        assert_eq!(read(&answer), Reading::Reached(prelogin));
        assert_eq!(read(&answer[..20]), Reading::Incomplete);
        assert_eq!(read(b"SSH-2.0-x"), Reading::Foreign);
        // One that claims to be shorter than it is.
        let short = [&[ANSWER, 1, 0, 8], &answer[4..]].concat();
        for end in [8, short.len()] {
            assert_eq!(read(&short[..end]), Reading::Foreign, "{end} bytes of it");
        }
    }

    #[test]
    fn the_question_says_its_own_length() {
        let question = SqlServer(Encryption::On).question("");
        assert_eq!(usize::from(question[3]), question.len());
        assert_eq!(question.last(), Some(&1));
    }
}
