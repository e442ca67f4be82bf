//! MySQL and MariaDB: the greeting they send before anybody is asked to log in.
//!
//! A connection that ends after the greeting counts, for the server, as one interrupted attempt of
//! the hundred (`max_connect_errors`) after which it blocks a host; the next login clears the count.
//! That is why this asks on the connection that is open already, and once.

use super::{Dialect, Meaning};
use crate::first_words::mysql::{self, Opening, Refusal};

const HOST_NOT_ALLOWED: u16 = 1130;
const HOST_BLOCKED: u16 = 1129;
const TOO_MANY_CONNECTIONS: u16 = 1040;

/// The greeting.
pub(super) struct Greeting;

impl Dialect for Greeting {
    fn name(&self) -> &'static str {
        "MySQL or MariaDB"
    }

    fn question(&self, _: &str) -> Vec<u8> {
        Vec::new()
    }

    fn is_complete(&self, answer: &[u8]) -> bool {
        mysql::is_complete(answer)
    }

    fn understand(&self, answer: &[u8]) -> Meaning {
        match mysql::opening(answer) {
            Some(Opening::Greeting { version, .. }) => {
                Meaning::Speaks(format!("it is {}", mysql::product(&version)))
            }
            Some(Opening::Refusal(refusal)) => meaning(&refusal),
            None => Meaning::Foreign,
        }
    }
}

fn meaning(refusal: &Refusal) -> Meaning {
    let Refusal { code, message } = refusal;
    let said = format!("the database answers: {message} ({code})");
    match *code {
        HOST_NOT_ALLOWED => Meaning::refuses(
            said,
            "create the database's user for this host's address (`CREATE USER name@address`): it admits no \
             user from here",
        ),
        HOST_BLOCKED => Meaning::refuses(
            said,
            "unblock this host with `mysqladmin flush-hosts` (or `TRUNCATE performance_schema.host_cache`)",
        ),
        TOO_MANY_CONNECTIONS => Meaning::refuses(
            said,
            "raise max_connections in the database, or end sessions that nobody needs",
        ),
        _ => Meaning::refuses(said, "look up what the database says, and into its log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[length, 0, 0, 0], content].concat()
    }

    #[test]
    fn the_version_and_the_maker_are_read_from_the_greeting() {
        let greeting = |version: &str| {
            packet(&[b"\x0a", version.as_bytes(), b"\0\x08\0\0\0abcdefgh\0"].concat())
        };
        let said = |version: &str| Greeting.understand(&greeting(version));
        assert_eq!(said("8.4.0"), Meaning::Speaks("it is MySQL 8.4.0".into()));
        assert_eq!(
            said("5.5.5-10.11.14-MariaDB-0+deb12u2"),
            Meaning::Speaks("it is MariaDB 10.11.14-MariaDB-0+deb12u2".into())
        );
        assert!(Greeting.is_complete(&greeting("8.4.0")));
        assert!(!Greeting.is_complete(&greeting("8.4.0")[..10]));
    }

    #[test]
    fn a_host_that_is_not_allowed_or_blocked_is_told_what_to_do() {
        for (code, message, word) in [
            (
                1130_u16,
                "Host '10.0.0.9' is not allowed to connect",
                "CREATE USER",
            ),
            (1129, "Host '10.0.0.9' is blocked", "flush-hosts"),
            (1040, "#08004Too many connections", "max_connections"),
        ] {
            let answer = packet(&[&[0xff], &code.to_le_bytes()[..], message.as_bytes()].concat());
            let Meaning::Refuses { detail, remedy } = Greeting.understand(&answer) else {
                panic!("{message} is a refusal");
            };
            assert!(remedy.contains(word), "{remedy}");
            assert!(!detail.contains('#'), "{detail}");
        }
    }
}
