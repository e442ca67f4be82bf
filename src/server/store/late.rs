//! Connections to a database that may be opened after the server's start.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::sql::{Pool, Statement};

/// Connections that fail at once, until there are those that work.
#[derive(Debug)]
pub(super) struct Late {
    first: Pool,
    opened: OnceLock<Pool>,
    is_shut: bool,
}

impl Late {
    /// Those that work.
    pub(super) fn open(pool: Pool) -> Self {
        Late {
            first: pool,
            opened: OnceLock::new(),
            is_shut: false,
        }
    }

    /// None yet; `closed` fails at once.
    pub(super) fn shut(closed: Pool) -> Self {
        Late {
            is_shut: true,
            ..Late::open(closed)
        }
    }

    /// From now on, these.
    pub(super) fn set(&self, pool: Pool) {
        // The second time, the first ones are as good.
        let _ = self.opened.set(pool);
    }

    pub(super) fn is_open(&self) -> bool {
        !self.is_shut || self.opened.get().is_some()
    }

    pub(super) fn pool(&self) -> &Pool {
        self.opened.get().unwrap_or(&self.first)
    }

    /// A statement on any connection, in a transaction of its own.
    pub(super) fn sql(&self, text: impl Into<Cow<'static, str>>) -> Statement<'_> {
        self.pool().sql(text)
    }
}
