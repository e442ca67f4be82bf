//! What tens of thousands of short connections through one session leave in the server's memory,
//! for every order in which the two ends may close.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use socket2::SockRef;

use crate::processes::memory_of_family;
use crate::report::{Report, kib, number};
use crate::source::{Request, ask};
use crate::ssh::{Bastion, Route, Server, Software, Tunnel};
use crate::{AES_128_GCM, Options};

/// How many connections there are at the same time.
const READERS: usize = 16;

/// An order of closing: what the database does, and the reader.
type Order = (&'static str, Request, fn(SocketAddr) -> anyhow::Result<()>);

const ORDERS: [Order; 6] = [
    ("the reader closes first", Request::AnswerAndWait, |to| {
        answer(to, Request::AnswerAndWait).map(drop)
    }),
    ("the database closes first", Request::AnswerAndClose, |to| {
        end(&mut answer(to, Request::AnswerAndClose)?)
    }),
    ("both close at once", Request::AnswerAndClose, |to| {
        answer(to, Request::AnswerAndClose).map(drop)
    }),
    ("the reader resets", Request::AnswerAndWait, |to| {
        let connection = answer(to, Request::AnswerAndWait)?;
        SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }),
    ("the reader half-closes", Request::AnswerAtEnd, |to| {
        let mut connection = ask(to, Request::AnswerAtEnd)?;
        connection.shutdown(Shutdown::Write)?;
        connection.read_exact(&mut [0])?;
        end(&mut connection)
    }),
    (
        "the database half-closes",
        Request::AnswerAndHalfClose,
        |to| {
            let mut connection = answer(to, Request::AnswerAndHalfClose)?;
            end(&mut connection)
        },
    ),
];

fn answer(to: SocketAddr, request: Request) -> anyhow::Result<std::net::TcpStream> {
    let mut connection = ask(to, request)?;
    connection.read_exact(&mut [0])?;
    Ok(connection)
}

/// Reads to the end, which comes from the other side.
fn end(connection: &mut std::net::TcpStream) -> anyhow::Result<()> {
    ensure!(connection.read(&mut [0])? == 0, "more than one byte came");
    Ok(())
}

pub fn measure(bastion: &Bastion, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let source = Route::Loopback.source()?;
    let count = options.connections;
    let mut table = report.table(
        &format!(
            "{count} short connections through one session, {READERS} at a time: the server's memory"
        ),
        &["grows by at most 2 MiB (2048 KiB) in each order of closing"],
        &["KiB before", "grew by", "per s", "failed"],
    );
    for software in Software::all_of_ours() {
        let server = Server::start(bastion, software)?;
        let tunnel = Tunnel::open(
            bastion,
            &server,
            Route::Loopback,
            0,
            source.port,
            AES_128_GCM,
        )?;
        // The first ones pay for what is made once.
        for (_, _, order) in ORDERS {
            connect(server.entrance(0), order, count.min(2_000))?;
        }
        for (name, _, order) in ORDERS {
            let before = settled(&server)?;
            let (rate, failed) = connect(server.entrance(0), order, count).context(name)?;
            let grown = settled(&server)? - before;
            let name = format!("{}, {name}", software.name());
            table.row(
                &name,
                &[kib(before), kib(grown), number(rate, 0), number(failed, 0)],
            );
        }
        drop((tunnel, server));
    }
    Ok(())
}

/// Connections per second, and how many failed.
fn connect(
    to: SocketAddr,
    order: fn(SocketAddr) -> anyhow::Result<()>,
    count: usize,
) -> anyhow::Result<(f64, f64)> {
    let (left, failed) = (AtomicUsize::new(count), AtomicUsize::new(0));
    let started = Instant::now();
    let last_error = thread::scope(|scope| {
        let reader = || {
            let mut last_error = None;
            let next = |n: usize| n.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
                .is_ok()
            {
                if let Err(error) = order(to) {
                    failed.fetch_add(1, Ordering::Relaxed);
                    last_error = Some(error);
                }
            }
            last_error
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(reader)).collect();
        let errors = readers.into_iter().filter_map(|reader| reader.join().ok()?);
        errors.last()
    });
    let failed = failed.into_inner();
    match last_error {
        Some(error) if failed * 10 > count => Err(error.context(format!("{failed} failed"))),
        _ => Ok((
            count as f64 / started.elapsed().as_secs_f64(),
            failed as f64,
        )),
    }
}

/// The memory once it no longer changes, or after some seconds.
fn settled(server: &Server) -> anyhow::Result<f64> {
    let mut last = memory_of_family(server.process.id())?;
    for _ in 0..8 {
        let now = memory_of_family(server.process.id())?;
        if (now - last).abs() < 16_384.0 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
