//! The lab of booted hosts: a bastion with an init system, package manager and users of its own,
//! the vendor's machine and the customer's database, each with its own network.
//!
//! - [`namespace`]: a machine's network, without a name that could be left behind; [`network`]: the
//!   lines between the three machines, to be cut and mended;
//! - [`image`]: what a host is booted from (made by `scripts/lab-images`); [`program`]: the program
//!   under test, as that host can run it; [`host`]: a host that
//!   boots, reboots, loses power, and runs commands for its users; [`terminal`]: somebody in front
//!   of it; [`disk`]: what is on its disk, to be compared;
//! - [`mirror`]: the web server with the packages; [`web_proxy`]: the only way out of some bastions; [`certificate`]: the vendor's https;
//! - [`server_packages`]: the vendor's program as a distribution's package;
//! - [`host_lab`]: all of it together, brought to a given point of the journey; [`other_vendor`]: a
//!   second vendor, of whom the bastion's users have tunnels, too.
//!
//! It needs Linux and root. Everything is in namespaces that end with the processes in them, and
//! these carry the name of a workspace: its guard ends them even if the test is killed.

pub mod certificate;
pub mod disk;
pub mod host;
pub mod host_lab;
pub mod image;
pub mod mirror;
pub mod namespace;
pub mod network;
pub mod other_vendor;
pub mod program;
pub mod server_packages;
pub mod terminal;
pub mod web_proxy;
