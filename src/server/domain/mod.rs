//! The rules: what may be typed, who may do what with a data source, and what secrets look like.
//!
//! [`ControlPlane`] carries out what operators and bastions ask for. The API and the pages both call it, and
//! put its answers and its [`Error`] into their own words. Neither HTTP nor SQL lives here.

mod access;
pub mod address;
pub mod api_tokens;
mod by_hand;
pub mod changes;
mod commands;
mod connection;
mod control_plane;
pub(crate) mod crypto;
mod cursor;
mod data_sources;
mod error;
pub(crate) mod history;
pub(crate) mod host_keys;
pub mod idempotency;
pub(crate) mod inputs;
mod keys;
pub(crate) mod lists;
pub(crate) mod logins;
mod moves;
pub mod operators;
pub(crate) mod peer_network;
pub mod proxies;
pub mod public_key;
mod record;
pub mod regions;
pub mod secret;
pub mod token;
mod tunnels;

pub use access::AccessError;
pub use commands::CommandToken;
pub use control_plane::ControlPlane;
pub use error::{Error, Result};

pub use crate::server::store::{Actor, ActorKind};
pub use tunnels::Enrolled;
