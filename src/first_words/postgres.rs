//! PostgreSQL, and what speaks its protocol: its answer to a request for encryption, and its errors.

use super::text;

/// `SSLRequest`: its length and its code.
pub const ENCRYPTION_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A message's kind and length come before its content.
const HEADER: usize = 5;
/// Longer than any error; what claims more is no PostgreSQL.
const LONGEST_MESSAGE: usize = 4000;

/// An `ErrorResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// Its SQLSTATE.
    pub code: String,
    /// The server's own words.
    pub message: String,
}

/// Whether these bytes are PostgreSQL's answer to a request for encryption.
pub fn is_answer(answer: &[u8]) -> bool {
    matches!(answer, b"S" | b"N") || error(answer).is_some()
}

/// A letter alone is a whole answer; a message is one once it is whole; others are known at once.
pub fn is_complete(answer: &[u8]) -> bool {
    match answer {
        [] => false,
        [b'E' | b'R', ..] if answer.len() < HEADER || message_length(answer).is_some() => {
            is_whole_message(answer)
        }
        _ => true,
    }
}

/// The error that these bytes are.
pub fn error(answer: &[u8]) -> Option<ServerError> {
    if answer.first() != Some(&b'E') || !is_whole_message(answer) {
        return None;
    }
    let content = answer.get(HEADER..message_length(answer)?)?;
    let field = |kind: u8| {
        let fields = content.split(|byte| *byte == 0);
        fields
            .filter_map(|field| field.split_first())
            .find(|(first, _)| **first == kind)
            .map(|(_, value)| text(value))
    };
    Some(ServerError {
        code: field(b'C')?,
        message: field(b'M')?,
    })
}

fn message_length(answer: &[u8]) -> Option<usize> {
    let length = answer.get(1..HEADER)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (4..=LONGEST_MESSAGE)
        .contains(&length)
        .then_some(length + 1)
}

fn is_whole_message(answer: &[u8]) -> bool {
    match answer.first() {
        Some(b'E' | b'R') => message_length(answer).is_some_and(|length| answer.len() >= length),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_once_it_is_whole() {
        let fields = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0";
        let length = u32::try_from(fields.len() + 4).unwrap();
        let answer = [b"E", &length.to_be_bytes()[..], fields].concat();
        let starting = ServerError {
            code: "57P03".to_owned(),
            message: "the database system is starting up".to_owned(),
        };
        assert!(is_complete(&answer));
        assert_eq!(error(&answer), Some(starting));
        assert!(!is_complete(&answer[..20]));
        assert_eq!(error(&answer[..20]), None);
    }

    #[test]
    fn an_answer_that_goes_on_is_anothers() {
        assert!(is_answer(b"S"));
        assert!(!is_answer(b"SSH-2.0-x"));
        assert!(is_complete(b"SSH-2.0-x"));
    }
}
