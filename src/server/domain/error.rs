//! Why something that was asked for is not done.

use std::fmt::Debug;

use super::inputs::Invalid;
use super::logins::PasswordNeeded;
use crate::protocol::{DataSourceId, DataSourceState, PROGRAM};
use crate::server::store::StoreError;

/// What was asked of the control plane.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why it is not done, in words for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value is not one that can be taken.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// This server has not given this cursor for this list.
    #[error(
        "this cursor is not one that this server has given for this list. Begin again without a cursor, and follow \
         the link to the next page as it is."
    )]
    InvalidCursor,
    /// The public key is not one that is enrolled.
    #[error("{0}")]
    InvalidKey(String),
    /// Nothing is there yet to connect to.
    #[error(
        "no tunnel server of the region {0:?} has been started yet, so there is nothing that a bastion could connect \
         to. Whoever runs the servers starts one with --region {0}."
    )]
    NoTunnelServer(String),
    /// It never was, or is removed.
    #[error("there is no such data source or tunnel, or it has been removed")]
    NotFound,
    /// The tunnel is enrolled with another key.
    #[error(
        "this tunnel is enrolled with another key, so another machine or user ran its command first. \
         Use that one's key, or delete the data source and create a new one."
    )]
    KeyConflict,
    /// The public key is to be registered by hand, and a bastion has registered its own.
    #[error(
        "a bastion has registered its own key with the command. To change that key, run `{PROGRAM} rotate-key` \
         there; to set the tunnel up by hand elsewhere, delete the data source and create a new one."
    )]
    EnrolledByCommand,
    /// The key opens these data sources' tunnels, and nobody has said that it shall open this one, too.
    #[error(
        "this key already opens {}. If one machine is to hold these tunnels, confirm that the key is shared \
         (`\"shared\": true`); otherwise make another key pair and register its public key.", names(.0)
    )]
    KeyElsewhere(Vec<(DataSourceId, String)>),
    /// It is not a person who has set the tunnel up.
    #[error(
        "this tunnel is not set up by hand: its bastion reports where it leads. Run `{PROGRAM} update-tunnel` there."
    )]
    NotByHand,
    /// The key belongs to another bastion's tunnel.
    #[error(
        "this key belongs to another bastion's tunnel. Make a new key pair and send that one's public key."
    )]
    KeyOfAnother,
    /// The data source is in a state that does not allow it.
    #[error("the data source is in the state {}: {}", .0.into_str(), next_step(*.0))]
    WrongState(DataSourceState),
    /// It cannot be saved before its tunnel has been up.
    #[error("the data source cannot be saved yet: {}", next_before_save(*.enrolled, *.by_hand))]
    NotYetSaved {
        /// Whether a bastion has registered.
        enrolled: bool,
        /// Whether a person sets the tunnel up.
        by_hand: bool,
    },
    /// There is nothing to test yet.
    #[error(
        "no bastion has registered for this data source. Run its command on the bastion first, then test."
    )]
    NothingToTest,
    /// Another node holds the tunnel, and cannot be reached.
    #[error(
        "the node {0:?} holds this tunnel, and other nodes cannot reach that one. Start it with --peer-listen, so \
         that connections can be passed on to it."
    )]
    HeldOutOfReach(String),
    /// The tunnel has no port yet.
    #[error("no bastion has registered for this tunnel, so it has no port yet")]
    NotEnrolled,
    /// The database is reached directly.
    #[error(
        "this data source is reached directly: it has no tunnel, and so no command for a bastion"
    )]
    NoTunnel,
    /// The tunnel's own session does not listen.
    #[error(
        "no session with this tunnel's key listens on its port. Start ssh, wait until it reports the forward, \
         and call again."
    )]
    TunnelDown,
    /// No session of the new key listens.
    #[error(
        "no session with this key listens on the tunnel's port. Start ssh with it, then call again."
    )]
    NewKeyDown,
    /// Every port of the range belongs to a tunnel.
    #[error(
        "every remote port is given to a tunnel. Delete data sources that are not used, or widen --ports; \
         then run the command again."
    )]
    PortsExhausted,
    /// No port is left that nobody had, and the others rest.
    #[error(
        "no remote port is left that nobody had, and a port rests before it goes to another tunnel; the first one \
         until {0:.0}. Widen --ports by some that were never given, or shorten --port-rest; then run the command \
         again."
    )]
    PortsRest(jiff::Timestamp),
    /// The caller's key stands for another request.
    #[error(
        "this Idempotency-Key was sent with another body before. Send the same body again, or choose another key."
    )]
    KeyOfAnotherRequest,
    /// The first request under the caller's key has no answer yet.
    #[error(
        "the first request with this Idempotency-Key is still being carried out. Send it again in a moment."
    )]
    RequestUnderWay,
    /// The saved password is not used.
    #[error(transparent)]
    PasswordNeeded(#[from] PasswordNeeded),
    /// The database cannot be used now.
    #[error(
        "the server's database cannot be written or read now; its log says why. Nothing was changed; try \
         again in a moment."
    )]
    StorageFailed,
    /// A fault of the server.
    #[error("something failed inside the server; its log says what. Try again in a moment.")]
    Internal,
}

impl Error {
    /// A fault of the server: the cause goes to the log, not to the caller.
    pub fn internal(cause: &dyn Debug) -> Self {
        tracing::error!(?cause, "a request failed");
        Error::Internal
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if !error.is_outage() {
            return Error::internal(&error);
        }
        tracing::error!(?error, "the database failed");
        Error::StorageFailed
    }
}

fn next_step(state: DataSourceState) -> &'static str {
    match state {
        DataSourceState::Removing => {
            "it is being removed. Create a new data source if the tunnel is still wanted."
        }
        DataSourceState::Draft | DataSourceState::Enrolled | DataSourceState::Connected => {
            "it must be saved first: press \"Save\" in the browser."
        }
        _ => "reload it and try again.",
    }
}

/// Data sources by name and number, of which a few are enough.
fn names(others: &[(DataSourceId, String)]) -> String {
    const SHOWN: usize = 3;
    let names = others.iter().take(SHOWN);
    let names: Vec<_> = names
        .map(|(id, name)| format!("the tunnel of \"{name}\" (data source {id})"))
        .collect();
    match others.len().saturating_sub(SHOWN) {
        0 => names.join(" and "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn next_before_save(enrolled: bool, by_hand: bool) -> &'static str {
    if by_hand {
        "its tunnel is not up. Open it with ssh as the guide says and leave it open, then save."
    } else if enrolled {
        "its tunnel is not up. Run the command on the bastion again and leave it waiting, then save."
    } else {
        "no bastion has registered. Run the command on the bastion first, then save."
    }
}
