//! Somebody who reads a row each second, and how long they had to wait for one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::sql::{Client, Login};
use crate::support::wait;

/// How long rows may be away that nobody has a reason to disturb.
pub const LONGEST_GAP: Duration = Duration::from_secs(3);

const ROW_LIMIT: Duration = Duration::from_secs(60);

/// Reads a row each second, each by a new connection, until it is dropped.
pub struct Reader {
    reading: Arc<Reading>,
    thread: Option<JoinHandle<()>>,
}

struct Reading {
    is_over: AtomicBool,
    rows: Mutex<Rows>,
}

struct Rows {
    count: u64,
    last: Instant,
    longest_gap: Duration,
}

impl Reader {
    /// Starts to read through this port of the vendor's machine.
    pub fn start(port: u16, login: Login) -> Self {
        let reading = Arc::new(Reading {
            is_over: AtomicBool::new(false),
            rows: Mutex::new(Rows {
                count: 0,
                last: Instant::now(),
                longest_gap: Duration::ZERO,
            }),
        });
        let told = Arc::clone(&reading);
        let thread = std::thread::spawn(move || {
            while !told.is_over.load(Ordering::Relaxed) {
                let is_read = read_a_row(port, &login);
                told.rows().note(is_read);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Reader {
            reading,
            thread: Some(thread),
        }
    }

    /// The longest time between two rows since this was last asked. It ends with a row that comes now.
    #[track_caller]
    pub fn longest_gap(&self) -> Duration {
        let before = self.reading.rows().count;
        let is_next = || self.reading.rows().count > before;
        let none = || String::from("none came");
        wait::until_true("the next row", ROW_LIMIT, none, is_next);
        std::mem::take(&mut self.reading.rows().longest_gap)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Reading {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn note(&mut self, is_read: bool) {
        self.longest_gap = self.longest_gap.max(self.last.elapsed());
        if is_read {
            self.last = Instant::now();
            self.count += 1;
        }
    }
}

/// Whether a row comes through this port of the vendor's machine.
pub fn read_a_row(port: u16, login: &Login) -> bool {
    let amount = Client::connect(port, login)
        .and_then(|mut client| client.number("SELECT amount FROM orders WHERE id = 1"));
    amount.is_ok()
}
