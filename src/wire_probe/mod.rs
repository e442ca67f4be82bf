//! How the databases' protocols begin: what to send, and what the answer means.
//!
//! Both programs ask: `doctor` on the bastion, "Test connection" at the vendor. What is here sends and
//! receives nothing itself, so that no answer can hold up or bring down a program. [`looks_like`] tells
//! what a server is where it is not the database that was expected.

pub mod clickhouse;
pub mod mysql;
pub mod postgres;
pub mod sqlserver;

use std::fmt;

/// More than any database says before it is logged in to.
pub const MOST_BYTES: usize = 4096;

/// How a protocol begins.
pub trait Protocol {
    /// What such a database tells about itself.
    type Reached;

    /// Who speaks it, for people.
    const NAME: &'static str;

    /// What to send first; nothing where the database speaks first. `target` is its host and port.
    fn question(&self, target: &str) -> Vec<u8>;

    /// What the answer means, as far as it has come.
    fn read(&self, answer: &[u8]) -> Reading<Self::Reached>;
}

/// What an answer means, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// There is not enough of it yet.
    Incomplete,
    /// Such a database answers.
    Reached(T),
    /// Something else answers.
    Foreign,
}

impl<T> Reading<T> {
    /// What was understood: such an answer, or else none while `is_incomplete`.
    fn of(understood: Option<T>, is_incomplete: bool) -> Self {
        match understood {
            Some(reached) => Reading::Reached(reached),
            None if is_incomplete => Reading::Incomplete,
            None => Reading::Foreign,
        }
    }

    /// Whether there is no need to hear more.
    pub fn is_complete(&self) -> bool {
        !matches!(self, Reading::Incomplete)
    }
}

/// A database's refusal to serve anybody, or this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<C> {
    /// Its code in such databases' lists.
    pub code: C,
    /// The database's own words.
    pub message: String,
}

impl<C: fmt::Display> fmt::Display for Refusal<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database answers: {} ({})", self.message, self.code)
    }
}

/// The kinds that can be told by how they begin.
const BEGINNINGS: [(&[u8], &str); 13] = [
    (b"SSH-", "an SSH server"),
    (b"HTTP/", "a web server (HTTP)"),
    (b"<!DOCTYPE", "a web server (HTTP)"),
    (b"<html", "a web server (HTTP)"),
    (b"220", "a mail or FTP server"),
    (b"+OK", "a mail server (POP3)"),
    (b"* OK", "a mail server (IMAP)"),
    (b"-ERR", "Redis"),
    (b"-NOAUTH", "Redis"),
    (b"-DENIED", "Redis"),
    (b"RFB ", "a VNC server"),
    (b"AMQP", "a message broker (AMQP)"),
    (b"\x00\x00\x00\x0a\x01", "ZooKeeper"),
];

/// TLS records: an alert, or a handshake.
const TLS: [[u8; 2]; 2] = [[0x15, 0x03], [0x16, 0x03]];

/// What a server looks like by its first words; nothing where they tell nothing.
pub fn looks_like(answer: &[u8]) -> Option<&'static str> {
    let begins = |(begin, _): &&(&[u8], _)| answer.starts_with(begin);
    if let Some((_, name)) = BEGINNINGS.iter().find(begins) {
        Some(name)
    } else if is_tls(answer) {
        Some("a server that wants TLS at once")
    } else if mysql::opening(answer).is_some() {
        Some(mysql::MySql::NAME)
    } else if sqlserver::version(answer).is_some() {
        Some(sqlserver::SqlServer::NAME)
    } else {
        postgres::offer(answer).map(|_| postgres::Postgres::NAME)
    }
}

/// What makes most servers show what they are that wait to be spoken to.
pub fn identifying_questions(target: &str) -> [Vec<u8>; 3] {
    [
        postgres::Postgres.question(target),
        clickhouse::ClickHouse.question(target),
        sqlserver::SqlServer::default().question(target),
    ]
}

/// Whether these bytes begin a TLS alert or a TLS handshake.
fn is_tls(answer: &[u8]) -> bool {
    TLS.iter().any(|begin| answer.starts_with(begin))
}

/// Text of a server, as far as it is text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn databases_are_known_by_their_own_words() {
        assert_eq!(looks_like(b"S"), Some("PostgreSQL"));
        assert_eq!(
            looks_like(b"\x07\x00\x00\x00\x0a8.4.0\x00"),
            Some("MySQL or MariaDB")
        );
        assert_eq!(looks_like(b""), None);
        assert_eq!(looks_like(b"hello"), None);
    }

    fn read_by_all(answer: &[u8]) {
        let _ = postgres::Postgres.read(answer);
        let _ = postgres::Startup.read(answer);
        let _ = mysql::MySql.read(answer);
        let _ = sqlserver::SqlServer::default().read(answer);
        let _ = clickhouse::ClickHouse.read(answer);
        let _ = looks_like(answer);
    }

    proptest! {
        #[test]
        fn no_answer_brings_the_program_down(answer in proptest::collection::vec(any::<u8>(), 0..5000)) {
            read_by_all(&answer);
        }

        /// Arbitrary bytes seldom get past the first one, so these begin as real answers do.
        #[test]
        fn no_broken_answer_of_a_database_does(
            begin in prop::sample::select(vec![
                &b"E\x00\x00\x00"[..], b"R\x00", b"\x4a\x00\x00\x00\x0a", b"\x4a\x00\x00\x00\xff\x6a\x04",
                b"\x04\x01\x00\x25\x00\x00\x01\x00", b"HTTP/1.1 200 OK\r\n",
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            read_by_all(&[begin, &rest].concat());
        }
    }
}
