//! Whether the database can be reached, and answers in its own protocol, without a login. `wire_probe`
//! knows the protocols.

use std::net::SocketAddr;
use std::time::Duration;

use super::check::{Checks, Finding, Subject};
use super::network::{Endpoint, Reached, Unreached};
use crate::bastion::failure::Interrupted;
use crate::bastion::host::exchange::{End, exchange};
use crate::bastion::host::{Connection, Host};
use crate::bastion::ssh::command_line::bracketed;
use crate::protocol::DatabaseType;
use crate::wire_probe::clickhouse::{ClickHouse, Pong};
use crate::wire_probe::mysql::{MySql, Opening, product};
use crate::wire_probe::postgres::{Offer, Postgres, Startup};
use crate::wire_probe::sqlserver::{Prelogin, SqlServer};
use crate::wire_probe::{Protocol, Reading, Refusal, identifying_questions, looks_like};

/// How long a further connection may take, all in all.
const FURTHER_TIMEOUT: Duration = Duration::from_secs(2);

/// What to do where a database refuses, by PostgreSQL's and MySQL's codes.
const REMEDIES: [(&str, &str); 5] = [
    (
        "57P03",
        "wait until PostgreSQL has started, and look into its log if it does not",
    ),
    (
        "53300",
        "raise max_connections in PostgreSQL, or end sessions that nobody needs",
    ),
    (
        "1130",
        "create the database's user for this host's address (`CREATE USER name@address`): it admits no \
         user from here",
    ),
    (
        "1129",
        "unblock this host with `mysqladmin flush-hosts` (or `TRUNCATE performance_schema.host_cache`)",
    ),
    (
        "1040",
        "raise max_connections in the database, or end sessions that nobody needs",
    ),
];

/// Looks its name up, connects, and asks what answers.
pub fn examine(
    checks: &mut Checks,
    subject: &Subject,
    name: &str,
    port: u16,
    kind: Option<DatabaseType>,
) -> Result<(), Interrupted> {
    let target = format!("{}:{port}", bracketed(name));
    let endpoint = Endpoint {
        checks: ["database-name", "database-tcp"],
        what: "the database",
        name,
        port,
    };
    let reached = endpoint.reach(checks, subject, |_| {}, |error| tcp_remedy(error, &target))?;
    let waits_for = "the database's first words";
    checks.run(
        "database-protocol",
        subject,
        waits_for,
        |host| match reached {
            None => Finding::skip("it cannot be reached"),
            Some(reached) => ask(host, reached, kind, &target),
        },
    )?;
    Ok(())
}

fn tcp_remedy(error: &Unreached, target: &str) -> String {
    match error {
        Unreached::Refused(address) if address.ip().is_loopback() => format!(
            "start the database on this host, or correct host and port in the browser ({target}) if it runs elsewhere"
        ),
        Unreached::Refused(_) => format!(
            "start the database at {target}, and have it listen on that address and not on its own loopback alone"
        ),
        _ => format!("open the firewall between this host and the database for TCP to {target}"),
    }
}

/// Asks what stands at the other end of a connection. Where the kind of the database is not known, or
/// its protocol is not known here, whatever it says first is told.
fn ask(host: &dyn Host, reached: Reached, kind: Option<DatabaseType>, target: &str) -> Finding {
    let database = Database {
        host,
        address: reached.address,
        target,
    };
    let connection = reached.connection;
    match kind {
        Some(DatabaseType::Postgresql | DatabaseType::Redshift) => {
            database.ask(connection, &Postgres, |offer| database.postgres(offer))
        }
        Some(DatabaseType::Mysql | DatabaseType::Mariadb) => {
            database.ask(connection, &MySql, mysql)
        }
        Some(DatabaseType::Sqlserver) => database.ask(connection, &SqlServer::default(), sqlserver),
        Some(DatabaseType::Clickhouse) => database.ask(connection, &ClickHouse, clickhouse),
        Some(DatabaseType::Other) => listen(
            connection,
            target,
            "this version knows no protocol of its kind",
        ),
        None => listen(
            connection,
            target,
            "what kind of database it is, is not known here",
        ),
    }
}

/// A database that takes connections.
struct Database<'a> {
    host: &'a dyn Host,
    address: SocketAddr,
    target: &'a str,
}

impl Database<'_> {
    fn ask<P: Protocol>(
        &self,
        mut connection: Box<dyn Connection>,
        protocol: &P,
        understood: impl FnOnce(P::Reached) -> Finding,
    ) -> Finding {
        let question = protocol.question(self.target);
        let is_enough = |answer: &[u8]| protocol.read(answer).is_complete();
        let (answer, end) = exchange(&mut *connection, &question, is_enough);
        // One that is full has room for the next one.
        drop(connection);
        match protocol.read(&answer) {
            Reading::Reached(reached) => understood(reached),
            Reading::Incomplete | Reading::Foreign => {
                let seen = looks_like(&answer).or_else(|| {
                    let says_nothing = answer.is_empty() && end == End::Silence;
                    says_nothing.then(|| self.identify(&question)).flatten()
                });
                foreign(P::NAME, self.target, seen, &answer, end)
            }
        }
    }

    /// Asks on a connection of its own.
    fn ask_again(&self, question: &[u8], is_enough: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut connection = self.host.connect(self.address, FURTHER_TIMEOUT).ok()?;
        Some(exchange(&mut *connection, question, is_enough).0)
    }

    /// What a server is that waits to be spoken to, and not with the question that it has heard already.
    fn identify(&self, heard: &[u8]) -> Option<&'static str> {
        let mut others = identifying_questions(self.target)
            .into_iter()
            .filter(|question| question != heard);
        others.find_map(|question| {
            looks_like(&self.ask_again(&question, |answer| looks_like(answer).is_some())?)
        })
    }

    /// Its first answer is the same while it starts up and when it is full, so it is asked for a session.
    fn postgres(&self, offer: Offer) -> Finding {
        let said = match offer {
            Offer::Tls => "it speaks PostgreSQL, and offers TLS",
            Offer::Plain => "it speaks PostgreSQL, without TLS",
            Offer::Refused(refusal) => return session(Some(refusal), "it speaks PostgreSQL"),
        };
        let is_enough = |answer: &[u8]| Startup.read(answer).is_complete();
        let answer = self.ask_again(&Startup.question(self.target), is_enough);
        match answer.map(|answer| Startup.read(&answer)) {
            Some(Reading::Reached(refusal)) => session(refusal, said),
            _ => Finding::pass(said),
        }
    }
}

/// The user that is named does not exist, so what concerns users tells nothing about the real one.
fn session(refusal: Option<Refusal<String>>, said: &str) -> Finding {
    let refused = refusal.and_then(|refusal| {
        let remedy = remedy(&refusal.code)?;
        Some(Finding::fail(refusal.to_string(), remedy))
    });
    refused.unwrap_or_else(|| Finding::pass(format!("{said}; it takes sessions")))
}

fn mysql(opening: Opening) -> Finding {
    match opening {
        Opening::Greeting { version, .. } => Finding::pass(format!("it is {}", product(&version))),
        Opening::Refusal(refusal) => Finding::fail(
            refusal.to_string(),
            remedy(&refusal.code.to_string())
                .unwrap_or("look up what the database says, and into its log"),
        ),
    }
}

fn sqlserver(prelogin: Prelogin) -> Finding {
    Finding::pass(format!("it is SQL Server {}", prelogin.version))
}

fn clickhouse(pong: Pong) -> Finding {
    match pong {
        Pong::ClickHouse => Finding::pass("ClickHouse answers its ping"),
        Pong::WantsTls => Finding::pass(
            "it wants TLS, as ClickHouse's secure port does; what is behind that was not looked at",
        ),
        Pong::NativePort => Finding::fail(
            "this is the port of ClickHouse's native protocol, and its HTTP port is needed",
            "change the port in the browser to ClickHouse's HTTP port (8123 unless it was changed), then run \
             `holistics-tunnel update-tunnel`",
        ),
    }
}

fn remedy(code: &str) -> Option<&'static str> {
    let found = REMEDIES.iter().find(|(known, _)| *known == code)?;
    Some(found.1)
}

fn foreign(expected: &str, target: &str, seen: Option<&str>, answer: &[u8], end: End) -> Finding {
    let correct = format!(
        "find the host and the port on which {expected} listens, and change them in the browser; then run \
         `holistics-tunnel update-tunnel`"
    );
    match seen {
        Some(seen) => Finding::fail(
            format!("{target} does not speak {expected}: it looks like {seen}"),
            correct,
        ),
        None if !answer.is_empty() => Finding::fail(
            format!("{target} does not answer as {expected} does"),
            correct,
        ),
        None if end == End::HungUp => hung_up(target, expected),
        None => Finding::fail(
            format!("{target} accepts the connection and sends nothing"),
            format!(
                "check whether {expected} is overloaded or hangs: it takes connections and does not answer them"
            ),
        ),
    }
}

fn hung_up(target: &str, who: &str) -> Finding {
    Finding::fail(
        format!("{target} accepts the connection and closes it without sending anything"),
        format!(
            "let this host in where {who} or a proxy before it keeps a list of allowed addresses, and look into \
             its log"
        ),
    )
}

/// Without a protocol: reachable is what can be said, and what it says by itself.
fn listen(mut connection: Box<dyn Connection>, target: &str, unknown: &str) -> Finding {
    let (answer, end) = exchange(&mut *connection, &[], |answer| answer.len() >= 4);
    match looks_like(&answer) {
        None if answer.is_empty() && end == End::HungUp => hung_up(target, "the database"),
        Some(seen) => Finding::pass(format!(
            "{target} takes connections and looks like {seen} ({unknown})"
        )),
        None => Finding::pass(format!("{target} takes connections ({unknown})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::doctor::check::Outcome;
    use crate::bastion::host::scripted::{Listener, ScriptedHost};

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
        assert!(hung_up.detail.contains("closes it without"), "{hung_up:?}");
        let silent = asked(DatabaseType::Mysql, Listener::Says(Vec::new()));
        assert!(silent.detail.contains("sends nothing"), "{silent:?}");
    }

    #[test]
    fn a_database_of_another_kind_passes_once_it_takes_connections() {
        let finding = asked(DatabaseType::Other, Listener::Says(Vec::new()));
        assert_eq!(finding.outcome, Outcome::Pass);
        let finding = asked(DatabaseType::Other, Listener::HangsUp(Vec::new()));
        assert_eq!(finding.outcome, Outcome::Fail);
    }

    #[test]
    fn a_mysql_that_refuses_this_host_is_told_what_to_do() {
        for (code, message, word) in [
            (
                1130_u16,
                "Host '10.0.0.9' is not allowed to connect",
                "CREATE USER",
            ),
            (1129, "Host '10.0.0.9' is blocked", "flush-hosts"),
            (1040, "#08004Too many connections", "max_connections"),
        ] {
            let error = [&[0xff], &code.to_le_bytes()[..], message.as_bytes()].concat();
            let length = u8::try_from(error.len()).unwrap();
            let answer = [&[length, 0, 0, 0], &error[..]].concat();
            let finding = asked(DatabaseType::Mysql, Listener::HangsUp(answer));
            assert!(!finding.detail.contains('#'), "{finding:?}");
            assert!(finding.remedy.unwrap().contains(word));
        }
    }

    #[test]
    fn a_postgresql_that_starts_or_is_full_is_told_from_one_that_refuses_our_user() {
        for (code, message, outcome) in [
            ("57P03", "the database system is starting up", Outcome::Fail),
            ("53300", "sorry, too many clients already", Outcome::Fail),
            (
                "28000",
                "no pg_hba.conf entry for host \"10.0.0.9\"",
                Outcome::Pass,
            ),
        ] {
            let fields = format!("SFATAL\0C{code}\0M{message}\0\0");
            let length = u32::try_from(fields.len() + 4).unwrap();
            let answer = [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat();
            let finding = asked(DatabaseType::Postgresql, Listener::HangsUp(answer));
            assert_eq!(finding.outcome, outcome, "{finding:?}");
            let is_told = finding.detail.contains(message);
            assert_eq!(is_told, outcome == Outcome::Fail, "{finding:?}");
        }
    }
}
