//! What Prometheus reads.
//!
//! What can be asked is asked when it is read ([`facts`]); only what happens and leaves nothing behind
//! is counted ([`counts`]): requests and connection tests. Every label has a bounded set of values: a
//! route is the template and never the path, which may hold a token.

pub mod counts;
pub mod facts;
