//! What bastions are told to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use url::{Host, Url};

use crate::protocol::is_loopback;

/// The server's addresses as the outside sees them.
#[derive(Debug, Clone)]
pub struct PublicAddress {
    /// Scheme, host, port and path, without a slash at the end.
    pub url: String,
    /// The tunnel server's name or address; IPv6 without brackets.
    pub ssh_host: String,
    /// The tunnel server's port.
    pub ssh_port: u16,
}

/// What the operator said about it.
#[derive(Debug, Clone, Default)]
pub struct PublicSettings {
    /// `--public-url`.
    pub url: Option<Url>,
    /// `--public-ssh-host`.
    pub ssh_host: Option<String>,
    /// `--public-ssh-port`.
    pub ssh_port: Option<u16>,
}

impl PublicAddress {
    /// Fills what was not said from the addresses the server really listens on.
    pub fn derive(
        settings: PublicSettings,
        tls: bool,
        web: SocketAddr,
        ssh: SocketAddr,
    ) -> anyhow::Result<Self> {
        let url = match settings.url {
            Some(url) => url,
            None => Url::parse(&format!("{}://{}", scheme(tls), reachable(web)))?,
        };
        let ssh_host = match settings.ssh_host {
            Some(host) => host,
            None => match url.host().context("the public URL names no host")? {
                Host::Domain(name) => name.to_owned(),
                Host::Ipv4(address) => address.to_string(),
                Host::Ipv6(address) => address.to_string(),
            },
        };
        Ok(PublicAddress {
            url: url.as_str().trim_end_matches('/').to_owned(),
            ssh_host,
            ssh_port: settings.ssh_port.unwrap_or(ssh.port()),
        })
    }

    /// Whether what is fetched from here is what was sent: by https, or without leaving the machine.
    /// The bastion's program refuses every other address.
    pub fn is_guarded(&self) -> bool {
        let Ok(url) = Url::parse(&self.url) else {
            return false;
        };
        is_loopback(&url) || url.scheme() == "https"
    }

    /// `host:port` of the tunnel server, for people.
    pub fn ssh_server(&self) -> String {
        host_and_port(&self.ssh_host, self.ssh_port)
    }
}

/// `host:port`, for people.
pub fn host_and_port(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

/// `https` or `http`.
pub fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// An address that can be connected to from this machine: "all addresses" become loopback.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(settings: PublicSettings, tls: bool, web: &str) -> PublicAddress {
        PublicAddress::derive(
            settings,
            tls,
            web.parse().unwrap(),
            "0.0.0.0:50022".parse().unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn without_settings_the_listening_addresses_are_told() {
        let public = derive(PublicSettings::default(), false, "127.0.0.1:8080");
        assert_eq!(public.url, "http://127.0.0.1:8080");
        assert_eq!(public.ssh_server(), "127.0.0.1:50022");
        let public = derive(PublicSettings::default(), true, "[::]:443");
        assert_eq!(public.url, "https://[::1]");
        assert_eq!(public.ssh_host, "::1");
        assert_eq!(public.ssh_server(), "[::1]:50022");
    }

    #[test]
    fn the_tunnel_server_is_at_the_public_urls_host_unless_said_otherwise() {
        let settings = PublicSettings {
            url: Some("https://tunnel.example.com/base/".parse().unwrap()),
            ..PublicSettings::default()
        };
        let public = derive(settings.clone(), false, "0.0.0.0:8080");
        assert_eq!(public.url, "https://tunnel.example.com/base");
        assert_eq!(public.ssh_server(), "tunnel.example.com:50022");
        let settings = PublicSettings {
            ssh_host: Some("ssh.example.com".to_owned()),
            ssh_port: Some(443),
            ..settings
        };
        let public = derive(settings, false, "0.0.0.0:8080");
        assert_eq!(public.ssh_server(), "ssh.example.com:443");
    }

    #[test]
    fn plain_http_is_guarded_on_this_machine_only() {
        let is_guarded = |url: &str| {
            let settings = PublicSettings {
                url: Some(url.parse().unwrap()),
                ..PublicSettings::default()
            };
            derive(settings, false, "127.0.0.1:8080").is_guarded()
        };
        for good in [
            "https://vendor.example",
            "http://127.0.0.1:8080",
            "http://[::1]",
        ] {
            assert!(is_guarded(good), "{good}");
        }
        for bad in ["http://vendor.example", "http://localhost.evil.example"] {
            assert!(!is_guarded(bad), "{bad}");
        }
    }
}
