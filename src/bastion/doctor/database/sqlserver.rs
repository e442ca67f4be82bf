//! Microsoft SQL Server: the pre-login of its protocol (TDS), which names its version.

use super::{Dialect, Meaning};

const HEADER: usize = 8;
const PRELOGIN: u8 = 0x12;
const ANSWER: u8 = 0x04;
/// Options are five bytes each: which, where, how long.
const OPTION: usize = 5;
const VERSION: u8 = 0x00;
const ENCRYPTION: u8 = 0x01;
const END: u8 = 0xff;
const MOST_OPTIONS: usize = 32;

/// The pre-login.
pub(super) struct Prelogin;

impl Dialect for Prelogin {
    fn name(&self) -> &'static str {
        "SQL Server"
    }

    fn question(&self, _: &str) -> Vec<u8> {
        // Two options of 5 bytes and their end: the values begin at 11.
        let options = [VERSION, 0, 11, 0, 6, ENCRYPTION, 0, 17, 0, 1, END];
        let values = [0; 7];
        let length = u8::try_from(HEADER + options.len() + values.len()).unwrap_or(u8::MAX);
        [&[PRELOGIN, 1, 0, length, 0, 0, 1, 0][..], &options, &values].concat()
    }

    fn is_complete(&self, answer: &[u8]) -> bool {
        match answer {
            [ANSWER, _, high, low, ..] => {
                answer.len() >= usize::from(u16::from_be_bytes([*high, *low]))
            }
            [] => false,
            _ => answer.len() >= HEADER,
        }
    }

    fn understand(&self, answer: &[u8]) -> Meaning {
        match version(answer) {
            Some(version) => Meaning::Speaks(format!("it is SQL Server {version}")),
            None => Meaning::Foreign,
        }
    }
}

/// The version in an answer to a pre-login.
pub(super) fn version(answer: &[u8]) -> Option<String> {
    if answer.first() != Some(&ANSWER) {
        return None;
    }
    let content = answer.get(HEADER..)?;
    let mut options = content
        .chunks_exact(OPTION)
        .take(MOST_OPTIONS)
        .take_while(|option| option[0] != END);
    let option = options.find(|option| option[0] == VERSION)?;
    let at = usize::from(u16::from_be_bytes([option[1], option[2]]));
    let [major, minor, high, low] = *content.get(at..at + 4)? else {
        return None;
    };
    let build = u16::from_be_bytes([high, low]);
    Some(match release(major) {
        Some(year) => format!("{year} ({major}.{minor}.{build})"),
        None => format!("{major}.{minor}.{build}"),
    })
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
    fn the_version_is_read_from_the_answer() {
        let options = [VERSION, 0, 11, 0, 6, ENCRYPTION, 0, 17, 0, 1, END];
        let values = [16, 0, 0x10, 0x0e, 0, 0, 2];
        let answer = [&[ANSWER, 1, 0, 26, 0, 0, 1, 0][..], &options, &values].concat();
        assert!(Prelogin.is_complete(&answer));
        assert!(!Prelogin.is_complete(&answer[..20]));
        assert_eq!(version(&answer).as_deref(), Some("2022 (16.0.4110)"));
    }

    #[test]
    fn the_question_says_its_own_length() {
        let question = Prelogin.question("");
        assert_eq!(usize::from(question[3]), question.len());
    }
}
