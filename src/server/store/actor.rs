//! Who did something, as the history and the audit log keep it.

use std::fmt;
use std::net::IpAddr;

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::protocol::TunnelId;

/// Who did something. It is shown by [`Display`](fmt::Display); the kind decides for how long an entry of the
/// audit log stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An operator at a browser, by name.
    Operator(String),
    /// A program with an API token, by the token's name.
    ApiToken(String),
    /// Whoever runs the server's own commands.
    CommandLine,
    Bastion(TunnelId),
    /// The tunnel server, about what it sees.
    TunnelServer,
    /// Somebody who has not signed in, from this address.
    Stranger(IpAddr),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Operator(name) | Actor::ApiToken(name) => f.write_str(name),
            Actor::CommandLine => f.write_str("server's command line"),
            Actor::Bastion(_) => f.write_str("bastion"),
            Actor::TunnelServer => f.write_str("tunnel server"),
            Actor::Stranger(address) => write!(f, "somebody at {address}"),
        }
    }
}

impl Actor {
    pub fn kind(&self) -> ActorKind {
        match self {
            Actor::Operator(_) => ActorKind::Operator,
            Actor::ApiToken(_) => ActorKind::ApiToken,
            Actor::CommandLine => ActorKind::CommandLine,
            Actor::Bastion(_) => ActorKind::Bastion,
            Actor::TunnelServer => ActorKind::Server,
            Actor::Stranger(_) => ActorKind::Stranger,
        }
    }

    /// Which one of its kind. Strangers are one source together: they have as many addresses as they like.
    pub(super) fn source(&self) -> String {
        match self {
            Actor::Operator(name) | Actor::ApiToken(name) => name.clone(),
            Actor::Bastion(tunnel) => tunnel.to_string(),
            Actor::CommandLine | Actor::TunnelServer | Actor::Stranger(_) => String::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ActorKind {
    /// An operator at a browser.
    Operator,
    /// The server's own commands.
    CommandLine,
    /// A program.
    ApiToken,
    Bastion,
    Server,
    /// Somebody who has not signed in.
    Stranger,
}
