//! Whether the database answers in its own protocol, without a login.
//!
//! Each kind is a [`Dialect`]: the bytes to send, if it does not speak first, and what the answer
//! means. Reading is bounded in bytes and time, and understanding an answer is pure, so that no answer
//! can hold up or bring down the program. [`looks_like`] tells what else stands there.

mod clickhouse;
mod mysql;
mod postgres;
mod sqlserver;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::check::Finding;
use super::network::Reached;
use crate::bastion::host::{Connection, Host};
use crate::first_words::looks_like;
use crate::protocol::DatabaseType;

/// More than the first words of any database.
const MOST_BYTES: usize = 4096;
/// How long a further connection may take, all in all.
const FURTHER_TIMEOUT: Duration = Duration::from_secs(2);

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// It is such a database; with what it says about itself.
    Speaks(String),
    /// It is such a database, and does not serve this host now.
    Refuses { detail: String, remedy: String },
    /// It is something else, or not enough to tell.
    Foreign,
}

impl Meaning {
    fn refuses(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Meaning::Refuses {
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}

/// A kind of database.
trait Dialect {
    /// Its name for people.
    fn name(&self) -> &'static str;

    /// What to send first; nothing where the database speaks first.
    fn question(&self, target: &str) -> Vec<u8>;

    /// Whether enough was received to understand it.
    fn is_complete(&self, answer: &[u8]) -> bool;

    /// What the answer means.
    fn understand(&self, answer: &[u8]) -> Meaning;

    /// What to ask on a second connection once the first answer was right.
    fn second(&self) -> Option<&dyn Dialect> {
        None
    }
}

fn dialect(kind: DatabaseType) -> Option<&'static dyn Dialect> {
    match kind {
        DatabaseType::Postgresql | DatabaseType::Redshift => Some(&postgres::Encryption),
        DatabaseType::Mysql | DatabaseType::Mariadb => Some(&mysql::Greeting),
        DatabaseType::Sqlserver => Some(&sqlserver::Prelogin),
        DatabaseType::Clickhouse => Some(&clickhouse::Ping),
        DatabaseType::Other => None,
    }
}

/// Why reading came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Enough was read.
    Enough,
    /// The other side hung up.
    HungUp,
    /// It says nothing more, and keeps the connection.
    Silence,
}

/// Asks what stands at the other end of a connection. Where the kind of the database is not known, or
/// has no dialect here, whatever it says first is told.
pub fn ask(host: &dyn Host, reached: Reached, kind: Option<DatabaseType>, target: &str) -> Finding {
    let Reached {
        address,
        mut connection,
    } = reached;
    let Some(dialect) = kind.and_then(dialect) else {
        return listen(&mut *connection, kind, target);
    };
    let (answer, end) = exchange(dialect, &mut *connection, target);
    drop(connection);
    match dialect.understand(&answer) {
        Meaning::Refuses { detail, remedy } => Finding::fail(detail, remedy),
        Meaning::Speaks(said) => ask_again(host, address, dialect, target, said),
        Meaning::Foreign => foreign(host, address, dialect, target, &answer, end),
    }
}

fn ask_again(
    host: &dyn Host,
    address: SocketAddr,
    dialect: &dyn Dialect,
    target: &str,
    said: String,
) -> Finding {
    let meaning = dialect.second().and_then(|second| {
        let mut connection = host.connect(address, FURTHER_TIMEOUT).ok()?;
        let (answer, _) = exchange(second, &mut *connection, target);
        Some(second.understand(&answer))
    });
    match meaning {
        Some(Meaning::Refuses { detail, remedy }) => Finding::fail(detail, remedy),
        Some(Meaning::Speaks(more)) => Finding::pass(format!("{said}; {more}")),
        Some(Meaning::Foreign) | None => Finding::pass(said),
    }
}

fn foreign(
    host: &dyn Host,
    address: SocketAddr,
    dialect: &dyn Dialect,
    target: &str,
    answer: &[u8],
    end: End,
) -> Finding {
    let expected = dialect.name();
    let seen = match looks_like(answer) {
        None if answer.is_empty() && end == End::Silence => identify(host, address, target),
        seen => seen,
    };
    let correct = format!(
        "find the host and the port on which {expected} listens, and change them in the browser; then run \
         `holistics-tunnel update-tunnel`"
    );
    match seen {
        Some(seen) => Finding::fail(
            format!("{target} does not speak {expected}: it looks like {seen}"),
            correct,
        ),
        None if answer.is_empty() && end == End::HungUp => Finding::fail(
            format!("{target} accepts the connection and hangs up without a word"),
            format!(
                "let this host in where {expected} or a proxy before it keeps a list of allowed addresses, and \
                 look into its log"
            ),
        ),
        None if answer.is_empty() => Finding::fail(
            format!("{target} accepts the connection and says nothing"),
            format!(
                "look whether {expected} is overloaded or hangs: it takes connections and does not answer them"
            ),
        ),
        None => Finding::fail(
            format!("{target} does not answer as {expected} does"),
            correct,
        ),
    }
}

/// Without a dialect: reachable is what can be said, and what it says by itself.
fn listen(connection: &mut dyn Connection, kind: Option<DatabaseType>, target: &str) -> Finding {
    let unknown = match kind {
        Some(_) => "this version knows no protocol of its kind",
        None => "what kind of database it is, is not known here",
    };
    let (answer, end) = read(connection, |answer| answer.len() >= 4);
    match (looks_like(&answer), end) {
        (None, End::HungUp) if answer.is_empty() => Finding::fail(
            format!("{target} accepts the connection and hangs up without a word"),
            "let this host in where the database or a proxy before it keeps a list of allowed addresses, and \
             look into its log",
        ),
        (Some(seen), _) => Finding::pass(format!(
            "{target} takes connections and looks like {seen} ({unknown})"
        )),
        (None, _) => Finding::pass(format!("{target} takes connections ({unknown})")),
    }
}

/// What a server is that waits to be spoken to, asked in the two most common ways.
fn identify(host: &dyn Host, address: SocketAddr, target: &str) -> Option<&'static str> {
    let dialects: [&dyn Dialect; 2] = [&postgres::Encryption, &clickhouse::Ping];
    dialects.iter().find_map(|dialect| {
        let mut connection = host.connect(address, FURTHER_TIMEOUT).ok()?;
        let (answer, _) = exchange(*dialect, &mut *connection, target);
        looks_like(&answer)
    })
}

fn exchange(
    dialect: &dyn Dialect,
    connection: &mut dyn Connection,
    target: &str,
) -> (Vec<u8>, End) {
    // A server of another kind may hang up while it is asked; what it said before is read all the same.
    let _ = connection
        .write_all(&dialect.question(target))
        .and_then(|()| connection.flush());
    read(connection, |answer| dialect.is_complete(answer))
}

/// Reads until there is enough, the other side hangs up, the time is over, or [`MOST_BYTES`] are there.
fn read(connection: &mut dyn Connection, is_enough: impl Fn(&[u8]) -> bool) -> (Vec<u8>, End) {
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    loop {
        if is_enough(&answer) || answer.len() >= MOST_BYTES {
            return (answer, End::Enough);
        }
        let room = buffer.len().min(MOST_BYTES - answer.len());
        match connection.read(&mut buffer[..room]) {
            Ok(0) => return (answer, End::HungUp),
            Ok(count) => answer.extend_from_slice(&buffer[..count.min(room)]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return (answer, End::Silence),
            // A reset is how many a server hangs up on what it does not understand.
            Err(_) => return (answer, End::HungUp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::doctor::check::Outcome;
    use crate::bastion::host::scripted::{Listener, ScriptedHost};
    use proptest::prelude::*;

    const ADDRESS: &str = "10.0.0.1:5432";

    fn asked(kind: DatabaseType, listener: Listener) -> Finding {
        let host = ScriptedHost::new();
        host.listen(ADDRESS, listener);
        let address = ADDRESS.parse().unwrap();
        let connection = host.connect(address, FURTHER_TIMEOUT).unwrap();
        let reached = Reached {
            address,
            connection,
        };
        ask(&host, reached, Some(kind), "db:5432")
    }

    #[test]
    fn something_else_at_the_port_is_named() {
        let cases: [(&[u8], &str); 4] = [
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
            (b"-ERR unknown command\r\n", "Redis"),
        ];
        for kind in [
            DatabaseType::Postgresql,
            DatabaseType::Mysql,
            DatabaseType::Sqlserver,
        ] {
            for (said, name) in cases {
                let finding = asked(kind, Listener::HangsUp(said.to_vec()));
                assert_eq!(finding.outcome, Outcome::Fail, "{kind} {finding:?}");
                assert!(finding.detail.contains(name), "{kind} {finding:?}");
            }
        }
    }

    #[test]
    fn a_port_that_hangs_up_is_told_from_one_that_is_silent() {
        let hung_up = asked(DatabaseType::Mysql, Listener::HangsUp(Vec::new()));
        assert!(hung_up.detail.contains("hangs up"), "{hung_up:?}");
        let silent = asked(DatabaseType::Mysql, Listener::Says(Vec::new()));
        assert!(silent.detail.contains("says nothing"), "{silent:?}");
    }

    #[test]
    fn a_database_of_another_kind_passes_once_it_takes_connections() {
        let finding = asked(DatabaseType::Other, Listener::Says(Vec::new()));
        assert_eq!(finding.outcome, Outcome::Pass);
        let finding = asked(DatabaseType::Other, Listener::HangsUp(Vec::new()));
        assert_eq!(finding.outcome, Outcome::Fail);
    }

    #[test]
    fn a_server_that_never_stops_talking_is_not_listened_to_for_ever() {
        let endless = vec![0x4a; 1_000_000];
        let mut connection = io::Cursor::new(endless);
        let (answer, end) = read(&mut connection, |_| false);
        assert_eq!((answer.len(), end), (MOST_BYTES, End::Enough));
    }

    fn every_dialect() -> Vec<&'static dyn Dialect> {
        DatabaseType::ALL
            .into_iter()
            .filter_map(dialect)
            .flat_map(|dialect| std::iter::once(dialect).chain(dialect.second()))
            .collect()
    }

    proptest! {
        #[test]
        fn no_answer_brings_the_program_down(answer in proptest::collection::vec(any::<u8>(), 0..5000)) {
            for dialect in every_dialect() {
                let _ = dialect.is_complete(&answer);
                let _ = dialect.understand(&answer);
            }
            let _ = looks_like(&answer);
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
            let answer = [begin, &rest].concat();
            for dialect in every_dialect() {
                let _ = dialect.is_complete(&answer);
                let _ = dialect.understand(&answer);
            }
            let _ = looks_like(&answer);
        }
    }
}
