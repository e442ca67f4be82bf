//! How many of what there may be: flags of `serve` that depend on the machine and on what stands in front of it.

use clap::Args;

use super::values::at_least_one;
use crate::server::http::connections;
use crate::server::tunnel_server::Limits;

/// The web's bounds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds of the web")]
pub struct WebBounds {
    /// How many web connections there may be in all, and never more than a quarter of the open files
    /// that this process may have. One that is idle makes room for a new one
    #[arg(long, default_value_t = 2_000, value_name = "NUMBER", value_parser = at_least_one)]
    pub web_connections: usize,

    /// How many of them may come from one IPv4 address, or one IPv6 network of 64 bits; those of
    /// --trusted-proxy are not counted so
    #[arg(long, default_value_t = 256, value_name = "NUMBER", value_parser = at_least_one)]
    pub web_connections_per_address: usize,
}

impl WebBounds {
    /// As the web takes them.
    pub fn bounds(&self) -> connections::Bounds {
        connections::Bounds {
            in_all: self.web_connections,
            per_address: self.web_connections_per_address,
        }
    }
}

/// The tunnel server's bounds that depend on the machine and on what stands in front of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds of the tunnel server")]
pub struct Bounds {
    /// How many SSH connections there may be in all, logged in or not
    #[arg(
        long,
        default_value_t = Limits::default().connections,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub ssh_connections: usize,

    /// How many of them may be in the middle of their login; from half of it on, newcomers are refused
    /// at random, as with sshd's MaxStartups
    #[arg(
        long,
        default_value_t = Limits::default().unauthenticated,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub ssh_logins: usize,

    /// How many of those may come from one IPv4 address, or one IPv6 network of 64 bits. Behind a load
    /// balancer that hides the bastions' addresses (see --trusted-proxy), give it the number of --ssh-logins
    #[arg(
        long,
        default_value_t = Limits::default().unauthenticated_per_address,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub ssh_logins_per_address: usize,

    /// How many SSH sessions one key may have beyond one for each of its tunnels
    #[arg(
        long,
        default_value_t = Limits::default().spare_sessions_per_key,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub spare_sessions_per_key: usize,

    /// How many connections may go through one SSH session at the same time
    #[arg(
        long,
        default_value_t = Limits::default().forwarded_per_session,
        value_name = "NUMBER",
        value_parser = at_least_one
    )]
    pub connections_per_session: usize,

    /// How much memory, in MiB, all connections together may take for what was received and not yet
    /// read, beyond the 256 KiB that each may
    #[arg(
        long,
        default_value_t = Limits::default().window_memory >> 20,
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(1..=1 << 30)
    )]
    pub window_memory: u64,
}

impl Bounds {
    /// As the tunnel server takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.ssh_connections,
            unauthenticated: self.ssh_logins,
            unauthenticated_per_address: self.ssh_logins_per_address,
            spare_sessions_per_key: self.spare_sessions_per_key,
            forwarded_per_session: self.connections_per_session,
            window_memory: self.window_memory << 20,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::server::cli::{Cli, Command};

    #[test]
    fn the_bounds_are_the_tunnel_server_s_unless_a_flag_says_otherwise() {
        let bounds = |arguments: &[&str]| {
            let line = [&["x", "serve"], arguments].concat();
            let Command::Serve(serve) = Cli::parse_from(line).command else {
                panic!("not serve");
            };
            format!("{:?}", serve.bounds.limits())
        };
        assert_eq!(bounds(&[]), format!("{:?}", Limits::default()));
        let more = Limits {
            unauthenticated_per_address: 1_000,
            window_memory: 64 << 20,
            ..Limits::default()
        };
        let arguments = ["--ssh-logins-per-address", "1000", "--window-memory", "64"];
        assert_eq!(bounds(&arguments), format!("{more:?}"));
    }
}
