//! Whoever reads rows through tunnels all the time, and what they missed.
//!
//! Through each tunnel a row is read ten times a second on a connection that lasts, and once a second on a new one.
//! While none comes, one more connection is tried five times a second, so that the first that could come is seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::machines::Machine;
use super::sql::Login;

/// How far two rows on the lasting connection are apart, and two new connections.
const EVERY: Duration = Duration::from_millis(100);
const NEW_EVERY: Duration = Duration::from_secs(1);

/// How often one more connection is tried while no row comes, and how long none has to have come for that.
const SEARCH_EVERY: Duration = Duration::from_millis(200);
const MISSED_AFTER: Duration = Duration::from_millis(500);

/// How many of them are tried at the same time: more would take each other's time on a machine that is busy.
const SEARCHES: usize = 5;

/// What may lie between two rows though nothing is lost: the machine is busy.
const STEADY: Duration = Duration::from_millis(800);

/// How long a reader waits for a row, or for a connection, before it gives up and makes another one.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where rows are read through a tunnel.
pub struct Place {
    /// What the tunnel is called.
    pub name: String,
    /// The address at which its port is.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Readers at work. They end when this is dropped.
pub struct Readers {
    places: Vec<(String, Arc<Mutex<Seen>>)>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    rows: Vec<Instant>,
    lost: Vec<Instant>,
    /// New connections that gave no row, and why the last one did not.
    failed: Vec<Instant>,
    why: String,
}

/// What was missed through a tunnel in a span of time.
#[derive(Debug, Clone)]
pub struct Missed {
    /// Which tunnel.
    pub name: String,
    /// The longest time without a row.
    pub gap: Duration,
    /// Lasting connections that were lost.
    pub lost: usize,
    /// New connections that gave no row.
    pub failed: usize,
}

impl Readers {
    /// Begins to read on this machine.
    pub fn start(machine: &Machine, places: &[Place], login: &Login) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut seen = Vec::new();
        let mut readers = Vec::new();
        for place in places {
            let kept = Arc::new(Mutex::new(Seen::default()));
            seen.push((place.name.clone(), Arc::clone(&kept)));
            let options = PgConnectOptions::new_without_pgpass()
                .host(&place.host)
                .port(place.port)
                .username(&login.username)
                .password(&login.password)
                .database(&login.database)
                .ssl_mode(PgSslMode::Disable);
            readers.push((options, kept));
        }
        let over = Arc::clone(&is_over);
        let inside = machine.enter();
        let thread = std::thread::spawn(move || read(readers, over));
        drop(inside);
        Readers {
            places: seen,
            is_over,
            thread: Some(thread),
        }
    }

    /// Whether rows have come through all tunnels, on lasting and on new connections, for as long as this.
    pub fn have_been_well_for(&self, long: Duration) -> bool {
        self.places.iter().all(|(_, seen)| {
            let seen = lock(seen);
            let since = Instant::now().checked_sub(long);
            let bad = seen.lost.iter().chain(&seen.failed).max();
            let last = seen.rows.last();
            let first = seen.rows.first();
            let begun = first.is_some_and(|first| since.is_some_and(|since| *first < since));
            let present = last.is_some_and(|last| last.elapsed() < 5 * EVERY);
            begun && present && bad.is_none_or(|bad| since.is_some_and(|since| *bad < since))
        })
    }

    /// Whether rows have come through this tunnel without a gap for as long as this.
    pub fn are_steady_for(&self, name: &str, long: Duration) -> bool {
        let seen = lock(self.seen(name));
        let late = seen
            .rows
            .iter()
            .rev()
            .take_while(|row| row.elapsed() < long);
        let mut next = Instant::now();
        let mut is_steady = true;
        for row in late {
            is_steady &= next.duration_since(*row) < STEADY;
            next = *row;
        }
        is_steady && next.elapsed() + STEADY > long
    }

    /// How long after this moment rows came steadily through this tunnel again: not at all, if they never ceased.
    /// It is to be asked when they do.
    pub fn back_after(&self, name: &str, end: Instant) -> Duration {
        let seen = lock(self.seen(name));
        let pairs = seen.rows.iter().zip(seen.rows.iter().skip(1));
        let gaps = pairs.filter(|(last, next)| next.duration_since(**last) > STEADY);
        let last = gaps.map(|(_, next)| *next).max();
        last.map_or(Duration::ZERO, |next| next.saturating_duration_since(end))
    }

    /// When the longest time without a row through this tunnel began, of those since this moment.
    pub fn longest_gap_since(&self, name: &str, since: Instant) -> Instant {
        let seen = lock(self.seen(name));
        let rows = seen.rows.iter().filter(|row| **row > since).copied();
        let rows: Vec<_> = [since].into_iter().chain(rows).collect();
        let pairs = rows.iter().zip(rows.iter().skip(1));
        let longest = pairs.max_by_key(|(last, next)| next.duration_since(**last));
        longest.map_or(since, |(last, _)| *last)
    }

    /// How long no row has come through this tunnel.
    pub fn silent_for(&self, name: &str) -> Duration {
        let seen = lock(self.seen(name));
        seen.rows.last().map_or(Duration::MAX, Instant::elapsed)
    }

    fn seen(&self, name: &str) -> &Mutex<Seen> {
        let mut places = self.places.iter();
        let (_, seen) = places
            .find(|(own, _)| own == name)
            .expect("a tunnel's name");
        seen
    }

    /// What was missed from a moment on.
    pub fn missed_since(&self, since: Instant) -> Vec<Missed> {
        let places = self.places.iter();
        places
            .map(|(name, seen)| {
                let seen = lock(seen);
                let before = seen.rows.iter().rev().find(|row| **row <= since);
                let after = seen.rows.iter().filter(|row| **row > since);
                let mut last = before.copied().unwrap_or(since);
                let mut gap = Duration::ZERO;
                for row in after.copied().chain([Instant::now()]) {
                    gap = gap.max(row.saturating_duration_since(last));
                    last = row;
                }
                let count = |all: &[Instant]| all.iter().filter(|one| **one > since).count();
                Missed {
                    name: name.clone(),
                    gap,
                    lost: count(&seen.lost),
                    failed: count(&seen.failed),
                }
            })
            .collect()
    }

    /// Where they stand, for messages.
    pub fn describe(&self) -> String {
        let places = self.places.iter();
        let lines = places.map(|(name, seen)| {
            let seen = lock(seen);
            let last = seen.rows.last().map(Instant::elapsed);
            format!(
                "{name}: {} rows, the last {last:?} ago; {} connections lost, {} new ones failed ({})",
                seen.rows.len(),
                seen.lost.len(),
                seen.failed.len(),
                seen.why
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(readers: Vec<(PgConnectOptions, Arc<Mutex<Seen>>)>, is_over: Arc<AtomicBool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for (options, seen) in readers {
            tokio::spawn(read_on_one_connection(options.clone(), Arc::clone(&seen)));
            tokio::spawn(read_on_new_connections(options.clone(), Arc::clone(&seen)));
            tokio::spawn(search(options, seen));
        }
        while !is_over.load(Ordering::Relaxed) {
            sleep(EVERY).await;
        }
    });
}

async fn read_on_one_connection(options: PgConnectOptions, seen: Arc<Mutex<Seen>>) {
    loop {
        let Ok(Ok(mut connection)) = timeout(PATIENCE, options.connect()).await else {
            sleep(EVERY).await;
            continue;
        };
        while let Ok(Ok(_)) = timeout(PATIENCE, row(&mut connection)).await {
            lock(&seen).rows.push(Instant::now());
            sleep(EVERY).await;
        }
        lock(&seen).lost.push(Instant::now());
    }
}

async fn read_on_new_connections(options: PgConnectOptions, seen: Arc<Mutex<Seen>>) {
    loop {
        if let Err(why) = read_on_a_new_connection(&options, &seen).await {
            lock(&seen).note_failure(why);
        }
        sleep(NEW_EVERY).await;
    }
}

async fn read_on_a_new_connection(
    options: &PgConnectOptions,
    seen: &Mutex<Seen>,
) -> Result<(), String> {
    let one = async {
        let mut connection = options.connect().await?;
        row(&mut connection).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    let answer = timeout(PATIENCE, one).await;
    let answer = answer.map_err(|_| format!("no answer within {PATIENCE:?}"))?;
    let connection = answer.map_err(|error| error.to_string())?;
    lock(seen).rows.push(Instant::now());
    // It is over for the reader, whatever becomes of the goodbye.
    let _ = timeout(PATIENCE, connection.close()).await;
    Ok(())
}

async fn search(options: PgConnectOptions, seen: Arc<Mutex<Seen>>) {
    let places = Arc::new(Semaphore::new(SEARCHES));
    loop {
        sleep(SEARCH_EVERY).await;
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let last = lock(&seen).rows.last().copied();
        if last.is_some_and(|row| row.elapsed() > MISSED_AFTER) {
            let (options, seen) = (options.clone(), Arc::clone(&seen));
            // That it fails is what is expected.
            tokio::spawn(async move {
                let _place = place;
                drop(read_on_a_new_connection(&options, &seen).await);
            });
        }
    }
}

impl Seen {
    fn note_failure(&mut self, why: String) {
        self.failed.push(Instant::now());
        self.why = why;
    }
}

async fn row(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT amount FROM orders WHERE id = 1")
        .fetch_one(connection)
        .await
}
