//! The first words of the databases' protocols: what to send, and what the answer means.
//!
//! Both programs look at them: `doctor` on the bastion, "Test connection" at the vendor. All of this is
//! pure, so that no answer can hold up or bring down a program. [`looks_like`] tells what a server is
//! where it is not the database that was expected.

pub mod clickhouse;
pub mod mysql;
pub mod postgres;
pub mod sqlserver;

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

/// What these first words look like; nothing where they tell nothing.
pub fn looks_like(answer: &[u8]) -> Option<&'static str> {
    if let Some((_, name)) = BEGINNINGS
        .iter()
        .find(|(begin, _)| answer.starts_with(begin))
    {
        return Some(name);
    }
    if is_tls(answer) {
        return Some("a server that wants TLS at once");
    }
    if mysql::opening(answer).is_some() {
        return Some("MySQL or MariaDB");
    }
    if sqlserver::version(answer).is_some() {
        return Some("SQL Server");
    }
    postgres::is_answer(answer).then_some("PostgreSQL")
}

/// Whether these bytes begin a TLS alert or a TLS handshake.
pub fn is_tls(answer: &[u8]) -> bool {
    TLS.iter().any(|begin| answer.starts_with(begin))
}

/// Text of a server, as far as it is text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
