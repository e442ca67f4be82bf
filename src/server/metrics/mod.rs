//! What Prometheus reads.
//!
//! What can be asked is asked when it is read ([`facts`]); only what happens and leaves nothing behind
//! is counted: requests and connection tests ([`counts`]), and what the tunnel server does. Every label
//! has a bounded set of values: a route is the template and never the path, which may hold a token.

pub mod counts;
pub(crate) mod facts;
