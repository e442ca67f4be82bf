//! ClickHouse over HTTP: its `/ping`.

use super::{Protocol, Reading, is_tls, text};

/// The port of the native protocol answers HTTP with this word.
const NATIVE_PORT: &str = "clickhouse-client";

/// The ping.
pub struct ClickHouse;

/// What answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pong {
    ClickHouse,
    /// Something that wants TLS first.
    WantsTls,
    /// ClickHouse's other port, of the native protocol.
    NativePort,
}

impl Protocol for ClickHouse {
    type Reached = Pong;

    const NAME: &'static str = "ClickHouse";

    fn question(&self, target: &str) -> Vec<u8> {
        // HTTP/1.0: the server ends the connection after its answer.
        format!("GET /ping HTTP/1.0\r\nHost: {target}\r\nUser-Agent: holistics-tunnel\r\n\r\n")
            .into_bytes()
    }

    fn read(&self, answer: &[u8]) -> Reading<Pong> {
        let may_be_http = answer.len() < 4 || answer.starts_with(b"HTTP");
        Reading::of(pong(answer), may_be_http)
    }
}

fn pong(answer: &[u8]) -> Option<Pong> {
    if is_tls(answer) {
        return Some(Pong::WantsTls);
    }
    if !answer.starts_with(b"HTTP/") {
        return None;
    }
    let answer = text(answer);
    if answer.contains(NATIVE_PORT) {
        return Some(Pong::NativePort);
    }
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim());
    let is_clickhouse = answer.contains("X-ClickHouse") || body == Some("Ok.");
    is_clickhouse.then_some(Pong::ClickHouse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_told_from_the_native_port_and_from_any_web_server() {
        let read = |answer: &[u8]| ClickHouse.read(answer);
        let ping = b"HTTP/1.0 200 OK\r\nX-ClickHouse-Summary: {}\r\n\r\nOk.\n";
        assert_eq!(read(ping), Reading::Reached(Pong::ClickHouse));
        let old = b"HTTP/1.0 200 OK\r\n\r\nOk.\n";
        assert_eq!(read(old), Reading::Reached(Pong::ClickHouse));
        let native = b"HTTP/1.0 400 Bad Request\r\n\r\nPort 9000 is for clickhouse-client program\r\nYou must use port 8123 for HTTP.\r\n";
        assert_eq!(read(native), Reading::Reached(Pong::NativePort));
        let tls = b"\x15\x03\x01\x00\x02\x02\x46";
        assert_eq!(read(tls), Reading::Reached(Pong::WantsTls));
        let other = b"HTTP/1.1 404 Not Found\r\n\r\nnothing here";
        assert_eq!(read(other), Reading::Incomplete);
        for other in [
            &b"SSH-2.0-x"[..],
            b" HTTP/1.0 X-ClickHouse",
            b"no clickhouse-client",
        ] {
            assert_eq!(read(other), Reading::Foreign);
            assert_eq!(read(&other[..4]), Reading::Foreign, "whenever it is known");
        }
    }
}
