//! Why an operator's account or API token is not changed.

use crate::server::store::StoreError;

/// What was asked for is not done.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No account has this name.
    #[error("there is no operator named {0}")]
    NoSuchOperator(String),
    /// Whoever asks would lock himself out.
    #[error(
        "you cannot disable or remove your own account; another operator can, or whoever runs the server: \
         holistics-tunnel-server operator"
    )]
    Yourself,
    /// Whoever asks has lost his own account meanwhile.
    #[error("your own account was disabled or removed a moment ago, so nothing was changed")]
    AskerGone,
    /// Nobody could sign in by himself afterwards.
    #[error(
        "{0} is the last operator with a password, so nobody could sign in afterwards: set a password of your own \
         first, under your name at the top of the page"
    )]
    LastWithPassword(String),
    /// A link would not let this operator in.
    #[error(
        "{0} is disabled, so a link would not work; enable the account first: operator enable {0}"
    )]
    Disabled(String),
    /// A token of this name works.
    #[error("there is an API token named {0} already; choose another name, or revoke it first")]
    NameTaken(String),
    /// No token of this name works.
    #[error("no API token named {0} is left to revoke")]
    NoSuchToken(String),
    /// The expiry is beyond the calendar.
    #[error("no token can last that long; give a shorter time, or never")]
    TooLong,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
