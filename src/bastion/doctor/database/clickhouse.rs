//! ClickHouse over HTTP: its `/ping`.

use super::{Dialect, Meaning};
use crate::first_words::clickhouse::{self, Pong};

/// The ping.
pub(super) struct Ping;

impl Dialect for Ping {
    fn name(&self) -> &'static str {
        "ClickHouse"
    }

    fn question(&self, target: &str) -> Vec<u8> {
        clickhouse::ping(target)
    }

    fn is_complete(&self, answer: &[u8]) -> bool {
        clickhouse::is_complete(answer)
    }

    fn understand(&self, answer: &[u8]) -> Meaning {
        match clickhouse::understand(answer) {
            Pong::ClickHouse => Meaning::Speaks("ClickHouse answers its ping".to_owned()),
            Pong::WantsTls => Meaning::Speaks(
                "it wants TLS, as ClickHouse's secure port does; what is behind that was not looked at"
                    .to_owned(),
            ),
            Pong::NativePort => Meaning::refuses(
                "this is the port of ClickHouse's native protocol, and its HTTP port is needed",
                "change the port in the browser to ClickHouse's HTTP port (8123 unless it was changed), then run \
                 `holistics-tunnel update-tunnel`",
            ),
            Pong::Foreign => Meaning::Foreign,
        }
    }
}
