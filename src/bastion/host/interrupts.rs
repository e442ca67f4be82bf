//! What asks the run to stop, and the waits that look for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::bastion::failure::Interrupted;

/// How often a wait looks whether the run was interrupted.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The signals that came, and which of them count.
#[derive(Default)]
pub struct Interrupts {
    interrupted: Arc<AtomicBool>,
    hung_up: Arc<AtomicBool>,
    outlives_terminal: AtomicBool,
    is_held: AtomicBool,
}

impl Interrupts {
    /// Catches the signals that ask this process to stop.
    pub fn catch() -> anyhow::Result<Self> {
        let interrupts = Interrupts::default();
        for (signal, flag) in [
            (SIGINT, &interrupts.interrupted),
            (SIGTERM, &interrupts.interrupted),
            (SIGHUP, &interrupts.hung_up),
        ] {
            signal_hook::flag::register(signal, Arc::clone(flag))
                .context("cannot catch the signals that ask to stop")?;
        }
        Ok(interrupts)
    }

    /// Takes an interrupt, if there was one: it is told once.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_held.load(Ordering::Relaxed) {
            return Ok(());
        }
        let hung_up = self.hung_up.swap(false, Ordering::Relaxed)
            && !self.outlives_terminal.load(Ordering::Relaxed);
        if self.interrupted.swap(false, Ordering::Relaxed) || hung_up {
            return Err(Interrupted);
        }
        Ok(())
    }

    /// Whether there was one that nobody has taken. It stays for whoever drives the run.
    pub fn is_pending(&self) -> bool {
        let hung_up =
            self.hung_up.load(Ordering::Relaxed) && !self.outlives_terminal.load(Ordering::Relaxed);
        !self.is_held.load(Ordering::Relaxed)
            && (self.interrupted.load(Ordering::Relaxed) || hung_up)
    }

    /// The end of the terminal does not count from now on.
    pub fn ignore_hangup(&self) {
        self.outlives_terminal.store(true, Ordering::Relaxed);
    }

    /// Whatever comes is kept for later, or no longer.
    pub fn hold(&self, hold: bool) {
        self.is_held.store(hold, Ordering::Relaxed);
    }

    /// As if the signal had come.
    #[cfg(test)]
    pub fn pretend(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    pub fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        let deadline = Instant::now() + time;
        loop {
            self.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(CHECK_INTERVAL));
        }
    }
}

/// Makes a call that may block on a thread of its own, and waits for it as [`Aside::wait`] does.
pub fn aside<T: Send + 'static, E>(
    call: impl FnOnce() -> T + Send + 'static,
    check: impl FnMut() -> Result<(), E>,
) -> Result<Option<T>, E> {
    Aside::begin(call).wait(check)
}

/// A call that may block, on a thread of its own.
pub struct Aside<T>(mpsc::Receiver<T>);

impl<T: Send + 'static> Aside<T> {
    pub fn begin(call: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // Nobody listens any more after an interrupt, and that is all right.
            let _ = sender.send(call());
        });
        Aside(receiver)
    }

    /// An error of `check`, which is asked meanwhile, ends the wait, and the call's result is dropped. `None` if the
    /// call ended without a result.
    pub fn wait<E>(self, mut check: impl FnMut() -> Result<(), E>) -> Result<Option<T>, E> {
        loop {
            check()?;
            match self.0.recv_timeout(CHECK_INTERVAL) {
                Ok(result) => return Ok(Some(result)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_is_told_once_and_kept_while_it_is_held() {
        let interrupts = Interrupts::default();
        interrupts.pretend();
        interrupts.hold(true);
        assert!(interrupts.check().is_ok() && !interrupts.is_pending());
        interrupts.hold(false);
        assert!(interrupts.is_pending());
        assert!(interrupts.sleep(Duration::from_secs(60)).is_err());
        assert!(interrupts.check().is_ok() && !interrupts.is_pending());
    }

    #[test]
    fn a_terminal_that_went_counts_until_the_run_may_outlive_it() {
        let interrupts = Interrupts::default();
        interrupts.hung_up.store(true, Ordering::Relaxed);
        assert!(interrupts.is_pending());
        interrupts.ignore_hangup();
        assert!(!interrupts.is_pending() && interrupts.check().is_ok());
    }

    #[test]
    fn a_call_that_blocks_is_given_up_and_one_that_fails_hard_has_no_result() {
        let blocks = || std::thread::sleep(Duration::from_secs(60));
        let mut looks = 0;
        let given_up = aside(blocks, || {
            looks += 1;
            if looks < 3 { Ok(()) } else { Err(Interrupted) }
        });
        assert!(given_up.is_err());
        let patient = || Ok::<(), Interrupted>(());
        assert_eq!(aside(|| 7, patient).unwrap(), Some(7));
        // Without a backtrace in the test's output.
        let ends = || -> () { std::panic::resume_unwind(Box::new(())) };
        assert_eq!(aside(ends, patient).unwrap(), None);
    }
}
