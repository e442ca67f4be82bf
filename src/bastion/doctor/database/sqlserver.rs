//! Microsoft SQL Server: the pre-login of its protocol (TDS), which names its version.

use super::{Dialect, Meaning};
use crate::first_words::sqlserver::{self, Encryption};

/// The pre-login.
pub(super) struct Prelogin;

impl Dialect for Prelogin {
    fn name(&self) -> &'static str {
        "SQL Server"
    }

    fn question(&self, _: &str) -> Vec<u8> {
        sqlserver::prelogin(Encryption::LoginOnly)
    }

    fn is_complete(&self, answer: &[u8]) -> bool {
        sqlserver::is_complete(answer)
    }

    fn understand(&self, answer: &[u8]) -> Meaning {
        match sqlserver::version(answer) {
            Some(version) => Meaning::Speaks(format!("it is SQL Server {version}")),
            None => Meaning::Foreign,
        }
    }
}
