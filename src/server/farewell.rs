//! The end of the server: everybody is told, and nobody holds it up.
//!
//! SIGTERM or SIGINT asks for it; SIGTERM drains first where there are other nodes, which a second signal ends. Then live streams and long polls end, requests under way have some
//! seconds more, SSH clients are told why they are cut off, and what is pending is written down. Whatever
//! clients do, the process is gone within [`BOUND`], and at once when it is asked a second time.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long requests under way may take until they are cut off.
pub const REQUESTS: Duration = Duration::from_secs(4);

/// How long what is pending may take to be written down, and the database to be closed.
pub const WRITING: Duration = Duration::from_secs(2);

/// How long what waits in a thread of its own may hold up the end: a name server that does not answer.
pub const THREADS: Duration = Duration::from_millis(500);

/// How long all of it may take, once what drains has drained.
pub const BOUND: Duration = Duration::from_secs(10);

/// The signals that ask for it.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> SignalKind {
        let (name, kind) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
        };
        tracing::info!(signal = name, "ending");
        kind
    }

    /// Carries the farewell out as far as its time goes.
    pub async fn bound(mut self, farewell: impl Future<Output = ()>) {
        // A thread, since it must not depend on what it ends.
        thread::spawn(|| {
            thread::sleep(BOUND);
            tracing::error!("shutting down took too long; not waiting any longer");
            // The log's thread has this long for that line.
            thread::sleep(Duration::from_millis(100));
            process::exit(1);
        });
        tokio::select! {
            () = farewell => {}
            signal = self.next() => process::exit(128 + signal.as_raw_value()),
        }
    }
}
