//! The threads on which sessions live: one per processor, each with a scheduler of its own.
//!
//! A session and all its connections stay on one thread. On a scheduler that hands tasks from thread
//! to thread, a session that carries bulk data wanders between two processors and takes time from
//! the programs at both of its ends: measured on two processors, that cost 3 to 13 % of the rate.

use std::io;
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

pub(super) struct SessionThreads(Vec<SessionThread>);

/// One of them. As many copies of `sessions` exist as sessions live there, and one more.
struct SessionThread {
    scheduler: Handle,
    sessions: Arc<()>,
}

impl SessionThreads {
    /// Starts them; they end at the shutdown, with whatever still runs on them. The end of any of them
    /// cancels `ended`.
    pub(super) fn start(
        shutdown: &CancellationToken,
        ended: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..count).map(|n| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let scheduler = runtime.handle().clone();
            let (shutdown, ended) = (shutdown.clone(), ended.clone().drop_guard());
            thread::Builder::new()
                .name(format!("sessions-{n}"))
                .spawn(move || {
                    runtime.block_on(shutdown.cancelled_owned());
                    drop(ended);
                })?;
            Ok(SessionThread {
                scheduler,
                sessions: Arc::default(),
            })
        });
        let threads = threads.collect::<io::Result<_>>();
        Ok(SessionThreads(
            threads.context("cannot start the sessions' threads")?,
        ))
    }

    /// Returns when each of them has shown that it runs, or that one does not.
    pub(super) async fn answer(&self) -> bool {
        for thread in &self.0 {
            if thread.scheduler.spawn(async {}).await.is_err() {
                return false;
            }
        }
        true
    }

    /// A place on the thread with the fewest sessions.
    pub(super) fn place(&self) -> Place {
        let sessions = |thread: &&SessionThread| Arc::strong_count(&thread.sessions);
        // There is at least one thread, since there is at least one processor.
        let thread = self.0.iter().min_by_key(sessions).unwrap_or(&self.0[0]);
        Place {
            scheduler: thread.scheduler.clone(),
            _session: Arc::clone(&thread.sessions),
        }
    }
}

/// A session's place on a thread, taken while it lives.
pub(super) struct Place {
    scheduler: Handle,
    _session: Arc<()>,
}

impl Place {
    /// Moves a connection to this thread's scheduler.
    pub(super) fn adopt(&self, stream: TcpStream) -> io::Result<TcpStream> {
        let stream = stream.into_std()?;
        let _here = self.scheduler.enter();
        TcpStream::from_std(stream)
    }

    /// Where the session is to run. It keeps its place while it does.
    pub(super) fn scheduler(&self) -> Handle {
        self.scheduler.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_is_held_up_does_not_answer_and_one_that_ends_is_seen() {
        let (shutdown, ended) = (CancellationToken::new(), CancellationToken::new());
        let threads = SessionThreads::start(&shutdown, &ended).unwrap();
        assert!(threads.answer().await);
        let (release, held_up) = mpsc::channel::<()>();
        let holds_up = async move {
            let _ = held_up.recv();
        };
        threads.0[0].scheduler.spawn(holds_up);
        let answer = timeout(Duration::from_millis(50), threads.answer());
        assert!(answer.await.is_err());
        drop(release);
        assert!(threads.answer().await);
        assert!(!ended.is_cancelled());
        shutdown.cancel();
        ended.cancelled().await;
        assert!(!threads.answer().await);
    }
}
