//! Everything said to OpenSSH and autossh.
//!
//! The command lines stand in [`command_line`] and nowhere else; the service's files, the temporary
//! tunnel and the foreground command all take them from there.

pub mod client;
pub mod command_line;
pub mod control_socket;
pub mod greeting;
pub mod keys;
pub mod known_hosts;
pub mod proof;
pub mod proxy_command;
pub mod trial;
pub mod vetting;

pub use command_line::{Forward, Way};
pub use keys::KeyType;
pub use proxy_command::ProxyCommand;
