//! PostgreSQL, and what speaks its protocol: its answers to a request for encryption and to a start.

use super::{Protocol, Reading, Refusal, text};

/// `SSLRequest`: its length and its code.
const ENCRYPTION_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Protocol 3.0.
const VERSION: [u8; 4] = [0, 3, 0, 0];
/// Nobody's, so that nobody is logged in.
const USER: &[u8] = b"holistics_tunnel_doctor";

/// A message's kind and length come before its content.
const HEADER: usize = 5;
/// Longer than any error; what claims more is no PostgreSQL.
const LONGEST_MESSAGE: usize = 4000;

/// Whether it offers encryption.
pub struct Postgres;

/// Whether it takes sessions; asked on another connection.
///
/// A server that is starting up or full answers [`Postgres`] as if all were well.
pub struct Startup;

/// The answer to a request for encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It offers TLS.
    Tls,
    /// It does not.
    Plain,
    /// It serves nobody, or not this host.
    Refused(Refusal<String>),
}

impl Protocol for Postgres {
    type Reached = Offer;

    const NAME: &'static str = "PostgreSQL";

    fn question(&self, _: &str) -> Vec<u8> {
        ENCRYPTION_REQUEST.to_vec()
    }

    fn read(&self, answer: &[u8]) -> Reading<Offer> {
        Reading::of(offer(answer), is_incomplete(answer))
    }
}

impl Protocol for Startup {
    /// A refusal, or none where it would take a login.
    type Reached = Option<Refusal<String>>;

    const NAME: &'static str = Postgres::NAME;

    fn question(&self, _: &str) -> Vec<u8> {
        let mut content = VERSION.to_vec();
        for word in [&b"user"[..], USER, b"database", b"postgres", b""] {
            content.extend_from_slice(word);
            content.push(0);
        }
        let length = u32::try_from(content.len() + 4).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &content].concat()
    }

    fn read(&self, answer: &[u8]) -> Reading<Self::Reached> {
        let understood = match answer {
            [b'R', ..] => message(answer).map(|_| None),
            _ => refusal(answer).map(Some),
        };
        Reading::of(understood, is_incomplete(answer))
    }
}

/// What an answer to a request for encryption says.
pub(super) fn offer(answer: &[u8]) -> Option<Offer> {
    match answer {
        b"S" => Some(Offer::Tls),
        b"N" => Some(Offer::Plain),
        _ => refusal(answer).map(Offer::Refused),
    }
}

/// A letter alone is a whole answer; a message is one once it is whole; others are known at once.
fn is_incomplete(answer: &[u8]) -> bool {
    match answer {
        [] => true,
        [b'E' | b'R', ..] if answer.len() < HEADER => true,
        [b'E' | b'R', ..] => message_length(answer).is_some_and(|length| answer.len() < length),
        _ => false,
    }
}

/// The error that these bytes are, an `ErrorResponse`.
fn refusal(answer: &[u8]) -> Option<Refusal<String>> {
    let content = message(answer).filter(|_| answer[0] == b'E')?;
    let field = |kind: u8| {
        let fields = content.split(|byte| *byte == 0);
        fields
            .filter_map(|field| field.split_first())
            .find(|(first, _)| **first == kind)
            .map(|(_, value)| text(value))
    };
    Some(Refusal {
        code: field(b'C')?,
        message: field(b'M')?,
    })
}

/// The content of a message, once it is whole.
fn message(answer: &[u8]) -> Option<&[u8]> {
    answer.get(HEADER..message_length(answer)?)
}

fn message_length(answer: &[u8]) -> Option<usize> {
    let length = answer.get(1..HEADER)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (4..=LONGEST_MESSAGE)
        .contains(&length)
        .then_some(length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_once_it_is_whole() {
        let fields = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0";
        let length = u32::try_from(fields.len() + 4).unwrap();
        let answer = [b"E", &length.to_be_bytes()[..], fields].concat();
        let starting = Refusal {
            code: "57P03".to_owned(),
            message: "the database system is starting up".to_owned(),
        };
        let refused = Offer::Refused(starting.clone());
        assert_eq!(Postgres.read(&answer), Reading::Reached(refused));
        assert_eq!(Startup.read(&answer), Reading::Reached(Some(starting)));
        assert_eq!(Postgres.read(&answer[..20]), Reading::Incomplete);
    }

    #[test]
    fn a_request_for_a_password_is_a_session_taken() {
        let password = b"R\0\0\0\x08\0\0\0\x05";
        assert_eq!(Startup.read(password), Reading::Reached(None));
        assert_eq!(Startup.read(&password[..6]), Reading::Incomplete);
    }

    #[test]
    fn an_answer_that_goes_on_is_anothers() {
        assert_eq!(Postgres.read(b"S"), Reading::Reached(Offer::Tls));
        assert_eq!(Postgres.read(b"N"), Reading::Reached(Offer::Plain));
        assert_eq!(Postgres.read(b"SSH-2.0-x"), Reading::Foreign);
    }

    #[test]
    fn the_length_of_the_startup_message_is_its_own() {
        let question = Startup.question("");
        let length = u32::from_be_bytes(question[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), question.len());
    }
}
