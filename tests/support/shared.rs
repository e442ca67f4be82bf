//! What the tests of a binary share while one of them uses it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Something that is slow to start.
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    /// Not started yet.
    pub const fn new() -> Self {
        Shared(Mutex::new(Weak::new()))
    }

    /// It, started for the first and stopped after the last of those that use it at a time.
    pub fn get(&self, start: impl FnOnce() -> T) -> Arc<T> {
        // Where another test failed to start it, this one tries again.
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(start());
            *shared = Arc::downgrade(&started);
            started
        })
    }
}
