//! How databases begin: whatever answers, it is judged, and not by how its bytes arrive.

use holistics_tunnel::wire_probe::{
    self, Protocol, Reading, clickhouse, mysql, postgres, sqlserver,
};

/// For how many of the first bytes it is tried whether more of them change the judgement.
const IN_PIECES: usize = 400;

pub fn run(input: &[u8]) {
    let answer = &input[..input.len().min(wire_probe::MOST_BYTES)];
    // A letter alone is an answer there, and so is the first letter of everything else that begins with it.
    judge(&postgres::Postgres, answer, 2);
    judge(&postgres::Startup, answer, 0);
    judge(&mysql::MySql, answer, 0);
    judge(&sqlserver::SqlServer::default(), answer, 0);
    judge(&clickhouse::ClickHouse, answer, 0);
    let _ = wire_probe::looks_like(answer);
}

/// From so many bytes on, what is known once stays so.
fn judge<P: Protocol>(protocol: &P, answer: &[u8], from: usize) {
    let whole = kind(&protocol.read(answer));
    for end in from..answer.len().min(IN_PIECES) {
        let part = kind(&protocol.read(&answer[..end]));
        // An answer by HTTP may end with any of its bytes, so that "Ok." is one and "Ok..." is none.
        let may_be_more = P::NAME == clickhouse::ClickHouse::NAME && part == "reached";
        assert!(
            part == "incomplete" || part == whole || may_be_more,
            "{}: {part} after {end} bytes, {whole} in the end",
            P::NAME
        );
    }
}

fn kind<T>(reading: &Reading<T>) -> &'static str {
    match reading {
        Reading::Incomplete => "incomplete",
        Reading::Reached(_) => "reached",
        Reading::Foreign => "foreign",
    }
}
