//! The journey on booted hosts: real users, real sudo, the host's own package manager and init.
//!
//! - [`inits`]: the service `h_autossh` under every init system, through all that can happen to it;
//! - [`unknown`]: distributions that setup has never heard of;
//! - [`users`]: several users of one host, of one vendor and of two; [`orders`]: their tunnels' whole lives;
//! - [`former`]: tunnels of version 0.1 get their present names; [`former_host`]: a host that has some;
//! - [`copies`]: a cloned host;
//! - [`debian`], [`apt`], [`red_hat`]: packages, with what may go wrong there; [`foreign_packages`]: those of others
//!   that are broken, and what else is in their way;
//! - [`refusals`]: users and hosts that setup sends away;
//! - [`hardened`]: what administrators have taken from homes and from ssh;
//! - [`sockets`]: homes in which ssh's control socket does not work;
//! - [`root_view`]: root, who sees and removes everybody's tunnels;
//! - [`root_commands`]: commands of root that are cut short;
//! - [`server_disk`]: the vendor's disk is full for a while; [`server_gaps`]: rows go on through all that happens to a server;
//!   [`server_package`]: the server as a distribution's package, from its installation to its purge;
//! - [`root_policy`]: what root is given, by sudo, sudo-rs and doas;
//! - [`way_out`]: bastions from which a web proxy alone leads out;
//! - [`setup_time`]: how long a setup takes;
//! - [`setup`]: setups and removals brought to their ends; [`packages`]: what is installed;
//! - [`user`]: the users of a host; [`reader`]: a row each second, and the longest wait for one.

mod apt;
mod copies;
mod debian;
mod foreign_packages;
mod former;
mod former_host;
mod hardened;
mod inits;
mod orders;
mod packages;
mod reader;
mod reasons;
mod red_hat;
mod refusals;
mod replacement;
mod root_commands;
mod root_policy;
mod root_view;
mod secrets;
mod server_disk;
mod server_gaps;
mod server_package;
mod setup;
mod setup_time;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
mod unattended;
mod unknown;
mod user;
mod users;
mod way_out;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const ROLLED_BACK: i32 = 3;
const PARTLY: i32 = 4;
const CANNOT_TELL: i32 = 5;
const INTERRUPTED: i32 = 130;
