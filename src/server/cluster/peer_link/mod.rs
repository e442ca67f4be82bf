//! The link between two nodes: one passes on a connection to a tunnel's port, the other holds the tunnel.
//!
//! Each connection has a TCP connection of its own between the nodes, under TLS 1.3. Both sides show a
//! certificate that they have made themselves ([`identity`]) and know the other's by its SHA-256 (`tls`), which
//! [`Holders`](super::holders::Holders) is told. The node that passes on is the client ([`client`]): it keeps a
//! few connections to each node open and unused (`link`), so that a new one seldom waits for a handshake, nor for
//! the node's name to be looked up (`address`).
//!
//! After the handshake:
//!
//! 1. The client says for whom it asks, when it has somebody: 33 bytes (`wire`), which are `HTPL`, the version
//!    (1), the tunnel's number (8), its port (2), and the address (16, IPv4 as `::ffff:a.b.c.d`) and port (2) of
//!    the connection's other end, as the bastion is to be told. Numbers are big-endian. Of another version
//!    only the first five bytes are understood.
//! 2. The holder answers at once, before it asks the bastion, with one byte: 1 accepted, 2 not held here, 3 the
//!    tunnel's session has as many connections as it may, 4 another version. After all but the first the
//!    connection is over. The holder never passes on further.
//! 3. Then the bytes go both ways as they are ([`stream`]). TLS's `close_notify` ends one direction and leaves
//!    the other open. A connection that ends in another way was cut, and is cut at the other end, too, by a
//!    reset: a cut-off result never looks complete.
//!
//! The holder's side is [`listener`]; what is done with a connection there is the tunnel server's affair.

mod address;
pub(crate) mod client;
pub mod identity;
mod link;
pub mod listener;
pub mod stream;
#[cfg(test)]
pub(in crate::server) mod test_node;
pub(in crate::server) mod tls;
mod unproved;
pub mod wire;
