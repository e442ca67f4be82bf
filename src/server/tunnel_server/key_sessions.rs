//! The sessions of each key: not more than its tunnels can use.
//!
//! A bastion may have one session for each tunnel of its key, and a few more while it comes back. One
//! more makes the oldest end that holds no port; so a key whose owner opens sessions and leaves them
//! keeps out nobody, not even itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::live_session::LiveSession;

type Table = HashMap<String, Vec<Arc<LiveSession>>>;

/// The sessions whose key is proved, by that key.
#[derive(Default)]
pub(super) struct KeySessions(Mutex<Table>);

/// A session's place among those of its key; given back when dropped.
pub(super) struct Place {
    session: Arc<LiveSession>,
    all: Arc<KeySessions>,
}

/// What became of a newcomer.
pub(super) enum Entry {
    Entered(Place),
    /// It entered in place of this one, which holds no port.
    Replaced(Place, Arc<LiveSession>),
    /// All the others hold ports.
    Refused,
}

impl KeySessions {
    /// Takes a session in, as one of at most so many of its key.
    pub(super) fn enter(
        self: &Arc<Self>,
        session: &Arc<LiveSession>,
        bound: usize,
        holds_a_port: impl Fn(&LiveSession) -> bool,
    ) -> Entry {
        let mut table = self.table();
        let sessions = table.entry(session.key().to_owned()).or_default();
        let mut replaced = None;
        if sessions.len() >= bound {
            // They stand in the order of their logins.
            let Some(idle) = sessions.iter().position(|s| !holds_a_port(s)) else {
                return Entry::Refused;
            };
            replaced = Some(sessions.remove(idle));
        }
        sessions.push(Arc::clone(session));
        drop(table);
        let place = Place {
            session: Arc::clone(session),
            all: Arc::clone(self),
        };
        match replaced {
            Some(replaced) => Entry::Replaced(place, replaced),
            None => Entry::Entered(place),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<LiveSession>> {
        self.table().values().flatten().cloned().collect()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves at worst a session in the table whose bound it lowers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.all.table();
        let Some(sessions) = table.get_mut(self.session.key()) else {
            return;
        };
        sessions.retain(|session| session.id != self.session.id);
        if sessions.is_empty() {
            table.remove(self.session.key());
        }
    }
}
