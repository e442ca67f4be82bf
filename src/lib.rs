//! `holistics-tunnel`: a vendor's queries reach a database inside a customer's closed network
//! through a reverse SSH tunnel that the customer's bastion keeps open.
//!
//! The map of the crate:
//!
//! - [`protocol`]: what the two programs say to each other over HTTP.
//! - [`wire_probe`]: how the databases' protocols begin, by which both know what they have reached.
//! - `shell`: words for shells; `ssh_line`: what an ssh that holds a tunnel is told; `manual`: the guides for a
//!   setup by hand.
//! - `bastion` (feature `bastion`): the program `holistics-tunnel`. It probes the host into facts,
//!   plans steps from them, and applies the steps through one seam to the host.
//! - `server` (feature `server`): the program `holistics-tunnel-server`. Data sources, enrollment,
//!   ports, the SSH tunnel server, "Test connection".

#[cfg(feature = "bastion")]
pub mod bastion;
#[cfg(any(feature = "bastion", feature = "server"))]
pub mod manual;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "bastion", feature = "server"))]
mod shell;
#[cfg(any(feature = "bastion", feature = "server"))]
mod ssh_line;
pub mod wire_probe;
