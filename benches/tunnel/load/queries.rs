//! Queries through tunnels, and what a database answers to them: 20 small round trips and a result of 256 KiB, on a
//! connection of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::figures::Figures;

const ROUND_TRIPS: usize = 20;

/// How large a question is, and what each kind of it consists of.
const QUESTION: usize = 64;
const FOR_A_ROW: u8 = b'r';
const FOR_A_RESULT: u8 = b'R';

/// What is answered.
const ROW: &[u8] = &[b'1'; 64];
const RESULT: &[u8] = &[b'2'; 256 << 10];

/// How long one query may take beside all others.
const LIMIT: Duration = Duration::from_secs(600);

/// How many short connections there are at the same time.
const SHORT_AT_ONCE: usize = 16;

/// The answer to the first whole question, which is taken away.
pub fn answer(question: &mut Vec<u8>) -> Option<&'static [u8]> {
    if question.len() < QUESTION {
        return None;
    }
    let answer = match question[0] {
        FOR_A_RESULT => RESULT,
        _ => ROW,
    };
    question.drain(..QUESTION);
    Some(answer)
}

/// What came of them.
pub struct Done {
    pub took: Duration,
    /// How many bytes were answered.
    pub bytes: usize,
    /// How many seconds each took, from its connection to its last byte.
    pub each: Figures,
}

/// A query through each of these ports, all at the same moment.
pub fn all_at_once(ports: &[u16]) -> anyhow::Result<Done> {
    runtime()?.block_on(async {
        let begun = Instant::now();
        let mut queries = JoinSet::new();
        for &port in ports {
            queries.spawn(async move { timeout(LIMIT, query(port)).await });
        }
        let mut each = Figures::default();
        while let Some(done) = queries.join_next().await {
            each.push(done?.context("too slow")??.as_secs_f64());
        }
        Ok(Done {
            took: begun.elapsed(),
            bytes: ports.len() * (ROUND_TRIPS * ROW.len() + RESULT.len()),
            each,
        })
    })
}

/// A connection through each of these ports with one small round trip, a few at a time.
pub fn short(ports: &[u16]) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut connections = JoinSet::new();
        for part in ports.chunks(ports.len().div_ceil(SHORT_AT_ONCE)) {
            let part = part.to_vec();
            connections.spawn(async move {
                for port in part {
                    let ask = async {
                        let mut connection = connect(port).await?;
                        ask(&mut connection, FOR_A_ROW, ROW.len()).await
                    };
                    timeout(LIMIT, ask).await.context("too slow")??;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = connections.join_next().await {
            done??;
        }
        Ok(())
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

async fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connection = TcpStream::connect(to).await?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

async fn query(port: u16) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut connection = connect(port).await?;
    for _ in 0..ROUND_TRIPS {
        ask(&mut connection, FOR_A_ROW, ROW.len()).await?;
    }
    ask(&mut connection, FOR_A_RESULT, RESULT.len()).await?;
    Ok(begun.elapsed())
}

async fn ask(connection: &mut TcpStream, kind: u8, mut left: usize) -> anyhow::Result<()> {
    connection.write_all(&[kind; QUESTION]).await?;
    let mut buffer = [0; 16 << 10];
    while left > 0 {
        let part = left.min(buffer.len());
        let read = connection.read(&mut buffer[..part]).await?;
        ensure!(read > 0, "the answer is {left} bytes short");
        left -= read;
    }
    Ok(())
}
