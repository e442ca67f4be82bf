//! The vendor's program, `holistics-tunnel-server`.

pub mod tunnel_server;
