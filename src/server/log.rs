//! The log, on standard error. It never holds up what is logged, nor fails it: a reader that is slow, gone or
//! out of space costs lines, and lines that are lost are counted.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::cli::LogFormat;

/// Lines that may wait for a slow reader; then new ones are dropped. Seconds of a busy server's log.
const WAITING_LINES: usize = 8192;

/// Lines that could not be written.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);
/// Counts those for which there was no room.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Begins the log. What waits is written, within a second, when the guard goes.
pub fn start(format: LogFormat) -> WorkerGuard {
    // russh writes a line for many a thing that a stranger may send, as often as he sends it. What
    // matters of them the tunnel server writes itself.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,russh=off"));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .finish(Stderr);
    DROPPED.get_or_init(|| writer.error_counter());
    let log = tracing_subscriber::fmt()
        .with_ansi(colours)
        .with_env_filter(filter)
        .with_writer(writer);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    guard
}

/// How many lines were lost so far.
pub fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    UNWRITTEN.load(Ordering::Relaxed) + u64::try_from(dropped).unwrap_or(u64::MAX)
}

/// Standard error, whose failures are counted and told to nobody: there is nobody to tell.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(line).is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
