//! The rules: what may be typed, who may do what with a data source, and what secrets look like.
//!
//! Neither HTTP nor SQL lives here.

pub mod address;
pub mod changes;
pub mod crypto;
pub mod inputs;
pub mod logins;
pub mod peer_network;
pub mod proxies;
pub mod public_key;
pub mod secret;
pub mod token;
