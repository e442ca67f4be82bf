//! ClickHouse over HTTP: its `/ping`.

use super::{is_tls, text};

/// The port of the native protocol answers HTTP with these words.
const NATIVE_PORT: &str = "clickhouse-client";

/// What an answer to the ping means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pong {
    /// It is ClickHouse.
    ClickHouse,
    /// It wants TLS first.
    WantsTls,
    /// It is ClickHouse's other port, of the native protocol.
    NativePort,
    /// It is something else, or not enough to tell.
    Foreign,
}

/// The ping, for this host and port.
pub fn ping(target: &str) -> Vec<u8> {
    // HTTP/1.0: the server ends the connection after its answer.
    format!("GET /ping HTTP/1.0\r\nHost: {target}\r\nUser-Agent: holistics-tunnel\r\n\r\n")
        .into_bytes()
}

/// Whether enough was received to tell.
pub fn is_complete(answer: &[u8]) -> bool {
    if is_tls(answer) {
        return true;
    }
    match answer.len() >= 4 && !answer.starts_with(b"HTTP") {
        true => true,
        false => body(&text(answer)).is_some_and(|body| body.contains("Ok.")),
    }
}

/// What an answer means.
pub fn understand(answer: &[u8]) -> Pong {
    if is_tls(answer) {
        return Pong::WantsTls;
    }
    let answer = text(answer);
    if answer.contains(NATIVE_PORT) {
        return Pong::NativePort;
    }
    let is_ours = answer.starts_with("HTTP/")
        && (answer.contains("X-ClickHouse")
            || body(&answer).is_some_and(|body| body.trim() == "Ok."));
    match is_ours {
        true => Pong::ClickHouse,
        false => Pong::Foreign,
    }
}

fn body(answer: &str) -> Option<&str> {
    answer.split_once("\r\n\r\n").map(|(_, body)| body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_told_from_the_native_port_and_from_any_web_server() {
        let ping = b"HTTP/1.0 200 OK\r\nX-ClickHouse-Summary: {}\r\n\r\nOk.\n";
        assert!(is_complete(ping));
        assert_eq!(understand(ping), Pong::ClickHouse);
        let native = b"HTTP/1.0 400 Bad Request\r\n\r\nPort 9000 is for clickhouse-client program\r\nYou must use port 8123 for HTTP.\r\n";
        assert_eq!(understand(native), Pong::NativePort);
        let other = b"HTTP/1.1 404 Not Found\r\n\r\nnothing here";
        assert_eq!(understand(other), Pong::Foreign);
        assert_eq!(understand(b"\x15\x03\x01\x00\x02\x02\x46"), Pong::WantsTls);
    }
}
