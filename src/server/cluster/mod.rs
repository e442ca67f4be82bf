//! Several nodes of the server on one database: what they know of each other, and how they pass connections on.
//!
//! A [`node`] says what it is, and by its [`beat`] that it lives; by its [`facts`] which tunnels it holds. What the
//! others say is the [`view`]; [`tunnels`] is both together, which is what the control plane asks. [`news`] wakes
//! whoever waits for what happens at another node. [`holders`] is the table in memory by which connections are
//! passed on; [`peer_link`] carries one from one node to another. Who listens on which port, and for whom, is in
//! `tunnel_server`. [`key_table`] answers logins from memory, for as long as its [`key_age`] allows; [`key_file`] keeps it
//! on disk, and [`key_keeper`] keeps it current. Nothing here is on the way of the data, and nothing here reads a clock of another machine.

pub(crate) mod beat;
mod dead_nodes;
pub(crate) mod facts;
pub mod holders;
pub(crate) mod key_age;
pub(crate) mod key_file;
pub(crate) mod key_keeper;
pub(crate) mod key_table;
mod liveness;
pub(crate) mod news;
pub(crate) mod node;
pub mod peer_link;
pub mod tunnels;
pub(crate) mod view;
