//! ClickHouse over HTTP: its `/ping`.

use super::{Dialect, Meaning, text};

/// The port of the native protocol answers HTTP with these words.
const NATIVE_PORT: &str = "clickhouse-client";

/// The ping.
pub(super) struct Ping;

impl Dialect for Ping {
    fn name(&self) -> &'static str {
        "ClickHouse"
    }

    fn question(&self, target: &str) -> Vec<u8> {
        // HTTP/1.0: the server ends the connection after its answer.
        format!("GET /ping HTTP/1.0\r\nHost: {target}\r\nUser-Agent: holistics-tunnel\r\n\r\n")
            .into_bytes()
    }

    fn is_complete(&self, answer: &[u8]) -> bool {
        match answer {
            [0x15 | 0x16, 0x03, ..] => true,
            _ if answer.len() >= 4 && !answer.starts_with(b"HTTP") => true,
            _ => body(&text(answer)).is_some_and(|body| body.contains("Ok.")),
        }
    }

    fn understand(&self, answer: &[u8]) -> Meaning {
        if matches!(answer, [0x15 | 0x16, 0x03, ..]) {
            return Meaning::Speaks(
                "it wants TLS, as ClickHouse's secure port does; what is behind that was not looked at"
                    .to_owned(),
            );
        }
        let answer = text(answer);
        if answer.contains(NATIVE_PORT) {
            return Meaning::refuses(
                "this is the port of ClickHouse's native protocol, and its HTTP port is needed",
                "change the port in the browser to ClickHouse's HTTP port (8123 unless it was changed), then run \
                 `holistics-tunnel update-tunnel`",
            );
        }
        let is_ours = answer.starts_with("HTTP/")
            && (answer.contains("X-ClickHouse")
                || body(&answer).is_some_and(|body| body.trim() == "Ok."));
        match is_ours {
            true => Meaning::Speaks("ClickHouse answers its ping".to_owned()),
            false => Meaning::Foreign,
        }
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
        assert!(Ping.is_complete(ping));
        assert!(matches!(Ping.understand(ping), Meaning::Speaks(_)));
        let native = b"HTTP/1.0 400 Bad Request\r\n\r\nPort 9000 is for clickhouse-client program\r\nYou must use port 8123 for HTTP.\r\n";
        assert!(matches!(Ping.understand(native), Meaning::Refuses { .. }));
        let other = b"HTTP/1.1 404 Not Found\r\n\r\nnothing here";
        assert_eq!(Ping.understand(other), Meaning::Foreign);
    }
}
