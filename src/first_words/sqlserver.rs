//! Microsoft SQL Server: the pre-login of its protocol (TDS), which names its version and what it wants
//! of encryption.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encryption {
    /// It could, and asks for that of the login alone.
    LoginOnly = 0,
    /// It wants it.
    On = 1,
    /// It cannot.
    NotSupported = 2,
    /// It insists on it.
    Required = 3,
}

/// A pre-login that says this about encryption.
pub fn prelogin(encryption: Encryption) -> Vec<u8> {
    // Two options of 5 bytes and their end: the values begin at 11.
    let options = [VERSION, 0, 11, 0, 6, ENCRYPTION, 0, 17, 0, 1, END];
    let values = [0, 0, 0, 0, 0, 0, encryption as u8];
    let length = u8::try_from(HEADER + options.len() + values.len()).unwrap_or(u8::MAX);
    [&[PRELOGIN, 1, 0, length, 0, 0, 1, 0][..], &options, &values].concat()
}

/// Whether enough was received to tell.
pub fn is_complete(answer: &[u8]) -> bool {
    match answer {
        [ANSWER, _, high, low, ..] => {
            answer.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        [] => false,
        _ => answer.len() >= HEADER,
    }
}

/// The version in an answer to a pre-login.
pub fn version(answer: &[u8]) -> Option<String> {
    let [major, minor, high, low] = *value(answer, VERSION, 4)? else {
        return None;
    };
    let build = u16::from_be_bytes([high, low]);
    Some(match release(major) {
        Some(year) => format!("{year} ({major}.{minor}.{build})"),
        None => format!("{major}.{minor}.{build}"),
    })
}

/// What an answer to a pre-login says about encryption.
pub fn encryption(answer: &[u8]) -> Option<Encryption> {
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
        assert!(is_complete(&answer));
        assert!(!is_complete(&answer[..20]));
        assert_eq!(version(&answer).as_deref(), Some("2022 (16.0.4110)"));
        assert_eq!(encryption(&answer), Some(Encryption::NotSupported));
        assert_eq!(encryption(&answer[..24]), None);
    }

    #[test]
    fn the_question_says_its_own_length() {
        let question = prelogin(Encryption::On);
        assert_eq!(usize::from(question[3]), question.len());
        assert_eq!(question.last(), Some(&1));
    }
}
