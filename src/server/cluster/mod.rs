//! Several nodes of the server: what they know of each other, and how they pass connections on.
//!
//! [`holders`] is the table in memory of who else holds which tunnel; [`peer_link`] carries a connection from
//! one node to another. Who listens on which port, and for whom, is in `tunnel_server`.

pub mod holders;
pub mod peer_link;
