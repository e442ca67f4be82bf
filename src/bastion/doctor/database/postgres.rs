//! PostgreSQL: whether it offers encryption, then whether it takes sessions at all.
//!
//! The second question names a user that nobody has and gives no password, so nobody is logged in. It
//! finds a server that is starting up or full, which answers the first one as if all were well.

use super::{Dialect, Meaning};
use crate::first_words::postgres::{self, ENCRYPTION_REQUEST, ServerError};

/// Protocol 3.0.
const PROTOCOL: [u8; 4] = [0, 3, 0, 0];
const USER: &[u8] = b"holistics_tunnel_doctor";

/// Whether it offers encryption.
pub(super) struct Encryption;

/// Whether it takes sessions.
struct Startup;

impl Dialect for Encryption {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn question(&self, _: &str) -> Vec<u8> {
        ENCRYPTION_REQUEST.to_vec()
    }

    fn is_complete(&self, answer: &[u8]) -> bool {
        postgres::is_complete(answer)
    }

    fn understand(&self, answer: &[u8]) -> Meaning {
        match answer {
            b"S" => Meaning::Speaks("it speaks PostgreSQL, and offers TLS".to_owned()),
            b"N" => Meaning::Speaks("it speaks PostgreSQL, without TLS".to_owned()),
            _ => match postgres::error(answer) {
                Some(error) => meaning(&error),
                None => Meaning::Foreign,
            },
        }
    }

    fn second(&self) -> Option<&dyn Dialect> {
        Some(&Startup)
    }
}

impl Dialect for Startup {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn question(&self, _: &str) -> Vec<u8> {
        let mut content = PROTOCOL.to_vec();
        for word in [&b"user"[..], USER, b"database", b"postgres", b""] {
            content.extend_from_slice(word);
            content.push(0);
        }
        let length = u32::try_from(content.len() + 4).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &content].concat()
    }

    fn is_complete(&self, answer: &[u8]) -> bool {
        postgres::is_complete(answer)
    }

    fn understand(&self, answer: &[u8]) -> Meaning {
        match (answer.first(), postgres::error(answer)) {
            (_, Some(error)) => meaning(&error),
            (Some(b'R'), None) => Meaning::Speaks("it takes sessions".to_owned()),
            _ => Meaning::Foreign,
        }
    }
}

fn meaning(error: &ServerError) -> Meaning {
    let said = format!("PostgreSQL answers: {} ({})", error.message, error.code);
    match error.code.as_str() {
        "57P03" => Meaning::refuses(
            said,
            "wait until PostgreSQL has started, and look into its log if it does not",
        ),
        "53300" => Meaning::refuses(
            said,
            "raise max_connections in PostgreSQL, or end sessions that nobody needs",
        ),
        // The user does not exist, so what concerns users tells nothing about the real one.
        _ => Meaning::Speaks("it takes sessions".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(code: &str, message: &str) -> Vec<u8> {
        let fields = format!("SFATAL\0C{code}\0M{message}\0\0");
        let length = u32::try_from(fields.len() + 4).unwrap();
        [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
    }

    #[test]
    fn with_and_without_encryption_it_is_postgresql() {
        for answer in [b"S", b"N"] {
            assert!(Encryption.is_complete(answer));
            assert!(matches!(Encryption.understand(answer), Meaning::Speaks(_)));
        }
        // An answer that goes on is another's.
        assert_eq!(Encryption.understand(b"SSH-2.0-x"), Meaning::Foreign);
    }

    #[test]
    fn a_server_that_starts_or_is_full_is_told_from_one_that_refuses_our_user() {
        let starting = error_of("57P03", "the database system is starting up");
        assert!(Startup.is_complete(&starting));
        let Meaning::Refuses { detail, .. } = Startup.understand(&starting) else {
            panic!("it is not ready");
        };
        assert!(detail.contains("starting up"), "{detail}");
        let full = error_of("53300", "sorry, too many clients already");
        assert!(matches!(Startup.understand(&full), Meaning::Refuses { .. }));
        let refused = error_of("28000", "no pg_hba.conf entry for host \"10.0.0.9\"");
        assert!(matches!(Startup.understand(&refused), Meaning::Speaks(_)));
    }

    #[test]
    fn a_request_for_a_password_is_a_session_taken() {
        assert!(matches!(
            Startup.understand(b"R\0\0\0\x08\0\0\0\x05"),
            Meaning::Speaks(_)
        ));
    }

    #[test]
    fn the_length_of_the_startup_message_is_its_own() {
        let question = Startup.question("");
        let length = u32::from_be_bytes(question[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), question.len());
    }
}
