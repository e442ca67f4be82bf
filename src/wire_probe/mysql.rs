//! MySQL and MariaDB, which speak first: a greeting, or an error in its place.

use super::{Protocol, Reading, Refusal, text};

/// Length (3 bytes) and number of a packet.
const HEADER: usize = 4;
const LONGEST_PACKET: usize = 1000;
const PROTOCOL_10: u8 = 10;
const ERROR: u8 = 0xff;
/// After the version: the connection's number, eight random bytes and a zero.
const BEFORE_CAPABILITIES: usize = 4 + 8 + 1;
/// `CLIENT_SSL`, in the lower half of the capabilities.
const OFFERS_TLS: u16 = 0x0800;

/// The greeting.
///
/// A connection that ends after it counts, for the server, as one interrupted attempt of the hundred
/// (`max_connect_errors`) after which it blocks a host; the next login clears the count.
pub struct MySql;

/// What such a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// It can be logged in to.
    Greeting {
        /// The version, as it is written there.
        version: String,
        /// Whether it offers TLS.
        offers_tls: bool,
    },
    /// It serves nobody, or not this host.
    Refusal(Refusal<u16>),
}

impl Protocol for MySql {
    type Reached = Opening;

    const NAME: &'static str = "MySQL or MariaDB";

    fn question(&self, _: &str) -> Vec<u8> {
        Vec::new()
    }

    fn read(&self, answer: &[u8]) -> Reading<Opening> {
        // What begins as no packet of theirs is none, however much more comes.
        let length = packet_length(answer).unwrap_or_default();
        Reading::of(opening(answer), answer.len() < HEADER + length)
    }
}

/// The first packet; nothing where it is not theirs.
pub(super) fn opening(answer: &[u8]) -> Option<Opening> {
    match content(answer)? {
        [ERROR, rest @ ..] => refusal(rest).map(Opening::Refusal),
        [PROTOCOL_10, rest @ ..] => greeting(rest),
        _ => None,
    }
}

/// What a client sends after the greeting to ask for TLS.
pub fn encryption_request() -> Vec<u8> {
    /// `CLIENT_PROTOCOL_41`, `CLIENT_SSL` and `CLIENT_SECURE_CONNECTION`.
    const CAPABILITIES: u32 = 0x0200 | 0x0800 | 0x8000;
    const LARGEST_PACKET: u32 = 1 << 24;
    const UTF8MB4: u8 = 45;
    const RESERVED: [u8; 23] = [0; 23];

    // Length 32; the second packet of the exchange.
    let header = [32, 0, 0, 1];
    let numbers = [CAPABILITIES.to_le_bytes(), LARGEST_PACKET.to_le_bytes()].concat();
    [&header[..], &numbers, &[UTF8MB4], &RESERVED].concat()
}

/// Maker and version. MariaDB before 11 puts `5.5.5-` before its version, for clients that know only
/// MySQL's.
pub fn product(version: &str) -> String {
    let own = version.strip_prefix("5.5.5-").unwrap_or(version);
    if own.to_ascii_lowercase().contains("mariadb") {
        format!("MariaDB {own}")
    } else {
        format!("MySQL {own}")
    }
}

fn packet_length(answer: &[u8]) -> Option<usize> {
    // The first packet of a server has number 0.
    let [a, b, c, 0, ..] = *answer else {
        return None;
    };
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    (1..=LONGEST_PACKET).contains(&length).then_some(length)
}

fn content(answer: &[u8]) -> Option<&[u8]> {
    answer.get(HEADER..HEADER + packet_length(answer)?)
}

fn greeting(content: &[u8]) -> Option<Opening> {
    let end = content.iter().position(|byte| *byte == 0)?;
    let after = &content[end + 1..];
    let capabilities = after.get(BEFORE_CAPABILITIES..BEFORE_CAPABILITIES + 2);
    Some(Opening::Greeting {
        version: text(&content[..end]),
        offers_tls: capabilities
            .is_some_and(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]) & OFFERS_TLS != 0),
    })
}

fn refusal(error: &[u8]) -> Option<Refusal<u16>> {
    let [low, high, message @ ..] = error else {
        return None;
    };
    // Newer servers put `#` and a state of five letters before the message.
    let message = match message {
        [b'#', rest @ ..] => rest.get(5..).unwrap_or_default(),
        rest => rest,
    };
    Some(Refusal {
        code: u16::from_le_bytes([*low, *high]),
        message: text(message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[length, 0, 0, 0], content].concat()
    }

    fn greeting(version: &str, capabilities: u16) -> Vec<u8> {
        let rest = [b"\0\x08\0\0\0abcdefgh\0", &capabilities.to_le_bytes()[..]].concat();
        packet(&[b"\x0a", version.as_bytes(), &rest].concat())
    }

    #[test]
    fn the_version_and_the_offer_of_tls_are_read_from_the_greeting() {
        for (capabilities, offers_tls) in [(0xf7ff, false), (0xffff, true), (0x0800, true)] {
            let answer = greeting("8.4.0", capabilities);
            let opening = Opening::Greeting {
                version: "8.4.0".to_owned(),
                offers_tls,
            };
            assert_eq!(MySql.read(&answer), Reading::Reached(opening));
            assert_eq!(MySql.read(&answer[..10]), Reading::Incomplete);
        }
        assert_eq!(MySql.read(b"SSH-2.0-x"), Reading::Foreign);
    }

    #[test]
    fn a_request_for_encryption_says_its_own_length() {
        let request = encryption_request();
        assert_eq!(usize::from(request[0]), request.len() - HEADER);
    }

    #[test]
    fn the_maker_is_told_by_the_version() {
        assert_eq!(product("8.4.0"), "MySQL 8.4.0");
        assert_eq!(
            product("5.5.5-10.11.14-MariaDB-0+deb12u2"),
            "MariaDB 10.11.14-MariaDB-0+deb12u2"
        );
    }

    #[test]
    fn an_error_in_place_of_the_greeting_is_read_with_and_without_its_state() {
        for message in ["Too many connections", "#08004Too many connections"] {
            let answer = packet(&[b"\xff\x10\x04", message.as_bytes()].concat());
            let refusal = Refusal {
                code: 1040,
                message: "Too many connections".to_owned(),
            };
            let refusal = Reading::Reached(Opening::Refusal(refusal));
            assert_eq!(MySql.read(&answer), refusal);
        }
    }
}
