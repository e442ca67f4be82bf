//! The first words with whatever is at the other end, and what it is if it is not what was expected.
//!
//! A tunnel's port accepts every connection: it is the tunnel server's. If the bastion cannot reach the
//! database, the connection is closed at once. So connecting proves nothing; an answer does.

use std::io;
use std::time::Duration;

use futures_util::future::select_ok;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::allowance::{Bounded, Socket};
use super::driver::Place;
use super::report::Failure;
use super::route;
use crate::protocol::PROGRAM;
use crate::wire_probe::{MOST_BYTES, Protocol, Reading, identifying_questions, looks_like};

/// How long an answer is waited for before other protocols are tried beside it. A database may look up
/// the name of its client before it says a word.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long more is heard of what is not understood.
const AFTERTHOUGHT: Duration = Duration::from_secs(1);
/// How long such a trial may take.
const TRIAL: Duration = Duration::from_secs(2);

pub(super) async fn connect(place: &Place) -> Result<Socket, Failure> {
    let stream = match TcpStream::connect(place.address).await {
        Ok(stream) => stream,
        // The port accepted, and the refusal behind it came before this was looked at.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(hung_up(place)),
        Err(error) => return Err(no_connection(place, &error)),
    };
    if !place.is_tunnelled {
        // The address may have become this machine's own since it was found.
        route::check(place.host(), place.address.ip(), place.own_machine_allowed)?;
    }
    // Costs nothing, and without it small messages may wait for each other.
    let _ = stream.set_nodelay(true);
    Ok(Bounded::new(stream, place.allowance.clone()))
}

/// Connects, says the first words and returns what the answer means, if it is one that is understood.
pub(super) async fn open<P: Protocol + Sync>(
    place: &Place,
    protocol: &P,
) -> Result<(Socket, P::Reached), Failure> {
    let mut stream = connect(place).await?;
    let mut words = Vec::new();
    let question = protocol.question(&place.database);
    let is_enough = |words: &[u8]| protocol.read(words).is_complete();
    // A server of another kind may hang up while it is asked; what it said before is read all the same.
    let _ = stream.write_all(&question).await;
    let hearing = hear(&mut stream, &mut words, is_enough);
    let is_waiting = timeout(PATIENCE, hearing).await.is_err();
    if words.is_empty()
        && let Some(seen) = identify(place, &question).await
        && seen != P::NAME
    {
        return Err(foreign(place, P::NAME, seen));
    }
    if is_waiting {
        // The time limit of the stage ends this.
        hear(&mut stream, &mut words, is_enough).await;
    }
    if let Reading::Reached(reached) = protocol.read(&words) {
        return Ok((stream, reached));
    }
    // What is not this protocol may come in pieces all the same.
    let hearing = hear(&mut stream, &mut words, is_known);
    let _ = timeout(AFTERTHOUGHT, hearing).await;
    Err(unexpected(place, P::NAME, &words))
}

/// Reads until there is enough, the other side hangs up, or [`MOST_BYTES`] are there.
pub(super) async fn hear(
    stream: &mut Socket,
    words: &mut Vec<u8>,
    is_enough: impl Fn(&[u8]) -> bool,
) {
    while !is_enough(words) && words.len() < MOST_BYTES {
        // A reset is how many a server hangs up on what it does not understand.
        let Ok(1..) = stream.read_buf(words).await else {
            return;
        };
    }
}

/// What a server is that waits to be spoken to, or hangs up on what it is told. One that is only slow is not
/// to be found out by the question that it has heard already.
async fn identify(place: &Place, heard: &[u8]) -> Option<&'static str> {
    let questions = identifying_questions(&place.database).into_iter();
    let others = questions.filter(|question| question != heard);
    let trials = others.map(|question| {
        Box::pin(async move {
            let words = ask(place, &question).await.unwrap_or_default();
            looks_like(&words).ok_or(())
        })
    });
    let (seen, _) = select_ok(trials).await.ok()?;
    Some(seen)
}

async fn ask(place: &Place, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut words = Vec::new();
    let exchange = async {
        let mut stream = connect(place)
            .await
            .map_err(|_| io::ErrorKind::NotConnected)?;
        stream.write_all(question).await?;
        hear(&mut stream, &mut words, is_known).await;
        io::Result::Ok(())
    };
    // What was heard until then counts.
    timeout(TRIAL, exchange).await.unwrap_or(Ok(()))?;
    Ok(words)
}

fn is_known(words: &[u8]) -> bool {
    looks_like(words).is_some()
}

/// Something else answers, or nothing.
fn unexpected(place: &Place, expected: &str, words: &[u8]) -> Failure {
    match looks_like(words) {
        _ if words.is_empty() => hung_up(place),
        Some(seen) => foreign(place, expected, seen),
        None => wrong_port(
            format!(
                "{} does not answer as {expected} does, and is not known here",
                place.database
            ),
            expected,
        ),
    }
}

fn foreign(place: &Place, expected: &str, seen: &str) -> Failure {
    wrong_port(
        format!(
            "{} does not speak {expected}: it looks like {seen}",
            place.database
        ),
        expected,
    )
}

fn wrong_port(detail: String, expected: &str) -> Failure {
    Failure::new(
        detail,
        format!(
            "Correct host and port of the data source, or if they are right, make a new one with the type of the \
             database that is there; this one is for {expected}."
        ),
    )
}

/// The connection was closed without a word.
pub(super) fn hung_up(place: &Place) -> Failure {
    let database = &place.database;
    if place.is_tunnelled {
        Failure::new(
            format!(
                "the connection was closed at once: the bastion cannot reach {database}, or it refuses"
            ),
            format!(
                "On the bastion, check whether {database} is right and open; unless the tunnel was set up by hand, \
                 `{PROGRAM} doctor` checks it. Host and port are as seen from the bastion."
            ),
        )
    } else {
        Failure::new(
            format!("{database} accepts the connection and closes it without a word"),
            "Let this server's address in where the database, or a proxy before it, keeps a list of those that \
             may connect.",
        )
    }
}

fn no_connection(place: &Place, error: &io::Error) -> Failure {
    if place.is_tunnelled {
        Failure::new(
            format!(
                "the tunnel's port {} does not accept connections: {error}",
                place.address
            ),
            "The tunnel has just gone down; try again in a few seconds.",
        )
    } else {
        Failure::new(
            format!("{} cannot be connected to: {error}", place.database),
            "Check host and port, that the database listens there, and that firewalls let this server in.",
        )
    }
}
