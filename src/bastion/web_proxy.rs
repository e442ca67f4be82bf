//! Through which proxy an address is reached: decided by the same variables and rules as the HTTP client
//! decides, since they come from the same library; and whether that proxy lets ssh through.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use crate::bastion::host::Host;
use crate::bastion::host::exchange::exchange;
use crate::bastion::ssh::command_line::bracketed;
use crate::bastion::ssh::greeting;
use crate::protocol::is_loopback;

#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// The variable that names it; otherwise it is the one that is kept.
    pub variable: Option<&'static str>,
    /// How it is spoken to: `http`.
    scheme: String,
    /// `NAME:PASSWORD`, where the variable holds them.
    login: Option<String>,
}

/// Without the login.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self} {})", self.origin())
    }
}

/// Its address, without the login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

/// How long the proxy's name may take.
const NAME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the proxy may take to connect, and the server behind it to greet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

impl Proxy {
    /// Where it comes from, behind its name.
    pub fn origin(&self) -> String {
        match self.variable {
            Some(variable) => format!("of {variable}"),
            None => "that is kept since setup".to_owned(),
        }
    }

    /// Whether it is one that ssh can be led through: spoken to in plain HTTP.
    pub fn is_plain_http(&self) -> bool {
        self.scheme == "http"
    }

    /// `NAME:PASSWORD`, a secret.
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Asks it for a connection to an SSH server.
    ///
    /// # Errors
    /// What it answered, or why it did not.
    pub fn leads_to(&self, host: &dyn Host, name: &str, port: u16) -> Result<(), String> {
        let server = format!("{}:{port}", bracketed(name));
        let mut question = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n");
        if let Some(login) = &self.login {
            let login = BASE64.encode(login);
            question.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
        }
        question.push_str("\r\n");
        let addresses = host
            .resolve(&self.host, self.port, NAME_TIMEOUT)
            .map_err(|error| format!("its name cannot be resolved: {error}"))?;
        let mut unreached = String::new();
        for address in addresses {
            match host.connect(address, CONNECT_TIMEOUT) {
                Ok(mut connection) => {
                    let is_enough = |said: &[u8]| judge(said).is_some();
                    let (said, _) = exchange(connection.as_mut(), question.as_bytes(), is_enough);
                    return judge(&said).unwrap_or_else(|| Err(unfinished(&said)));
                }
                Err(error) => unreached = format!("it cannot be reached: {error}"),
            }
        }
        Err(unreached)
    }
}

/// What the answer means, once there is enough of it.
fn judge(said: &[u8]) -> Option<Result<(), String>> {
    let (head, rest) = split_head(said)?;
    let status = head.lines().next().unwrap_or_default().trim().to_owned();
    if !is_http(&status) {
        return Some(Err(format!("it does not speak HTTP, but says {status:?}")));
    }
    match status.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => {}
        _ => return Some(Err(format!("it answers {status:?}"))),
    }
    greeting::version_line(rest).map(|_| Ok(()))
}

/// The head of an answer and what follows it. What is no HTTP has no end by which it could be known.
fn split_head(said: &[u8]) -> Option<(String, &[u8])> {
    let end = said.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, rest) = match end {
        Some(end) => (&said[..end], &said[end + 4..]),
        None if said.len() >= 5 && !is_http(&String::from_utf8_lossy(said)) => {
            (&said[..said.len().min(60)], &said[said.len()..])
        }
        None => return None,
    };
    Some((String::from_utf8_lossy(head).into_owned(), rest))
}

fn is_http(said: &str) -> bool {
    said.starts_with("HTTP/")
}

fn unfinished(said: &[u8]) -> String {
    match split_head(said) {
        Some(_) => "it connects, and no SSH server speaks behind it".to_owned(),
        None if said.is_empty() => "it says nothing".to_owned(),
        None => "its answer has no end".to_owned(),
    }
}

/// The variables that name a proxy for https, in the order in which they count. Plain http goes to this machine
/// only, without a proxy.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// What the environment says of the way to an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Environment {
    Silent,
    /// No proxy: none may be used to there.
    Direct,
    /// The variable, and the proxy that it names.
    Through(&'static str, String),
}

impl Environment {
    /// By the same variables and rules as the HTTP client decides, since they come from the same library.
    pub fn of(host: &dyn Host, address: &Url) -> Self {
        if is_loopback(address) {
            return Environment::Direct;
        }
        let mut named = PROXIES
            .iter()
            .filter_map(|name| Some((*name, host.env(name)?)))
            .peekable();
        let is_silent = named.peek().is_none();
        let exceptions = EXCEPTIONS.iter().find_map(|name| host.env(name));
        let exceptions = exceptions.unwrap_or_default();
        match named.find(|(_, value)| !value.is_empty()) {
            Some((name, value)) if intercept(&value, &exceptions, address).is_some() => {
                Environment::Through(name, value)
            }
            None if is_silent && intercept("http://proxy", &exceptions, address).is_some() => {
                Environment::Silent
            }
            _ => Environment::Direct,
        }
    }
}

/// The proxy for an address: the environment's, or the one that was kept where that says nothing; none for this
/// machine itself.
pub fn for_address(host: &dyn Host, address: &Url, kept: Option<&str>) -> Option<Proxy> {
    let (variable, value) = match Environment::of(host, address) {
        Environment::Through(variable, value) => (Some(variable), value),
        Environment::Silent => (None, kept?.to_owned()),
        Environment::Direct => return None,
    };
    let proxy = intercept(&value, "", address)?;
    let uri = proxy.uri();
    let login = proxy.basic_auth().and_then(|value| {
        let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
        String::from_utf8(BASE64.decode(encoded).ok()?).ok()
    });
    let port = match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, Some("socks4" | "socks4a" | "socks5" | "socks5h")) => 1080,
        (None, _) => 80,
    };
    Some(Proxy {
        host: uri.host()?.to_owned(),
        port,
        variable,
        scheme: uri.scheme_str().unwrap_or("http").to_owned(),
        login,
    })
}

fn intercept(proxy: &str, exceptions: &str, address: &Url) -> Option<Intercept> {
    let matcher = Matcher::builder().all(proxy).no(exceptions).build();
    matcher.intercept(&address.as_str().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::{Listener, ScriptedHost};

    fn proxy(variables: &[(&str, &str)], address: &str) -> Option<Proxy> {
        let host = ScriptedHost::new();
        for (name, value) in variables {
            host.set_env(name, value);
        }
        for_address(&host, &address.parse().unwrap(), None)
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let found = proxy(
            &[("https_proxy", "http://ada:secret@proxy.internal:3128")],
            "https://vendor.example",
        )
        .unwrap();
        assert_eq!(
            (found.host.as_str(), found.port, found.variable),
            ("proxy.internal", 3128, Some("https_proxy"))
        );
        assert_eq!(found.login(), Some("ada:secret"));
        assert!(!format!("{found:?} {found}").contains("secret"));
    }

    #[test]
    fn what_a_proxy_answers_to_ssh_is_told_apart() {
        let connected = b"HTTP/1.0 200 Connection established\r\nX: y\r\n\r\n";
        let through = [&connected[..], b"SSH-2.0-x\r\n"].concat();
        assert_eq!(judge(&through), Some(Ok(())));
        // The server has not spoken yet, nor the proxy to its end.
        assert_eq!(judge(connected), None);
        assert_eq!(judge(b"HTTP/1.1 200 Connec"), None);
        assert!(unfinished(connected).contains("no SSH server speaks"));
        let refused = judge(b"HTTP/1.1 403 Filtered\r\n\r\n<html>").unwrap();
        assert_eq!(refused.unwrap_err(), "it answers \"HTTP/1.1 403 Filtered\"");
        let stranger = judge(b"SSH-2.0-x\r\n").unwrap().unwrap_err();
        assert!(stranger.contains("does not speak HTTP"), "{stranger}");
        assert!(unfinished(b"").contains("says nothing"));
    }

    #[test]
    fn a_proxy_is_asked_for_the_server_with_the_login_of_its_variable() {
        let host = ScriptedHost::new();
        host.set_env("https_proxy", "http://ada:s%40cret@10.0.0.9:3128");
        let server = "https://tunnel.example.com:50022".parse().unwrap();
        let proxy = for_address(&host, &server, None).unwrap();
        assert_eq!(proxy.login(), Some("ada:s@cret"));
        host.listen(
            "10.0.0.9:3128",
            Listener::Says(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n".to_vec()),
        );
        assert_eq!(proxy.leads_to(&host, "tunnel.example.com", 50022), Ok(()));
    }

    #[test]
    fn exceptions_and_the_scheme_count() {
        let set = [
            ("https_proxy", "http://proxy.internal:3128"),
            ("no_proxy", ".example"),
        ];
        assert_eq!(proxy(&set, "https://vendor.example"), None);
        assert!(proxy(&set, "https://vendor.test").is_some());
        assert_eq!(proxy(&set[..1], "http://127.0.0.1:8080"), None);
        assert_eq!(proxy(&[], "https://vendor.test"), None);
    }
}
